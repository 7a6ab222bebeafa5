"""The commands to a running adapter: what they send, what they print, and their errors; and tables."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import httpx
import pytest
import respx

from services import __version__
from services.cli.admin import format_table, print_table
from tests.support.terminal import Terminal

URL = "http://fitloop.test:9090"

PROJECT: dict[str, Any] = {
    "id": 5,
    "title": "Support [mail]",
    "served": {"current": "support-3", "previous": "support-2", "pinned": True},
    "labelled": 120,
    "sentence": "waiting: 6 of 10 labels changed",
    "problem": "",
    "versions": [
        {
            "version": "support-3",
            "served": True,
            "pinned": True,
            "method": "linear-probe",
            "right": "97 of 120 (81 %, likely 73 to 87 %)",
            "reasons": ["It is better: 12 fixed, 2 broken."],
        },
        {"version": "support-2", "method": "linear-probe", "right": "", "reasons": []},
    ],
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITLOOP_URL", URL)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("BASIC_AUTH_USER", raising=False)
    monkeypatch.delenv("BASIC_AUTH_PASS", raising=False)


@respx.mock
def test_status_prints_all_projects_in_a_table(terminal: Terminal) -> None:
    respx.get(f"{URL}/api/projects").respond(json={"projects": [PROJECT]})
    code, out, _ = terminal.run("status")
    assert code == 0
    for cell in ("5", "Support [mail]", "support-3 (pinned)", "120", "waiting: 6 of 10 labels changed"):
        assert cell in out


@respx.mock
def test_status_prints_one_project(terminal: Terminal) -> None:
    respx.get(f"{URL}/api/projects/5").respond(json=PROJECT)
    code, out, _ = terminal.run("status", "5")
    assert code == 0
    assert "support-3 (pinned)" in out
    assert json.loads(terminal.run("status", "5", "--json")[1]) == PROJECT


@respx.mock
def test_status_names_uncounted_labels_once(terminal: Terminal) -> None:
    words = "3 annotations do not count: skipped."
    row = {**PROJECT, "sentence": "No label counts yet: 3 annotations do not count: skipped"}
    respx.get(f"{URL}/api/projects/5").respond(json={**PROJECT, "not_counted_in_words": words})
    respx.get(f"{URL}/api/projects/6").respond(json={**row, "not_counted_in_words": words})
    for project in ("5", "6"):
        out = " ".join(terminal.run("status", project)[1].split())
        assert out.count("skipped") == 1


@respx.mock
def test_status_ends_with_the_forecast(terminal: Terminal) -> None:
    words = "Twice as many labels (600): about +2 to +5 points."
    respx.get(f"{URL}/api/projects/5").respond(json={**PROJECT, "forecast_in_words": words})
    assert words.rstrip(".") in " ".join(terminal.run("status", "5")[1].split())


@respx.mock
def test_status_without_projects_says_how_to_connect_one(terminal: Terminal) -> None:
    respx.get(f"{URL}/api/projects").respond(json={"projects": []})
    assert terminal.run("status")[1] == (
        f"No project is connected yet. Connect one in Label Studio (Settings > Model) to {URL}.\n"
    )
    assert json.loads(terminal.run("status", "--json")[1]) == []


@respx.mock
def test_version_names_are_never_cut(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are copied into `fitloop promote`. Output to a pipe is 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")
    name = "messages-of-customers-in-the-north-12"
    rows = [{**row, "version": name} for row in PROJECT["versions"]]
    respx.get(f"{URL}/api/projects/5").respond(json={**PROJECT, "versions": rows})
    assert name in terminal.run("versions", "5")[1]


@respx.mock
def test_versions_prints_a_table(terminal: Terminal) -> None:
    respx.get(f"{URL}/api/projects/5").respond(json=PROJECT)
    code, out, _ = terminal.run("versions", "5")
    assert code == 0
    for cell in (
        "support-3",
        "pinned",
        "linear-probe",
        "97 of 120 (81 %",
        "It is better: 12 fixed, 2 broken.",
        "support-2",
    ):
        assert cell in out
    assert json.loads(terminal.run("versions", "5", "--json")[1]) == PROJECT["versions"]


@respx.mock
def test_versions_show_their_encoders(terminal: Terminal) -> None:
    head = {"base_model": "minilm", "encoder": "ab" * 32, "engine": "ct2-int8"}
    broken = {**head, "encoder_problem": "encoder abab is not in the bucket"}
    rows = [{**PROJECT["versions"][1], **one} for one in (head, broken)]
    respx.get(f"{URL}/api/projects/5").respond(json={**PROJECT, "versions": rows})
    out = terminal.run("versions", "5")[1]
    assert out.splitlines()[1].split()[-4:] == ["minilm", "abababababab", "ct2-int8", "-"]
    assert "Cannot be loaded: encoder abab is not in the bucket." in out


@respx.mock
def test_encoders_are_listed(terminal: Terminal) -> None:
    row = {
        "digest": "ab" * 32,
        "base_model": "minilm",
        "engine": "ct2-int8",
        "size": 115_400_000,
        "needed": 2,
    }
    row |= {"versions": ["5-1/a", "5-1/b"], "problem": "", "engine_reason": "equal on 500 texts", "why": ""}
    broken = {**row, "digest": "cd" * 32, "problem": "encoder cdcd is not in the bucket"}
    route = respx.get(f"{URL}/api/encoders").respond(json={"encoders": [row, broken]})
    out = terminal.run("encoders")[1].splitlines()
    assert out[1].split()[:5] == ["abababababab", "minilm", "ct2-int8", "115.4", "2"]
    assert out[2].endswith("encoder cdcd is not in the bucket (needed by 5-1/a, 5-1/b)")
    assert json.loads(terminal.run("encoders", "--json")[1]) == [row, broken]
    route.respond(json={"encoders": []})
    assert "There is no encoder yet" in terminal.run("encoders")[1]


@respx.mock
def test_a_project_without_versions_refers_to_status(terminal: Terminal) -> None:
    respx.get(f"{URL}/api/projects/6").respond(json={"id": 6, "versions": []})
    assert terminal.run("versions", "6")[1] == (
        "Project 6 has no version yet. `fitloop status 6` shows what it is waiting for.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "action", "body"),
    [
        (["promote", "5", "support-2"], "promote", {"version": "support-2"}),
        (["rollback", "5"], "rollback", {}),
        (["unpin", "5"], "unpin", {}),
        (["cancel", "5"], "cancel", {}),
        (["pause", "5"], "pause", {}),
        (["resume", "5"], "resume", {}),
        (["train", "5"], "train", {"parameters": {}}),
        (
            ["train", "5", "--set", "method=finetune", "--set", "learning_rate = 5e-5"],
            "train",
            {"parameters": {"method": "finetune", "learning_rate": "5e-5"}},
        ),
    ],
)
@respx.mock
def test_commands_are_posted(
    terminal: Terminal, arguments: list[str], action: str, body: dict[str, Any]
) -> None:
    route = respx.post(f"{URL}/api/projects/5/{action}").respond(202, json={"command": "17"})
    code, out, _ = terminal.run(*arguments)
    assert code == 0
    assert json.loads(route.calls.last.request.content) == body
    assert out == f"Queued: {action} project 5. Follow it with `fitloop status 5`.\n"
    assert json.loads(terminal.run(*arguments, "--json")[1]) == {"command": "17"}


@respx.mock
def test_credentials_come_from_the_environment(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    route = respx.get(f"{URL}/api/projects").respond(json={"projects": []})
    terminal.run("status")
    assert "authorization" not in route.calls.last.request.headers
    monkeypatch.setenv("BASIC_AUTH_USER", "ann")
    monkeypatch.setenv("BASIC_AUTH_PASS", "secret")
    terminal.run("status")
    assert route.calls.last.request.headers["authorization"] == httpx.BasicAuth("ann", "secret")._auth_header


@respx.mock
def test_url_selects_another_adapter(terminal: Terminal) -> None:
    route = respx.get("http://other.test/api/projects").respond(json={"projects": []})
    assert terminal.run("status", "--url", "http://other.test/")[0] == 0
    assert route.called


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            httpx.Response(401),
            "refused the credentials: set BASIC_AUTH_USER and BASIC_AUTH_PASS to the values",
        ),
        (httpx.Response(404, json={"detail": "Not Found"}), "`fitloop status` lists its projects"),
        (httpx.Response(404, json={"detail": "Project 5 is unknown here."}), "Project 5 is unknown here."),
        (
            httpx.Response(400, json={"detail": "'x' is no parameter: use method."}),
            "'x' is no parameter: use method.",
        ),
        (httpx.Response(503), "is still starting: try again"),
        (httpx.Response(500, text="oops"), "answered with status 500: see its log"),
        (
            httpx.Response(200, text="<html>"),
            f"The server at {URL} is not Fitloop: check --url and FITLOOP_URL.",
        ),
    ],
)
@respx.mock
def test_each_error_answer_is_one_line(terminal: Terminal, answer: httpx.Response, sentence: str) -> None:
    respx.get(f"{URL}/api/projects/5").mock(return_value=answer)
    code, out, err = terminal.run("status", "5")
    assert (code, out) == (1, "")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("body", [[], {}, {"projects": "none"}])
@respx.mock
def test_json_of_another_server_is_an_error(terminal: Terminal, body: object) -> None:
    respx.get(f"{URL}/api/projects").respond(json=body)
    code, _, err = terminal.run("status")
    assert code == 1
    assert "is not Fitloop" in err


@respx.mock
def test_an_unreachable_adapter_is_an_error(terminal: Terminal) -> None:
    respx.get(f"{URL}/api/projects").mock(side_effect=httpx.ConnectError("Connection refused"))
    code, _, err = terminal.run("status")
    assert code == 1
    assert "does not answer (no connection): start it with `fitloop local`" in err


def test_an_invalid_address_is_an_error(terminal: Terminal) -> None:
    code, _, err = terminal.run("status", "--url", "localhost:9090")
    assert code == 1
    assert "'localhost:9090' is not a valid address: use --url http://host:9090 (" in err


@respx.mock
def test_address_and_credentials_are_stripped(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    route = respx.get(f"{URL}/api/projects").respond(json={"projects": []})
    monkeypatch.setenv("BASIC_AUTH_USER", "me\n")
    monkeypatch.setenv("BASIC_AUTH_PASS", "hush\r\n")
    assert terminal.run("status", "--url", f"\ufeff{URL}/ \n")[0] == 0
    assert route.calls.last.request.headers["Authorization"] == "Basic bWU6aHVzaA=="


@pytest.mark.parametrize(
    ("variable", "value", "error"),
    [
        ("BASIC_AUTH_PASS", "hush ", "BASIC_AUTH_PASS: it begins or ends with a blank"),
        ("FITLOOP_URL", "http://me:hush@host:port", "is not a valid address"),
    ],
)
def test_invalid_values_are_refused_but_not_repeated(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, error: str
) -> None:
    monkeypatch.setenv(variable, value)
    code, _, err = terminal.run("status")
    assert code == 1
    assert error in err
    assert "hush" not in err


def test_an_assignment_without_a_value_is_an_error(terminal: Terminal) -> None:
    code, _, err = terminal.run("train", "5", "--set", "finetune")
    assert code == 1
    assert "--set 'finetune' is not an assignment: use --set name=value" in err


@pytest.mark.parametrize("arguments", [["promote", "5"], ["status", "x"], ["nonsense"], ["rollback", "0"]])
def test_wrong_usage_exits_with_2(terminal: Terminal, arguments: list[str]) -> None:
    code, _, err = terminal.run(*arguments)
    assert code == 2
    assert "Usage" in err


def test_version_is_printed(terminal: Terminal) -> None:
    assert terminal.run("--version")[:2] == (0, f"fitloop {__version__}\n")


def test_help_imports_nothing_heavy() -> None:
    """It imports some 380 modules, with those of Python itself."""
    code = (
        "import sys; sys.argv = ['fitloop', '--help']\nfrom services.cli.__main__ import main\n"
        "try: main()\nexcept SystemExit: print('modules:', *sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(ended.stdout.partition("modules:")[2].split())
    heavy = {"pydantic", "httpx", "fastapi", "uvicorn", "numpy", "structlog", "label_studio_sdk", "torch"}
    assert heavy.isdisjoint(modules)
    assert len(modules) < 500


HEAD = ["version", "served", "gate"]

LONG = "Held: " + "right 9 of 24, and the one that is served is right more often; " * 6

ROWS = [["support-1", "", LONG], ["支持-12", "yes", "two\nlines\tand [brackets]"]]


def test_columns_are_aligned_and_never_cut_or_wrapped() -> None:
    head, first, second = format_table(HEAD, ROWS).splitlines()
    assert head == "VERSION    SERVED  GATE"
    assert first == f"support-1  -       {LONG.strip()}"
    assert second == "支持-12    yes     two lines and [brackets]"


def test_only_a_terminal_gets_a_ruled_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(HEAD, ROWS)
    assert len(capsys.readouterr().out.splitlines()) == 3
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table(HEAD, ROWS)
    assert "─" in capsys.readouterr().out

"""`fitloop gc`: what it sends, how it waits, and what it prints."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import respx

from tests.support.terminal import Terminal

URL = "http://fitloop.test:9090"
LEFTOVERS = [
    {"name": "version v-1", "why": "beyond the newest 10, and old", "size": 200_000, "kept": ""},
    {"name": "version v-2", "why": "", "size": 100_000, "kept": "it is served by now"},
]
REPORT: dict[str, Any] = {
    "command": "17-a",
    "project_id": 0,
    "dry_run": False,
    "projects": [
        {"project": "5-1", "title": "Support", "versions": 3_000_000, "runs": 40_000, "orphaned": "", "leftovers": LEFTOVERS},
        {"project": "7-1", "title": "", "versions": 0, "runs": 0, "orphaned": "its project.json is missing", "leftovers": []},
    ],
    "encoders": [
        {"name": "encoder aa (bge)", "why": "no version has needed it for a day", "size": 90_000_000, "kept": ""},
        {"name": "encoder bb (e5)", "why": "", "size": 90_000_000, "kept": "it is deleted in 4 h"},
    ],
    "deleted": 2,
    "freed": 90_200_000,
    "left_off": 0,
    "problem": "",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITLOOP_URL", URL)
    monkeypatch.setattr("services.cli.garbage._POLL_SECONDS", 0.0)


def answer(report: dict[str, Any]) -> respx.Route:
    respx.get(f"{URL}/api/gc/17-a").respond(json=report)
    return respx.post(f"{URL}/api/gc").respond(json={"command": "17-a"})


@respx.mock
def test_the_report_is_printed(terminal: Terminal) -> None:
    sent = answer(REPORT)
    code, out, _ = terminal.run("gc")
    assert code == 0
    assert json.loads(sent.calls.last.request.content) == {"project": 0, "dry_run": False}
    assert out.splitlines() == [
        "project 5-1 'Support': versions 3.0 MB, runs 0.0 MB",
        "  deleted: version v-1, 0.2 MB (beyond the newest 10, and old)",
        "  kept: version v-2, 0.1 MB: it is served by now",
        "project 7-1 '': versions 0.0 MB, runs 0.0 MB",
        "  kept: its project.json is missing. Delete projects/7-1/ by hand if it is no longer needed.",
        "encoders:",
        "  deleted: encoder aa (bge), 90.0 MB (no version has needed it for a day)",
        "  kept: encoder bb (e5), 90.0 MB: it is deleted in 4 h",
        "90.2 MB freed.",
    ]


@respx.mock
def test_a_dry_run_of_one_project(terminal: Terminal) -> None:
    sent = answer({**REPORT, "dry_run": True})
    _, out, _ = terminal.run("gc", "5", "--dry-run")
    assert json.loads(sent.calls.last.request.content) == {"project": 5, "dry_run": True}
    assert "  would delete: version v-1, 0.2 MB" in out
    assert "0.2 MB would be freed." in out


@respx.mock
def test_json_is_the_report(terminal: Terminal) -> None:
    answer(REPORT)
    assert json.loads(terminal.run("gc", "--json")[1]) == REPORT


@respx.mock
def test_it_waits_for_the_report(terminal: Terminal) -> None:
    answer(REPORT)
    respx.get(f"{URL}/api/gc/17-a").side_effect = [httpx.Response(404), httpx.Response(200, json=REPORT)]
    assert terminal.run("gc")[0] == 0


@respx.mock
def test_it_does_not_wait_for_ever(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.garbage._WAIT_SECONDS", -1.0)
    answer(REPORT)
    respx.get(f"{URL}/api/gc/17-a").respond(404)
    code, _, err = terminal.run("gc")
    assert code == 1
    assert f"Its report will be at {URL}/api/gc/17-a" in err


@respx.mock
def test_an_early_end_is_an_error(terminal: Terminal) -> None:
    answer({**REPORT, "problem": "The bucket does not answer."})
    code, _, err = terminal.run("gc")
    assert (code, err) == (1, "It ended early: The bucket does not answer. Run `fitloop gc` again.\n")


@respx.mock
def test_without_an_adapter_it_says_what_to_do(terminal: Terminal) -> None:
    respx.post(f"{URL}/api/gc").side_effect = httpx.ConnectError("refused")
    code, _, err = terminal.run("gc")
    assert code == 1
    assert "start it with `fitloop local`, or pass its address with --url or FITLOOP_URL" in err

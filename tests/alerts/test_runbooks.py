"""Runbooks: one for each alert, and every command and query in them works."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from services.cli.__main__ import app
from tests.alerts.rules import NAMES, RUNBOOKS, checked, problems_of
from tests.chart.rendering import CHART, Document, template

PAGES = tuple(sorted(RUNBOOKS.glob("*.md")))
OF_ALERTS = tuple(page for page in PAGES if page.stem != "README")
EVERY = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
WORLD = {"NAMESPACE": "team", "RELEASE": "loop-fitloop", "PROJECT": "7", "VERSION": "mails-3"}


def blocks(page: Path, language: str) -> list[str]:
    """Return fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """Return the commands split into words, with the alert's labels filled in."""
    for line in "".join(blocks(page, "console")).splitlines():
        assert line.startswith("$ "), line
        text = line.removeprefix("$ ")
        for name, value in WORLD.items():
            text = text.replace(f"${name}", value)
        yield shlex.split(text)


@cache
def objects(kind: str) -> dict[str, Document]:
    """Return the objects that commands refer to, by name."""
    return template(None, "minikube-cpu", "--namespace=team").of(kind)


def test_every_alert_has_a_listed_runbook() -> None:
    assert {page.stem for page in OF_ALERTS} == set(NAMES)
    listed = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \|", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    assert listed == [(name, name) for name in NAMES]


@pytest.mark.parametrize("page", OF_ALERTS, ids=lambda page: page.stem)
def test_every_runbook_has_all_sections(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert re.findall(r"^## .*$", text, re.MULTILINE) == ["## Diagnosis", "## Remediation"]
    severity = re.search(r"severity: (\w+)", (CHART / "files" / "alerts" / f"{page.stem}.yaml").read_text())
    assert severity
    assert text.splitlines()[1].startswith(f"{severity[1].capitalize()}. ")
    assert blocks(page, "promql")
    assert blocks(page, "console")


@EVERY
def test_every_runbook_query_is_valid(page: Path, tmp_path: Path) -> None:
    queries = [line for block in blocks(page, "promql") for line in block.splitlines()]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    assert not checked("check", {"groups": [{"name": "queries", "rules": rules}]}, tmp_path)
    assert not [problem for query in queries for problem in problems_of(query)]


@EVERY
def test_every_fitloop_command_and_option_exists(page: Path) -> None:
    for words in commands(page):
        if "fitloop" in words and words[0] == "kubectl":
            _is_of_the_cli(words[words.index("fitloop") + 1 :])
    for name in re.findall(r"`fitloop ([a-z]+)", page.read_text()):
        _is_of_the_cli([name])


def _is_of_the_cli(words: list[str]) -> None:
    """Parse the command with `--help`: an unknown option is refused before the help is shown."""
    assert CliRunner().invoke(app, [*words, "--help"]).exit_code == 0, words


@EVERY
def test_every_kubectl_object_is_rendered(page: Path) -> None:
    for words in commands(page):
        if words[0] == "kubectl":
            for kind, name in _named(words):
                assert name in objects(kind), words
            for selector in _selectors(words):
                assert _selects_something(selector), words


_KINDS = {"deploy": "Deployment", "svc": "Service", "lease": "Lease", "leases": "Lease"}


def _named(words: list[str]) -> Iterator[tuple[str, str]]:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        kind, _, name = word.partition("/")
        if kind in _KINDS and name:
            yield _KINDS[kind], name
        elif word in _KINDS and following in WORLD.values():
            yield _KINDS[word], following


def _selectors(words: list[str]) -> list[dict[str, str]]:
    found = [following for word, following in pairwise(words) if word == "-l"]
    return [dict(part.split("=", 1) for part in selector.split(",")) for selector in found]


def _selects_something(selector: dict[str, str]) -> bool:
    """Return the labels of the release's pods and of a run's, which the adapter sets."""
    adapter = objects("Deployment")["loop-fitloop"]["spec"]["template"]["metadata"]["labels"]
    predictor = objects("InferenceService")["loop-fitloop"]["spec"]["predictor"]["labels"]
    run = {"fitloop.io/run": "7-1", "fitloop.io/project": "7", "fitloop.io/release": "loop-fitloop"}
    return any(selector.items() <= labels.items() for labels in (adapter, predictor, run))


@EVERY
def test_every_link_resolves(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).resolve().exists() or target == "../metrics.md", target


@EVERY
def test_every_named_value_exists(page: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    thresholds = values["monitoring"]["rules"]["thresholds"]
    for actual in re.findall(r"`([a-zA-Z.]+)(?:=[^`]*)?`", page.read_text()):
        first, *rest = actual.split(".")
        if first in values and rest:
            assert _is_there(values, [first, *rest]), actual
        elif re.fullmatch(r"[a-z]+[A-Z]\w+", actual) and actual not in _FIELDS:
            assert actual in thresholds or actual in values, actual


_FIELDS = {"holderIdentity", "renewTime"}
"""Fields of a Lease."""


def _is_there(values: object, path: list[str]) -> bool:
    for part in path:
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True

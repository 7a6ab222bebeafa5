"""Every alert fires when it should and is silent otherwise, by `promtool test rules` on the rendered chart.

cases/<Alert>.yaml lists cases: `says`, the rule in words; `series`, in promtool's notation, without the labels common to
all series of a release; `at`, the time of evaluation; `fires`, the additional labels of each alert that fires then, with
`value` as in the annotations. A series with the prefix "other:" belongs to another release in the same namespace.
`interval` is the time between samples and between evaluations, the same in all cases of an alert; `thresholds` are values
of the chart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.alerts.rules import FULL, NAMES, NAMESPACE, SERIES, alerts, checked
from tests.chart.rendering import Document

CASES = Path(__file__).with_name("cases")
EVERY = pytest.mark.parametrize("name", NAMES)


@cache
def cases(name: str) -> tuple[Document, ...]:
    """Return an alert's cases. All scalars are strings: YAML would read 0x10 as 16."""
    return tuple(yaml.load((CASES / f"{name}.yaml").read_text(), yaml.BaseLoader))  # noqa: S506 - it makes texts alone


@EVERY
def test_an_alert_fires_exactly_when_it_should(name: str, tmp_path: Path) -> None:
    usual = [one for one in cases(name) if "thresholds" not in one]
    assert not verdict(alerts()[name], usual, tmp_path)


@EVERY
def test_each_alert_has_firing_and_silent_cases(name: str) -> None:
    assert {bool(one["fires"]) for one in cases(name)} == {True, False}


@EVERY
def test_another_release_does_not_affect_an_alert(name: str, tmp_path: Path) -> None:
    absent = name.endswith("Absent")
    fires = next(one for one in cases(name) if one["fires"])
    silent = next(one for one in cases(name) if not one["fires"])
    others = {f"other:{series}": values for series, values in fires["series"].items()}
    healthy = {f"other:{series}": values for series, values in silent["series"].items()}
    alone = {**fires, "series": others, "fires": fires["fires"] if absent else []}
    beside = {**fires, "series": {**fires["series"], **healthy}}
    assert not verdict(alerts()[name], [alone, beside], tmp_path)


@pytest.mark.parametrize(
    ("name", "case"), [(name, one) for name in NAMES for one in cases(name) if "thresholds" in one]
)
def test_thresholds_come_from_values(name: str, case: Document, tmp_path: Path) -> None:
    given = {key: float(value) for key, value in case["thresholds"].items()}
    assert not verdict(alerts({"thresholds": given})[name], [case], tmp_path)


def test_every_case_file_belongs_to_an_alert() -> None:
    assert {path.stem for path in CASES.glob("*.yaml")} == set(NAMES)


def verdict(alert: Document, situations: Sequence[Document], folder: Path) -> str:
    """Return promtool's complaint, or ""."""
    (folder / "rules.yaml").write_text(json.dumps({"groups": [{"name": "one", "rules": [alert]}]}))
    every = next(iter(situations)).get("interval", "1m")
    tests = [_test(alert, one) for one in situations]
    return checked(
        "test", {"rule_files": ["rules.yaml"], "evaluation_interval": every, "tests": tests}, folder
    )


def _test(alert: Document, case: Document) -> Document:
    expected = [_expected(alert, one) for one in case["fires"]]
    return {
        "name": case["says"],
        "interval": case.get("interval", "1m"),
        "input_series": [_series(name, values) for name, values in case["series"].items()],
        "alert_rule_test": [{"eval_time": case["at"], "alertname": alert["alert"], "exp_alerts": expected}],
    }


def _series(name: str, values: str) -> dict[str, str]:
    of_all = dict(SERIES)
    if name.startswith("other:"):
        name, of_all["app_kubernetes_io_instance"] = name.removeprefix("other:"), "second"
    metric, _, own = name.partition("{")
    labels = ",".join(f'{key}="{value}"' for key, value in of_all.items())
    return {"series": f"{metric}{{{labels},{own}", "values": values}


def _expected(alert: Document, one: Document) -> Document:
    own = {key: value for key, value in one.items() if key != "value"}
    labels = {"namespace": NAMESPACE, "release": FULL, "severity": alert["labels"]["severity"], **own}
    actual = {key: _filled(text, labels, one.get("value", "")) for key, text in alert["annotations"].items()}
    return {"exp_labels": labels, "exp_annotations": actual}


def _filled(text: str, labels: dict[str, str], value: str) -> str:
    """Fill in templates in double braces as Prometheus does."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels[found[1]], text)
    return re.sub(r"\{\{ \$value[^}]*\}\}", value, text)

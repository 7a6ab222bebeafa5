"""Every metric follows Prometheus' conventions and is in docs/metrics.md; known values of labels exist from the start."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.adapter import metrics as adapter
from services.adapter.metrics import leader_metrics
from services.cli.metrics_reference import OPEN_LABELS, MetricDoc, main, reference, sections

PAGE = Path("docs/metrics.md")
EVERY = [pytest.param(one, id=one.name) for found in sections().values() for one in found]
_NOT_BASE = re.compile(r"_(ms|millis\w*|minutes?|hours?|days?|kb|mb|gb|kib|mib|gib|percent)(_|$)")
_SECRETS = {"task", "text", "user", "annotator", "email", "token", "key"}


def test_names_are_unique() -> None:
    names = [one.name for found in sections().values() for one in found]
    assert len(names) > 80
    assert len(names) == len(set(names))


@pytest.mark.parametrize("metric", EVERY)
def test_a_name_follows_the_conventions(metric: MetricDoc) -> None:
    """Base units, one prefix, and an ending that names the unit."""
    assert re.fullmatch(r"fitloop_[a-z][a-z_]*[a-z]", metric.name)
    assert not _NOT_BASE.search(metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    if metric.kind == "histogram":
        assert metric.name.endswith(("_seconds", "_texts", "_score"))
    assert "age" not in metric.name.split("_"), "the time of an event, and never its age"
    if metric.name.endswith(("_info", "_timestamp_seconds")):
        assert metric.kind == "gauge"
    if metric.unit == "number":
        assert not metric.name.endswith(("_time", "_size", "_duration")), "a unit is missing"


@pytest.mark.parametrize("metric", EVERY)
def test_a_help_text_is_a_sentence(metric: MetricDoc) -> None:
    assert metric.help.endswith(".")
    assert metric.help[0].isupper() or metric.help[0].isdigit()
    assert 15 <= len(metric.help) <= 240


@pytest.mark.parametrize("metric", EVERY)
def test_labels_are_bounded(metric: MetricDoc) -> None:
    for label, values in metric.labels.items():
        assert label not in _SECRETS
        assert label in OPEN_LABELS or 1 < len(values) <= 20, f"{label} is not known beforehand"
        assert all(re.fullmatch(r"[A-Za-z0-9_/{}-]+", value) for value in values)


def test_only_info_metrics_have_open_labels_beside_project() -> None:
    for found in sections().values():
        for one in found:
            assert bool(one.labels) or not one.name.endswith("_info")
            if not one.name.endswith("_info"):
                assert not (OPEN_LABELS - {"project"}) & one.labels.keys()


def test_the_leaders_counters_start_with_the_documented_labels() -> None:
    leader_metrics.add_project(779)
    documented = {one.name: one.labels for one in sections()["The leader"]}
    for counted in leader_metrics.LEADER_METRICS:
        for family in counted.collect():
            for sample in family.samples:
                known = documented.get(f"{family.name}_total", {})
                for label in sample.labels.keys() & known.keys() - OPEN_LABELS:
                    assert sample.labels[label] in known[label]
    adapter.forget_project(779)


def test_known_values_are_exported_at_zero_in_a_new_process() -> None:
    """Counters without an open label: all of their series are there before anything happened."""
    program = (
        "from services.cli.metrics_reference import sections; from prometheus_client import generate_latest; "
        "print(generate_latest().decode())"
    )
    text = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "_created" not in text
    for found in sections().values():
        for one in found:
            if one.kind == "counter" and not OPEN_LABELS & one.labels.keys():
                lines = [line for line in text.splitlines() if re.match(rf"{one.name}[ {{]", line)]
                assert lines, one.name
                assert all(line.endswith(" 0.0") for line in lines)
                for label, values in one.labels.items():
                    assert {value for value in values if f'{label}="{value}"' in text} == set(values)


def test_the_committed_page_is_up_to_date() -> None:
    program = [sys.executable, "-m", "services.cli.metrics_reference", "--check", str(PAGE)]
    ended = subprocess.run(program, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_the_page_warns_of_a_biased_metric() -> None:
    assert "biased upwards" in reference()
    assert "fitloop_agreement_ratio" in reference()


def test_check_reports_a_stale_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "metrics.md"
    assert main(["--check", str(page)]) == 1
    assert "run `make docs`" in capsys.readouterr().err
    assert main([str(page)]) == 0
    assert main(["--check", str(page)]) == 0
    assert main([]) == 2
    assert "Usage" in capsys.readouterr().err

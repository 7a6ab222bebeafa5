"""The rules as a whole: promtool accepts them, they use exported metrics, and each has what an on-call engineer needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.alerts.rules import (
    FILES,
    FULL,
    NAMES,
    NAMESPACE,
    RELEASE,
    RUNBOOKS,
    alerts,
    checked,
    exported,
    problems_of,
    rendered,
    series_of,
)
from tests.chart.rendering import CHART, template

EVERY = pytest.mark.parametrize("name", NAMES)


def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    assert not checked("check", rendered()["spec"], tmp_path)


def test_every_file_defines_the_alert_it_is_named_after() -> None:
    assert set(alerts()) == set(NAMES)
    for name in NAMES:
        assert (FILES / f"{name}.yaml").read_text().count("alert: ") == 1
        assert re.fullmatch(r"Fitloop[A-Z][A-Za-z]+", name)


def test_paging_alerts_are_covered() -> None:
    """At least these."""
    assert {
        "FitloopLabelsWaiting",
        "FitloopRunsFailing",
        "FitloopRunPending",
        "FitloopGateHolding",
        "FitloopWebhooksLost",
        "FitloopTokenRefused",
        "FitloopStoreErrors",
        "FitloopRolloutStuck",
        "FitloopServedVersionDiffers",
        "FitloopPredictErrors",
        "FitloopLatencyBurnFast",
        "FitloopLatencyBurnSlow",
        "FitloopPredictorQueueFull",
        "FitloopAdapterLeaderless",
        "FitloopTwoLeaders",
        "FitloopAdapterAbsent",
        "FitloopPredictorAbsent",
        "FitloopAgreementFalling",
    } <= set(NAMES)


@EVERY
def test_each_alert_has_summary_severity_and_runbook(name: str) -> None:
    alert = alerts()[name]
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["labels"]["release"] == FULL
    assert all(text.endswith(".") for key, text in alert["annotations"].items() if key != "runbook_url")
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
    assert (RUNBOOKS / f"{name}.md").is_file()


@EVERY
def test_each_alert_uses_exported_metrics(name: str) -> None:
    assert not problems_of(alerts()[name]["expr"])


def test_unknown_metrics_labels_and_values_are_found() -> None:
    assert problems_of("fitloop_leeder == 1") == ["fitloop_leeder"]
    assert problems_of('fitloop_leader{task="1"}') == ["fitloop_leader{task=1}"]
    assert problems_of('fitloop_responses_total{status=~"5xx|6xx"}') == [
        "fitloop_responses_total{status=~5xx|6xx}"
    ]


@EVERY
def test_each_alert_selects_this_release_only(name: str) -> None:
    """Other releases may share the namespace, and other namespaces the Prometheus."""
    for metric, chosen in series_of(alerts()[name]["expr"]):
        assert ("namespace", "=", NAMESPACE) in chosen, metric
        assert ("app_kubernetes_io_instance", "=", RELEASE) in chosen, metric


@EVERY
def test_each_alert_survives_a_leader_change(name: str) -> None:
    """The leader's series move between pods: no alert selects a pod, and gauges are looked up over a range."""
    query = alerts()[name]["expr"]
    leaders = {one for one, _ in series_of(query) if _is_of_leader(one)}
    if leaders:
        assert not re.search(r"by \([^)]*\bpod\b", query)
    for metric in (one for one in leaders if exported()[one].kind == "gauge"):
        places = [found.start() for found in re.finditer(rf"\b{metric}\b", query)]
        for place in places:
            ended = query.index("}", place) + 1
            assert query[ended] == "[" or "[7d:10m]" in query[ended:], metric


def _is_of_leader(metric: str) -> bool:
    return metric.startswith(
        (
            "fitloop_project",
            "fitloop_run",
            "fitloop_rollout",
            "fitloop_version",
            "fitloop_agreement",
            "fitloop_estimate",
            "fitloop_gate",
        )
    )


def test_every_threshold_is_used() -> None:
    given = yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["rules"]["thresholds"]
    texts = "".join((FILES / f"{name}.yaml").read_text() for name in NAMES)
    for name in given:
        assert f"${{{name}}}" in texts, name
    assert "7777" in alerts({"thresholds": {"labelsWaitingSeconds": 7777}})["FitloopLabelsWaiting"]["expr"]


def test_a_large_threshold_stays_a_valid_number(tmp_path: Path) -> None:
    found = rendered({"thresholds": {"uncheckedSeconds": 12000000, "labelsWaitingSeconds": 0.5}})
    assert "12000000" in str(found)
    assert not checked("check", found["spec"], tmp_path)


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.25, 0.5, 1, 3, 10, 30])
def test_latency_threshold_is_a_histogram_bucket(seconds: float) -> None:
    query = alerts({"thresholds": {"latencySeconds": seconds}})["FitloopLatencyBurnFast"]["expr"]
    chosen = re.search(r'le=~"([^"]*)"', query)
    assert chosen
    from services.adapter import metrics

    bounds = {
        sample.labels["le"]
        for metric in metrics._seconds.collect()
        for sample in metric.samples
        if sample.labels.get("route") == "/predict" and "le" in sample.labels
    }
    assert [bound for bound in bounds if re.fullmatch(chosen[1], bound)] == [str(float(seconds))]


def test_alerts_can_be_disabled_and_overridden() -> None:
    found = alerts(
        {
            "disabled": ["FitloopGateHolding"],
            "overrides": {
                "FitloopRunPending": {"for": "1h", "labels": {"severity": "critical", "team": "ml"}}
            },
        }
    )
    assert set(NAMES) - set(found) == {"FitloopGateHolding"}
    changed = found["FitloopRunPending"]
    assert changed["for"] == "1h"
    assert changed["labels"] == {"severity": "critical", "team": "ml", "release": FULL}
    assert changed["expr"] == alerts()["FitloopRunPending"]["expr"]


@pytest.mark.parametrize(
    "rules", [{"disabled": ["FitloopNone"]}, {"overrides": {"FitloopNone": {"for": "1m"}}}]
)
def test_an_unknown_alert_is_refused(rules: dict[str, object]) -> None:
    actual = template({"monitoring": {"rules": {"enabled": True, **rules}}}).refusal
    assert "monitoring.rules names FitloopNone, but there is no such alert" in actual


def test_runbook_urls_follow_the_values() -> None:
    found = alerts({"runbookUrl": "https://git.example.com/fitloop/docs/runbooks"})["FitloopTwoLeaders"]
    assert found["annotations"]["runbook_url"] == (
        "https://git.example.com/fitloop/docs/runbooks/FitloopTwoLeaders.md"
    )


def test_kueue_profile_tolerates_long_queues() -> None:
    found = template({"monitoring": {"rules": {"enabled": True}}}, "kueue")
    (group,) = found.one("PrometheusRule", "loop-fitloop")["spec"]["groups"]
    asked = {one["alert"]: one["expr"] for one in group["rules"]}
    assert "> 14400" in asked["FitloopRunPending"]
    assert "> 21600" in asked["FitloopLabelsWaiting"]


def test_documented_inhibitions_match_the_alerts() -> None:
    """Each name is an alert, none inhibits itself, and no paging alert is inhibited only by a less severe one."""
    text = (RUNBOOKS.parent / "operations.md").read_text()
    block = re.search(r"```yaml\n(inhibit_rules:.*?)```", text, re.DOTALL)
    assert block
    for rule in yaml.safe_load(block[1])["inhibit_rules"]:
        sources, targets = (_matched(rule[f"{side}_matchers"]) for side in ("source", "target"))
        assert not sources & targets
        assert rule["equal"][:2] == ["namespace", "release"]
        woken = {alerts()[name]["labels"]["severity"] for name in sources}
        assert woken == {"critical"} or not any(
            alerts()[name]["labels"]["severity"] == "critical" for name in targets
        )


def _matched(matchers: list[str]) -> set[str]:
    """Return the alerts that an Alertmanager matcher selects; every alternative must match one."""
    (matcher,) = matchers
    found = re.fullmatch(r'alertname=~?"([^"]+)"', matcher)
    assert found, matcher
    parts = {part: {name for name in NAMES if re.fullmatch(part, name)} for part in found[1].split("|")}
    assert all(parts.values()), parts
    return set().union(*parts.values())

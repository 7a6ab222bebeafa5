"""Monitors, rules and annotations: opt-in, correct selectors, and each pod scraped once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chart.rendering import PROFILES, Document, Rendered, container, environment, template

OPERATOR = "monitoring.coreos.com/v1"
READERS: Document = {"networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}]}}
KINDS = {"serviceMonitor": "ServiceMonitor", "podMonitor": "PodMonitor", "rules": "PrometheusRule"}
EVERY_KIND = pytest.mark.parametrize("key", KINDS)
EVERY = pytest.mark.parametrize("profile", PROFILES)
REAL = "--api-versions=apiregistration.k8s.io/v1"
"""An API that every real cluster has and `helm template` alone does not know."""


def monitored(*keys: str, **more: Any) -> Document:
    """Build values with these kinds enabled."""
    return {**READERS, "monitoring": {**{key: {"enabled": True} for key in keys}, **more}}


def pods(rendered: Rendered) -> dict[str, Document]:
    """Return metadata and spec of the servers' pods, by component."""
    found = [rendered.one("Deployment", "loop-fitloop")["spec"]["template"]]
    if services := rendered.of("InferenceService"):
        predictor = services["loop-fitloop"]["spec"]["predictor"]
        meta = {"labels": predictor["labels"], "annotations": predictor["annotations"]}
        found.append({"metadata": meta, "spec": predictor})
    else:
        found.append(rendered.one("Deployment", "loop-fitloop-serving")["spec"]["template"])
    names = [one["metadata"]["labels"]["app.kubernetes.io/component"] for one in found]
    return dict(zip(names, found, strict=True))


def port_of(pod: Document, name: str) -> int:
    """Return the port of that name."""
    (found,) = (one for one in container(pod["spec"])["ports"] if one["name"] == name)
    return int(found["containerPort"])


def selects(selector: Document, labels: Document) -> bool:
    """Match labels as Kubernetes' matchLabels does."""
    assert selector, "an empty selector selects everything"
    return selector.items() <= labels.items()


# ---------------------------------------------------------------------------------------------------------- on and off
def test_monitors_and_rules_are_opt_in() -> None:
    kinds = {one["kind"] for one in template().objects}
    assert not kinds & set(KINDS.values())
    assert "loop-fitloop-metrics" not in template().of("Service")


@EVERY_KIND
def test_each_kind_is_enabled_separately(key: str) -> None:
    made = {one["kind"] for one in template(monitored(key)).objects} & set(KINDS.values())
    assert made == {KINDS[key]}


@EVERY_KIND
def test_labels_for_prometheus_selectors_are_set(key: str) -> None:
    values = {**READERS, "monitoring": {key: {"enabled": True, "labels": {"release": "stack"}}}}
    (found,) = template(values).of(KINDS[key]).values()
    assert found["apiVersion"] == OPERATOR
    assert found["metadata"]["labels"]["release"] == "stack"
    assert found["metadata"]["labels"]["app.kubernetes.io/instance"] == "loop"


@pytest.mark.parametrize(
    ("key", "kind"), [("serviceMonitor", "ServiceMonitor"), ("podMonitor", "PodMonitor")]
)
def test_the_scrape_interval_is_configurable(key: str, kind: str) -> None:
    values = {**READERS, "monitoring": {key: {"enabled": True, "interval": "1m30s"}}}
    (found,) = template(values).of(kind).values()
    (endpoint,) = found["spec"].get("endpoints") or found["spec"]["podMetricsEndpoints"]
    assert endpoint == {"port": "management", "path": "/metrics", "interval": "1m30s"}


# ------------------------------------------------------------------------------------------- what the operator knows
FIELDS: dict[str, dict[str, Callable[[Any], bool]]] = {
    "ServiceMonitor": {
        "selector": lambda it: set(it) == {"matchLabels"},
        "podTargetLabels": lambda it: it == ["app.kubernetes.io/instance"],
        "endpoints": lambda it: len(it) == 1,
    },
    "PodMonitor": {
        "selector": lambda it: set(it) == {"matchLabels"},
        "podTargetLabels": lambda it: it == ["app.kubernetes.io/instance"],
        "podMetricsEndpoints": lambda it: len(it) == 1,
    },
    "PrometheusRule": {"groups": lambda it: len(it) == 1 and set(it[0]) == {"name", "rules"}},
}
"""All fields of `spec` that the chart writes; the operator's schema refuses others."""
OF_AN_ALERT = {"alert", "expr", "for", "labels", "annotations"}


@EVERY
def test_every_field_is_in_the_operators_schema(profile: str) -> None:
    rendered = template(monitored(*KINDS), profile)
    for kind, fields in FIELDS.items():
        (found,) = rendered.of(kind).values()
        assert set(found) == {"apiVersion", "kind", "metadata", "spec"}
        assert set(found["spec"]) == set(fields)
        assert all(right(found["spec"][name]) for name, right in fields.items()), kind
    (rules,) = rendered.of("PrometheusRule").values()
    for alert in rules["spec"]["groups"][0]["rules"]:
        assert set(alert) <= OF_AN_ALERT
        assert all(
            isinstance(value, str) for key in ("labels", "annotations") for value in alert[key].values()
        )


# -------------------------------------------------------------------------------------------------- what they select
@EVERY
def test_the_service_monitor_selects_only_adapters(profile: str) -> None:
    rendered = template(monitored("serviceMonitor"), profile)
    spec = rendered.one("ServiceMonitor", "loop-fitloop-metrics")["spec"]
    services = [
        one
        for one in rendered.of("Service").values()
        if selects(spec["selector"]["matchLabels"], one["metadata"]["labels"])
    ]
    assert [one["metadata"]["name"] for one in services] == ["loop-fitloop-metrics"]
    (service,) = services
    chosen = {
        name for name, pod in pods(rendered).items() if selects(service["spec"]["selector"], labels_of(pod))
    }
    assert chosen == {"adapter"}
    (port,) = service["spec"]["ports"]
    (endpoint,) = spec["endpoints"]
    assert port["name"] == endpoint["port"]
    assert port_of(pods(rendered)["adapter"], port["targetPort"]) == port["port"] == 9091


@EVERY
def test_the_pod_monitor_selects_only_predictors(profile: str) -> None:
    rendered = template(monitored("podMonitor"), profile)
    spec = rendered.one("PodMonitor", "loop-fitloop-predictor")["spec"]
    matching = {
        name
        for name, pod in pods(rendered).items()
        if selects(spec["selector"]["matchLabels"], labels_of(pod))
    }
    assert matching == {"predictor"}
    (endpoint,) = spec["podMetricsEndpoints"]
    assert port_of(pods(rendered)["predictor"], endpoint["port"]) == 8081
    others = (rendered.job["spec"]["template"], *rendered.of("Pod").values())
    assert not any(selects(spec["selector"]["matchLabels"], labels_of(pod)) for pod in others)


def labels_of(pod: Document) -> Document:
    """Return the labels of a pod or of a pod template."""
    return dict(pod["metadata"].get("labels") or {})


def test_monitors_of_two_releases_do_not_overlap() -> None:
    one, other = (template(monitored(*KINDS), release=name) for name in ("loop", "second"))
    service = other.one("Service", "second-fitloop-metrics")
    spec = one.one("ServiceMonitor", "loop-fitloop-metrics")["spec"]
    assert not selects(spec["selector"]["matchLabels"], service["metadata"]["labels"])
    names = [
        {
            (found["kind"], found["metadata"]["name"])
            for found in release.objects
            if found["kind"] in KINDS.values()
        }
        for release in (one, other)
    ]
    assert not names[0] & names[1]
    groups = [
        found["spec"]["groups"][0]["name"]
        for release in (one, other)
        for found in release.of("PrometheusRule").values()
    ]
    assert len(set(groups)) == 2


def test_series_carry_the_release_name() -> None:
    """Alerts select by the release's name, which monitors copy from a label of every pod."""
    rendered = template(monitored(*KINDS), release="loop")
    for pod in pods(rendered).values():
        assert labels_of(pod)["app.kubernetes.io/instance"] == "loop"
    (rules,) = rendered.of("PrometheusRule").values()
    assert 'app_kubernetes_io_instance="loop"' in rules["spec"]["groups"][0]["rules"][0]["expr"]


# ------------------------------------------------------------------------------------------------------- annotations
@EVERY
def test_pods_have_scrape_annotations_by_default(profile: str) -> None:
    for component, pod in pods(template(profile=profile)).items():
        actual = pod["metadata"]["annotations"]
        port = port_of(pod, "management")
        assert (actual["prometheus.io/scrape"], actual["prometheus.io/path"]) == ("true", "/metrics")
        assert (
            actual["prometheus.io/port"] == str(port) == {"adapter": "9091", "predictor": "8081"}[component]
        )


@pytest.mark.parametrize(
    ("values", "annotated"),
    [
        (monitored("serviceMonitor", "podMonitor"), set()),
        (monitored("serviceMonitor"), {"predictor"}),
        (monitored("podMonitor"), {"adapter"}),
        (monitored("rules"), {"adapter", "predictor"}),
        ({"monitoring": {"annotations": False}}, set()),
    ],
)
@pytest.mark.parametrize("profile", ["minikube-cpu", "no-kserve"])
def test_no_pod_is_scraped_twice(values: Document, annotated: set[str], profile: str) -> None:
    extra = {"trainer": {"gpus": 0, "allowCpu": True}}
    found = pods(template({**values, **extra}, profile))
    actual = {name for name, pod in found.items() if "prometheus.io/scrape" in pod["metadata"]["annotations"]}
    assert actual == annotated


def test_user_annotations_take_precedence() -> None:
    values = {"adapter": {"podAnnotations": {"prometheus.io/scrape": "false", "note": "a"}}}
    actual = pods(template(values))["adapter"]["metadata"]["annotations"]
    assert (actual["prometheus.io/scrape"], actual["note"]) == ("false", "a")
    assert "checksum/config" in actual


def test_the_limit_of_project_series_is_configurable() -> None:
    rendered = template({"monitoring": {"projects": 1000000}})
    variables = environment(container(rendered.pod("Deployment/loop-fitloop")))
    assert variables["FITLOOP_METRICS_PROJECTS"] == "1000000"


# ----------------------------------------------------------------------------------------------------------- refusals
@EVERY_KIND
def test_a_missing_operator_is_refused(key: str) -> None:
    refusal = template(monitored(key), "minikube-cpu", REAL).refusal
    assert f"monitoring.{key}.enabled is true, but this cluster has no {KINDS[key]}" in refusal
    assert "install the Prometheus operator, or set it to false" in refusal


@EVERY_KIND
def test_the_operator_is_required_only_when_used(key: str) -> None:
    kind = f"--api-versions={OPERATOR}/{KINDS[key]}"
    assert template(monitored(key), "minikube-cpu", REAL, kind).of(KINDS[key])
    assert template(monitored(key), "minikube-cpu").of(KINDS[key])
    assert template({**monitored(key), "checkCluster": False}, "minikube-cpu", REAL).of(KINDS[key])
    assert not template({}, "minikube-cpu", REAL).refusal


@pytest.mark.parametrize("key", ["serviceMonitor", "podMonitor"])
def test_a_monitor_requires_metrics_access(key: str) -> None:
    values = {"monitoring": {key: {"enabled": True}}}
    assert "networkPolicy.metricsFrom allows no peer" in template(values).refusal
    assert template({**values, "networkPolicy": {"enabled": False}}).of(KINDS[key])
    assert not template({"monitoring": {"rules": {"enabled": True}}}).refusal


def test_network_policy_admits_scrapers_to_metrics_ports() -> None:
    rendered = template(monitored("serviceMonitor", "podMonitor"))
    for component, port in (("adapter", 9091), ("predictor", 8081)):
        rules = rendered.one("NetworkPolicy", f"loop-fitloop-{component}")["spec"]["ingress"]
        assert {"ports": [{"port": port, "protocol": "TCP"}], "from": [{"namespaceSelector": {}}]} in rules


def test_rollout_alert_must_exceed_the_rollout_deadline() -> None:
    values: Document = {"monitoring": {"rules": {"enabled": True}}, "rollout": {"deadlineSeconds": 900}}
    assert "rolloutSeconds is 900, but a rollout may take" in template(values).refusal
    values["monitoring"]["rules"]["thresholds"] = {"rolloutSeconds": 1200}
    assert not template(values).refusal


@pytest.mark.parametrize(
    ("values", "actual"),
    [
        ({"serviceMonitor": {"interval": "15"}}, "interval"),
        ({"rules": {"runbookUrl": "docs/"}}, "runbookUrl"),
        ({"rules": {"disabled": ["Watchdog"]}}, "disabled"),
        ({"rules": {"overrides": {"FitloopRunPending": {"fore": "1h"}}}}, "fore"),
        ({"rules": {"thresholds": {"latencySeconds": 2}}}, "latencySeconds"),
        ({"rules": {"thresholds": {"storeErrorRatio": 10}}}, "storeErrorRatio"),
        ({"rules": {"thresholds": {"storeErrors": 10}}}, "storeErrors"),
        ({"dashboards": {"label": ""}}, "label"),
    ],
)
def test_an_invalid_value_is_named(values: Document, actual: str) -> None:
    assert actual in template({"monitoring": values}).refusal

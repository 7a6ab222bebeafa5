"""Impossible combinations of values are refused with a sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.rendering import KSERVE, template

GPU = {"predictor": {"device": "cuda"}}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"labelStudio": {"url": ""}}, "labelStudio.url is empty"),
        ({"labelStudio": {"url": "http://localhost:8080"}}, "in a pod means the pod itself"),
        ({"labelStudio": {"existingSecret": ""}}, "labels cannot be read without a token"),
        ({"labelStudio": {"apiKey": "x"}}, "keep one of them"),
        ({"store": {"url": ""}}, "store.url is empty"),
        ({"store": {"endpoint": "http://127.0.0.1:9000"}}, "in a pod means the pod itself"),
        (
            {"store": {"adapter": {"accessKey": "a", "secretKey": "b"}}},
            "store.adapter.existingSecret are both set",
        ),
        ({"store": {"trainer": {"existingSecret": "", "accessKey": "a"}}}, "needs accessKey and secretKey"),
        ({"store": {"predictor": {"existingSecret": ""}}}, "store.predictor has none"),
        ({"auth": {"username": "ann"}}, "auth.username and auth.password must be set together"),
        ({"auth": {"password": "x"}}, "auth.username and auth.password must be set together"),
        (
            {"auth": {"existingSecret": "s", "secretPath": "p" * 16}},
            "auth.existingSecret is set together with",
        ),
        ({"auth": {"existingSecret": ""}}, "auth is empty"),
        ({"auth": {"existingSecret": ""}, "ingress": {"enabled": True}}, "auth is empty"),
        ({"auth": {"existingSecret": ""}, "service": {"type": "LoadBalancer"}}, "auth is empty"),
        ({"auth": {"anonymous": True}}, "it would allow everyone"),
        ({"auth": {"existingSecret": "", "secretPath": "p" * 15}}, "auth.secretPath has 15 characters"),
        ({"serviceAccounts": {"adapter": {"create": False}}}, "name the service account that exists"),
        (
            {"serviceAccounts": {"adapter": {"name": "mine"}, "trainer": {"name": "mine", "create": False}}},
            "serviceAccounts.adapter and serviceAccounts.trainer are both mine",
        ),
        ({"store": {"timeoutSeconds": 6}}, "store.timeoutSeconds is 6"),
        ({"store": {"timeoutSeconds": "7.5"}}, "set it below 6"),
        ({"rollout": {"flipSeconds": 0.4}}, "rollout.flipSeconds is 0.4"),
        ({"training": {"method": "label-studio-ml"}}, "needs a class: set training.model"),
        ({"training": {"model": "a:B"}}, "training.model is a:B, and no project uses it"),
        ({"projects": {"5": {"model": "a:B"}}}, "projects.5.model is a:B, but its method is auto"),
        (
            {"projects": {"5": {"method": "label-studio-ml"}}},
            "projects.5.method is label-studio-ml, which needs",
        ),
        (
            {"training": {"budgetSeconds": 481}, "trainer": {"activeDeadlineSeconds": 600}},
            "gives a run only 480 s: lower the first, or set the second to at least 601",
        ),
        (
            {"training": {"checkpointSeconds": "61"}, "trainer": {"activeDeadlineSeconds": 180}},
            "training.checkpointSeconds is 61",
        ),
        ({"ingress": {"enabled": True, "timeoutSeconds": 60}}, "ingress.timeoutSeconds is 60"),
        (
            {
                "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "timeoutSeconds": "99"},
                "checkCluster": False,
            },
            "httpRoute.timeoutSeconds is 99",
        ),
        (
            {
                "monitoring": {"rules": {"enabled": True}},
                "training": {"reconcileSeconds": 900},
                "checkCluster": False,
            },
            "uncheckedSeconds is 900",
        ),
        (
            {
                "monitoring": {"rules": {"enabled": True}},
                "training": {"minSecondsBetweenRuns": 3600},
                "checkCluster": False,
            },
            "labelsWaitingSeconds is 3600",
        ),
        (
            {"predictor": {"autoscaling": {"enabled": True, "external": True}}},
            "autoscaling.external are both true",
        ),
        ({"ingress": {"enabled": True, "extraHosts": ["b.example"]}}, "needs ingress.host"),
        (GPU, "set rollout.mode to reload, or rollout.spareGpu to true"),
        ({"trainer": {"gpus": 1}}, "either requires its GPUs or uses none"),
        ({"trainer": {"allowCpu": False}}, "every run would fail without a GPU"),
        ({"trainer": {"allowCpu": False, "gpus": 2, "processes": 4}}, "each process needs its own GPU"),
        (
            {"trainer": {"queueName": "q", "jobOverrides": {"spec": {"suspend": False}}}},
            "remove spec.suspend",
        ),
        ({"predictor": {"autoscaling": {"minReplicas": 9}}}, "is greater than"),
        (
            {
                "predictor": {
                    "autoscaling": {"enabled": True},
                    "resources": {"requests": {"cpu": None}, "limits": {"cpu": None}},
                }
            },
            "set predictor.resources.requests.cpu",
        ),
        ({"ingress": {"enabled": True}, "httpRoute": {"enabled": True}}, "keep one of them"),
        ({"ingress": {"enabled": True, "tls": {"enabled": True}}}, "a certificate is issued for a name"),
        ({"httpRoute": {"enabled": True}}, "needs httpRoute.parentRefs"),
        (
            {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
            "this cluster has no Gateway API",
        ),
        ({"networkPolicy": {"egress": True}}, "list them in networkPolicy.egressTo"),
        ({"networkPolicy": {"egress": True, "enabled": False}}, "needs networkPolicy.enabled"),
        ({"fullnameOverride": "9lives"}, "set fullnameOverride"),
    ],
)
def test_an_impossible_combination_is_refused(values: dict[str, Any], sentence: str) -> None:
    refusal = template(values).refusal
    assert sentence in refusal, refusal


@pytest.mark.parametrize(
    "values",
    [
        {"store": {"timeoutSeconds": 5.9}, "rollout": {"flipSeconds": 0.5}},
        {"training": {"budgetSeconds": 480}, "trainer": {"activeDeadlineSeconds": 600}},
        {"trainer": {"activeDeadlineSeconds": 180}},
        {"ingress": {"enabled": False, "timeoutSeconds": 1}},
        {"ingress": {"enabled": True, "timeoutSeconds": 100}},
        {"training": {"reconcileSeconds": 900, "minSecondsBetweenRuns": 3600}},
    ],
)
def test_times_that_fit_together_are_accepted(values: dict[str, Any]) -> None:
    assert template(values).refusal == ""


def test_an_invalid_release_name_is_refused() -> None:
    assert "set fullnameOverride" in template(release="a.b").refusal


def test_missing_required_values_are_refused() -> None:
    assert "labelStudio.url is empty" in template(profile="", needed=False).refusal


def test_missing_kserve_suggests_the_deployment() -> None:
    refusal = template({}, "minikube-cpu", "--without-kserve").refusal
    assert "set kserve.enabled to false for a plain Deployment" in refusal
    assert f"--api-versions {KSERVE}" in refusal
    assert template({"checkCluster": False}, "minikube-cpu", "--without-kserve").of("InferenceService")
    assert template({"kserve": {"enabled": False}}, "minikube-cpu", "--without-kserve").of("Deployment")


def test_rolling_on_gpus_needs_a_spare_gpu() -> None:
    assert not template({**GPU, "rollout": {"spareGpu": True}}).refusal

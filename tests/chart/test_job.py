"""The Job's manifest: its guarantees, what values change, and that every field can be overridden."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from services.cluster.job_template import load_template, render_job
from services.core.domain import Parameters, RunRequest
from tests.chart.rendering import PROFILES, Document, container, environment, template


def spec_of(job: Document) -> Document:
    return dict(job["spec"]["template"]["spec"])


@pytest.mark.parametrize("profile", PROFILES)
def test_the_launcher_accepts_the_job(profile: str, tmp_path: Path) -> None:
    """With its arguments and the variable that other variables refer to."""
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(template(profile=profile).job))
    request = RunRequest("12-3", "12-1", 12, "a person asked", Parameters(), 1.0)
    job = render_job(load_template(path), request, "loop-fitloop", "s3://bucket/prefix", None)
    assert job["metadata"]["name"] == "loop-fitloop-12-3"
    assert container(spec_of(job))["args"] == ["--run", "s3://bucket/prefix/runs/12-3"]


@pytest.mark.parametrize("profile", PROFILES)
def test_only_transient_failures_are_retried(profile: str) -> None:
    spec = template(profile=profile).job["spec"]
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (6, "Failed")
    ignore, fail = spec["podFailurePolicy"]["rules"]
    assert ignore == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert fail["action"] == "FailJob"
    assert fail["onExitCodes"] == {"containerName": "trainer", "operator": "In", "values": [64, 65, 78]}
    assert "activeDeadlineSeconds" not in spec, (
        "it belongs to each pod: a suspended Job must not run out of time"
    )
    pod = spec["template"]["spec"]
    assert (pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == ("Never", 120)
    run_seconds = float(environment(container(pod))["FITLOOP_RUN_SECONDS"])
    assert run_seconds < pod["activeDeadlineSeconds"]


def test_a_gpu_is_requested_by_default() -> None:
    job = template(profile="").job
    assert container(spec_of(job))["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert environment(container(spec_of(job)))["FITLOOP_REQUIRE_GPU"] == "true"
    assert "command" not in container(spec_of(job))


def test_scheduling_fields_come_from_values() -> None:
    given = {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "priorityClassName": "batch",
        "runtimeClassName": "nvidia",
        "affinity": {"nodeAffinity": {}},
    }
    spec = spec_of(template({"trainer": given}).job)
    assert {key: spec[key] for key in given} == given


def test_one_process_per_gpu() -> None:
    job = template({"trainer": {"allowCpu": False, "gpus": 4}}).job
    trainer = container(spec_of(job))
    assert trainer["command"] == ["python", "-P", "-m", "services.trainer.ranks"]
    assert environment(trainer)["FITLOOP_PROCESSES_PER_POD"] == "4"
    assert "completionMode" not in job["spec"]


def test_several_pods_are_an_indexed_job() -> None:
    rendered = template({"trainer": {"pods": 2}})
    spec = rendered.job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert spec_of(rendered.job)["subdomain"] == "loop-fitloop-trainers"
    variables = environment(container(spec_of(rendered.job)))
    assert variables["FITLOOP_RENDEZVOUS"] == "$(FITLOOP_JOB_NAME)-0.loop-fitloop-trainers:29500"
    assert (variables["FITLOOP_PODS"], variables["FITLOOP_PROCESSES_PER_POD"]) == ("2", "1")
    service = rendered.one("Service", "loop-fitloop-trainers")["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    labels = rendered.job["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()


def test_a_queued_job_starts_suspended() -> None:
    job = template(profile="kueue").job
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "fitloop"
    assert "suspend" not in template().job["spec"]
    assert template({"trainer": {"suspend": True}}).job["spec"]["suspend"] is True


def test_every_field_can_be_overridden() -> None:
    """Maps are merged by key, containers by name, other named items are replaced by name, and new items appended."""
    overrides = {
        "metadata": {"annotations": {"team": "labels"}},
        "spec": {
            "backoffLimit": 3,
            "maxFailedIndexes": 1,
            "template": {
                "spec": {
                    "schedulerName": "volcano",
                    "containers": [
                        {
                            "name": "trainer",
                            "resources": {"limits": {"example.com/rdma": 1}},
                            "env": [{"name": "LOG_LEVEL", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
                            "volumeMounts": [
                                {"name": "data", "mountPath": "/a"},
                                {"name": "data", "mountPath": "/b"},
                                {"name": "data", "mountPath": "/tmp"},
                            ],
                        },
                        {"name": "beside", "image": "other"},
                    ],
                    "volumes": [
                        {"name": "tmp", "persistentVolumeClaim": {"claimName": "mine"}},
                        {"name": "data", "emptyDir": {}},
                    ],
                    "tolerations": [{"key": "a"}],
                }
            },
        },
    }
    before = template().job
    job = template({"trainer": {"jobOverrides": overrides}}).job
    assert job["metadata"]["annotations"] == {"team": "labels"}
    assert job["metadata"]["labels"] == before["metadata"]["labels"]
    assert (job["spec"]["backoffLimit"], job["spec"]["maxFailedIndexes"]) == (3, 1)
    spec = spec_of(job)
    trainer, beside = spec["containers"]
    assert beside == {"name": "beside", "image": "other"}
    assert trainer["resources"]["limits"] == {"memory": "6Gi", "example.com/rdma": 1}
    assert environment(trainer)["LOG_LEVEL"] == {"fieldRef": {"fieldPath": "x"}}
    assert environment(trainer).keys() == environment(container(spec_of(before))).keys()
    mounts = {one["mountPath"]: one["name"] for one in trainer["volumeMounts"]}
    assert {"/a": "data", "/b": "data", "/tmp": "data", "/cache": "cache"}.items() <= mounts.items()
    volumes = {one["name"]: one for one in spec["volumes"]}
    assert volumes["tmp"] == {"name": "tmp", "persistentVolumeClaim": {"claimName": "mine"}}
    assert (spec["schedulerName"], spec["tolerations"]) == ("volcano", [{"key": "a"}])
    assert job["spec"]["podFailurePolicy"] == before["spec"]["podFailurePolicy"]

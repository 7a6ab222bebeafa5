"""A run's Job as a chart renders it, and what Kubernetes shows of Jobs and pods."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from services.cluster.client import Document
from services.cluster.job_template import RELEASE_LABEL, REQUESTED_ANNOTATION, RUN_LABEL

MANIFEST: Document = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"labels": {"app.kubernetes.io/component": "trainer"}},
    "spec": {
        "backoffLimit": 6,
        "ttlSecondsAfterFinished": 86400,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "trainer", "operator": "In", "values": [64, 65, 78]},
                },
            ]
        },
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/component": "trainer"}},
            "spec": {
                "restartPolicy": "Never",
                "activeDeadlineSeconds": 3600,
                "terminationGracePeriodSeconds": 10,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 10001,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [
                    {
                        "name": "trainer",
                        "image": "fitloop/trainer:0",
                        "env": [{"name": "FITLOOP_REQUIRE_GPU", "value": "true"}],
                        "resources": {"limits": {"nvidia.com/gpu": 1}},
                        "securityContext": {
                            "allowPrivilegeEscalation": False,
                            "readOnlyRootFilesystem": True,
                            "capabilities": {"drop": ["ALL"]},
                        },
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
            },
        },
    },
}
CREATED = 1_000_000.0


def timestamp(at: float) -> str:
    """As Kubernetes writes a time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def build_job(
    name: str = "fitloop-1-1",
    *conditions: tuple[str, str],
    run: str = "1-1",
    mark: str = "0.000000",
    **status: Any,
) -> Document:
    """A Job; conditions are type and reason."""
    listed = [
        {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": timestamp(CREATED + 100)}
        for kind, reason in conditions
    ]
    return {
        "kind": "Job",
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": timestamp(CREATED),
            "labels": {RUN_LABEL: run, RELEASE_LABEL: "fitloop"},
            "annotations": {REQUESTED_ANNOTATION: mark},
        },
        "spec": {},
        "status": {"conditions": listed, **status},
    }


def build_pod(
    name: str,
    phase: str = "Running",
    *,
    started: float | None = None,
    ended: float | None = None,
    code: int | None = None,
    waiting: dict[str, str] | None = None,
    unschedulable: str = "",
    run: str = "1-1",
    mark: str = "0.000000",
    index: int | None = None,
) -> Document:
    """A pod of a run."""
    state: dict[str, Any] = {}
    if ended is not None:
        state = {
            "terminated": {
                "startedAt": timestamp(started or 0),
                "finishedAt": timestamp(ended),
                "exitCode": code,
            }
        }
    elif started is not None:
        state = {"running": {"startedAt": timestamp(started)}}
    elif waiting is not None:
        state = {"waiting": waiting}
    scheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": unschedulable,
    }
    labels = {RUN_LABEL: run, RELEASE_LABEL: "fitloop"}
    if index is not None:
        labels["batch.kubernetes.io/job-completion-index"] = str(index)
    return {
        "kind": "Pod",
        "metadata": {
            "name": name,
            "creationTimestamp": timestamp(CREATED),
            "labels": labels,
            "annotations": {REQUESTED_ANNOTATION: mark},
        },
        "status": {
            "phase": phase,
            "conditions": [scheduled] if unschedulable else [],
            "containerStatuses": [{"name": "trainer", "image": "img:1", "state": state}] if state else [],
        },
    }

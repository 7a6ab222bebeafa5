"""The Job of a run, out of the manifest that the chart renders: every field of it stays the user's.

Set here are name, labels, annotations, owner, the trainer's arguments and a variable or two; `fill` is pure.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any, Final

import yaml

from services.cluster.client import Document
from services.core.domain import RunRequest
from services.core.errors import BadConfig

CONTAINER: Final = "trainer"
RUN: Final = "fitloop.io/run"
PROJECT: Final = "fitloop.io/project"
RELEASE: Final = "fitloop.io/release"
REQUESTED: Final = "fitloop.io/requested-at"
_LONGEST: Final = 63


def load_template(path: Path) -> Document:
    """The manifest. Raises BadConfig with the field that is wrong."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BadConfig(f"The manifest of a run's Job cannot be read from {path}: {error}") from error
    if problem := problem_of(found):
        raise BadConfig(
            f"The manifest of a run's Job ({path}) cannot be used: {problem}. See trainer.* in the chart's values."
        )
    return dict(found)


def problem_of(found: Any) -> str:
    """The field that makes a manifest useless, and why; "" for a good one."""
    if not isinstance(found, dict) or (found.get("apiVersion"), found.get("kind")) != ("batch/v1", "Job"):
        return "apiVersion and kind must be batch/v1 and Job"
    spec = _at(found, "spec", "template", "spec")
    if not isinstance(spec, dict):
        return "spec.template.spec is missing"
    if spec.get("restartPolicy") != "Never":
        return f"spec.template.spec.restartPolicy must be Never, and is {spec.get('restartPolicy')!r}"
    containers = spec.get("containers")
    if not isinstance(containers, list) or not all(isinstance(one, dict) for one in containers):
        return "spec.template.spec.containers must be a list of containers"
    named = [one for one in containers if one.get("name") == CONTAINER]
    if len(named) != 1:
        return f"spec.template.spec.containers needs exactly one container named {CONTAINER!r}"
    if not named[0].get("image"):
        return f"spec.template.spec.containers[{CONTAINER}].image is missing"
    return ""


def fill(
    template: Document, request: RunRequest, release: str, store_url: str, owner: Document | None
) -> Document:
    """The Job of this run."""
    job = copy.deepcopy(template)
    name = name_of(release, request.run)
    labels = {RUN: request.run, PROJECT: str(request.project_id), RELEASE: release}
    meta = job.setdefault("metadata", {})
    meta["name"] = name
    meta.setdefault("labels", {}).update(labels)
    meta.setdefault("annotations", {})[REQUESTED] = mark_of(request)
    if owner is not None:
        meta["ownerReferences"] = [owner]
    pod = job["spec"]["template"]
    pod.setdefault("metadata", {}).setdefault("labels", {}).update(labels)
    (container,) = (one for one in pod["spec"]["containers"] if one.get("name") == CONTAINER)
    container["args"] = [
        *(container.get("args") or []),
        "--run",
        f"{store_url.rstrip('/')}/runs/{request.run}",
    ]
    # First, so that `command` and `args` of the template may say $(FITLOOP_JOB_NAME).
    container["env"] = [{"name": "FITLOOP_JOB_NAME", "value": name}, *(container.get("env") or [])]
    return job


def name_of(release: str, run: str) -> str:
    """`<release>-<project>-<n>`, the release cut where that is too long for a pod's label."""
    room = _LONGEST - len(run) - 1
    stem = re.sub(r"[^a-z0-9-]", "-", release.lower())[:room].strip("-") or "fitloop"
    return f"{stem}-{run}"


def mark_of(request: RunRequest) -> str:
    """Tells this request from one of the same name in another bucket."""
    return f"{request.created_at:.6f}"


def _at(found: Any, *path: str) -> Any:
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found

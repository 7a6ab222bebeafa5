"""Render a run's Job from the manifest in the chart, all of whose fields stay the user's.

Only name, labels, annotations, owner, the trainer's arguments and one variable are set here.
"""

from __future__ import annotations

import copy
import hashlib
import re
from pathlib import Path
from typing import Any, Final

import yaml

from services.cluster.client import ClusterError, Document, Kube
from services.core.domain import Parameters, RunRequest
from services.core.errors import BadConfig

CONTAINER: Final = "trainer"
RUN_LABEL: Final = "fitloop.io/run"
PROJECT_LABEL: Final = "fitloop.io/project"
RELEASE_LABEL: Final = "fitloop.io/release"
REQUESTED_ANNOTATION: Final = "fitloop.io/requested-at"
_MAX_NAME: Final = 57
"""Characters of a Job's name: pods of an Indexed Job append up to six, and a DNS label has 63."""
_REPLACED_METADATA: Final = ("name", "generateName", "namespace", "ownerReferences", "uid", "resourceVersion")


def load_template(path: Path) -> Document:
    """Read the manifest. Raises BadConfig with the wrong field."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BadConfig(f"The manifest of a run's Job cannot be read from {path}: {reason}.") from error
    if problem := problem_of(found):
        raise BadConfig(
            f"The manifest of a run's Job ({path}) cannot be used: {problem}. See trainer.* in the chart's values."
        )
    return dict(found)


def problem_of(found: Any) -> str:
    """Return the field that makes a manifest unusable, and why; "" for a valid one."""
    if not isinstance(found, dict) or (found.get("apiVersion"), found.get("kind")) != ("batch/v1", "Job"):
        return "apiVersion and kind must be batch/v1 and Job"
    for path, kind, name in _SHAPES:
        value, place = _get_path(found, *path), ".".join(path)
        if value is None and path in _REQUIRED:
            return f"{place} is missing"
        if value is not None and not isinstance(value, kind):
            return f"{place} must be {name}"
    pod = found["spec"]["template"]["spec"]
    if pod.get("restartPolicy") != "Never":
        return f"spec.template.spec.restartPolicy must be Never, not {pod.get('restartPolicy')!r}"
    if not all(isinstance(one, dict) for one in pod["containers"]):
        return "spec.template.spec.containers must be a list of containers"
    return _problem_of_trainer([one for one in pod["containers"] if one.get("name") == CONTAINER])


def _problem_of_trainer(named: list[Document]) -> str:
    if len(named) != 1:
        return f"spec.template.spec.containers needs exactly one container named {CONTAINER!r}"
    place, (trainer,) = f"spec.template.spec.containers[{CONTAINER}]", named
    if not trainer.get("image"):
        return f"{place}.image is missing"
    wrong = [field for field in ("args", "env") if not isinstance(trainer.get(field) or [], list)]
    return f"{place}.{wrong[0]} must be a list" if wrong else ""


def dry_run(kube: Kube, template: Document, release: str, store_url: str) -> None:
    """Have the API validate a Job without creating it. Raises BadConfig with the wrong field, or ClusterError."""
    request = RunRequest("0-0", "", 0, "", Parameters(), 0.0)
    job = render_job(template, request, release, store_url, None)
    try:
        kube.create("job", job, dry_run="All", field_validation="Strict")
    except ClusterError as error:
        if error.status not in {400, 422}:
            raise
        raise BadConfig(
            f"The manifest of a run's Job cannot be used, see trainer.* in the chart's values. {error}"
        ) from error


def render_job(
    template: Document, request: RunRequest, release: str, store_url: str, owner: Document | None
) -> Document:
    """Return the Job of this run."""
    job = copy.deepcopy(template)
    name = job_name(release, request.run)
    labels = {RUN_LABEL: request.run, PROJECT_LABEL: str(request.project_id), RELEASE_LABEL: release}
    meta = {key: value for key, value in (job.get("metadata") or {}).items() if key not in _REPLACED_METADATA}
    job["metadata"] = {**meta, "name": name, **({"ownerReferences": [owner]} if owner else {})}
    pod = job["spec"]["template"]
    pod["metadata"] = pod.get("metadata") or {}
    for one in (job["metadata"], pod["metadata"]):
        one["labels"] = {**(one.get("labels") or {}), **labels}
        one["annotations"] = {**(one.get("annotations") or {}), REQUESTED_ANNOTATION: request_id(request)}
    (container,) = (one for one in pod["spec"]["containers"] if one.get("name") == CONTAINER)
    url = f"{store_url.rstrip('/')}/runs/{request.run}"
    container["args"] = [*(container.get("args") or []), "--run", url]
    # First, so that `command`, `args` and variables of the template can use $(FITLOOP_JOB_NAME).
    container["env"] = [{"name": "FITLOOP_JOB_NAME", "value": name}, *(container.get("env") or [])]
    return job


def job_name(release: str, run: str) -> str:
    """Return `<release>-<project>-<n>`; a release that is too long or no valid name is cut, and its hash appended."""
    limit = _MAX_NAME - len(run) - 1
    stem = re.sub(r"[^a-z0-9-]", "-", release.lower()).strip("-")
    if stem != release or not 0 < len(stem) <= limit:
        digest = hashlib.sha256(release.encode()).hexdigest()[:6]
        stem = f"{stem[: limit - 7].strip('-') or 'fitloop'}-{digest}"
    return f"{stem}-{run}"


def request_id(request: RunRequest) -> str:
    """Return an id that distinguishes this request from one of the same name in another bucket."""
    return f"{request.created_at:.6f}"


_SHAPES: Final[tuple[tuple[tuple[str, ...], type, str], ...]] = (
    (("metadata",), dict, "a mapping"),
    (("metadata", "labels"), dict, "a mapping"),
    (("metadata", "annotations"), dict, "a mapping"),
    (("spec",), dict, "a mapping"),
    (("spec", "template"), dict, "a mapping"),
    (("spec", "template", "metadata"), dict, "a mapping"),
    (("spec", "template", "metadata", "labels"), dict, "a mapping"),
    (("spec", "template", "metadata", "annotations"), dict, "a mapping"),
    (("spec", "template", "spec"), dict, "a mapping"),
    (("spec", "template", "spec", "containers"), list, "a list of containers"),
)
_REQUIRED: Final = frozenset(path for path, _, _ in _SHAPES if path[0] == "spec" and "metadata" not in path)


def _get_path(found: Any, *path: str) -> Any:
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found

"""A class of the user's own on a cluster: `fit` in a Job, `predict` in the predictor's worker processes, versions rolled out and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from demo.annotator import Annotator
from tests.e2e.conftest import Connect, LabelledProject, MakeRelease
from tests.e2e.release import Release
from tests.support.model_classes import STAND_IN
from tests.support.waiting import eventually

pytestmark = [pytest.mark.labelstudio, pytest.mark.cluster, pytest.mark.wide]
MODELS = "/opt/models"
CLASSES = Path(__file__).with_name("classes")
SECONDS = 300


def _files() -> dict[str, Path]:
    """Return path in the folder of classes → file."""
    library = sorted(STAND_IN.rglob("*.py"))
    return {"shop_classes.py": CLASSES / "shop_classes.py"} | {
        str(path.relative_to(STAND_IN)): path for path in library
    }


def _mounted() -> dict[str, Any]:
    """Return values that mount the ConfigMap `classes`, whose keys cannot have slashes."""
    items = [{"key": path.replace("/", "."), "path": path} for path in _files()]
    return {
        "extraVolumes": [{"name": "classes", "configMap": {"name": "classes", "items": items}}],
        "extraVolumeMounts": [{"name": "classes", "mountPath": MODELS, "readOnly": True}],
        "extraEnv": [{"name": "FITLOOP_MODEL_PATH", "value": MODELS}],
    }


def _store_classes(release: Release) -> None:
    data = {path.replace("/", "."): file.read_text() for path, file in _files().items()}
    found = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "classes"}, "data": data}
    release.namespace.kubectl("apply", "-f", "-", text=json.dumps(found))


def _has_suggestions(labelled: LabelledProject, version: str, least: int) -> None:
    what = f"suggestions of {version}"
    eventually(lambda: len(labelled.suggestions(version)) >= least, SECONDS, what=what)


def test_a_class_learns_serves_and_is_rolled_back(
    make_release: MakeRelease, connect: Connect, annotator: Annotator
) -> None:
    training = {"method": "label-studio-ml", "model": "shop_classes:Words", "everyNUpdates": 30}
    release = make_release(training=training, trainer=_mounted(), predictor=_mounted())
    _store_classes(release)
    release.install()
    labelled = connect(release)

    labelled.label(0, 30)
    first = release.served(labelled.project, seconds=SECONDS)
    manifest = release.bucket.document(f"projects/{labelled.key}/versions/{first}/manifest.json")
    assert "model/words.json" in manifest["files"]
    _has_suggestions(labelled, first, 60)

    with release.load(labelled) as load:
        labelled.label(30, 60)
        second = release.served(labelled.project, other_than=first, seconds=SECONDS)
        _has_suggestions(labelled, second, 20)
        release.send_command(labelled.project, "rollback")
        assert release.served(labelled.project, other_than=second, seconds=SECONDS) == first
    assert not load.failures(), load.report()
    title = f"/api/projects/{labelled.project}"
    eventually(lambda: annotator.call("GET", title)["model_version"] == first, SECONDS, what="its title")

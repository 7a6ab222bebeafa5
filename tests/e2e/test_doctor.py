"""`fitloop doctor` with a real Label Studio: it passes, and finds each fault of webhook and backend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from demo.annotator import Annotator
from demo.servers import TOKEN
from tests.e2e.conftest import LabelledProject, LocalFitloop

pytestmark = pytest.mark.labelstudio


def _doctor(fitloop: LocalFitloop, annotator: Annotator, project: int) -> dict[str, str]:
    """Return verdicts by check, for this project alone."""
    environment = {
        **os.environ,
        "FITLOOP_URL": fitloop.url,
        "LABEL_STUDIO_URL": str(annotator.url),
        "LABEL_STUDIO_API_KEY": TOKEN,
        "MODEL_DIR": str(fitloop.folder),
    }
    command = [
        sys.executable,
        "-m",
        "services.cli",
        "doctor",
        "--json",
        "--project",
        str(project),
        "--url",
        fitloop.url,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    found = {row["name"].removeprefix(f"project {project}: "): row["verdict"] for row in rows}
    assert done.returncode == ("fail" in found.values())
    return found


def test_doctor_finds_webhook_and_backend_faults(
    start_fitloop: Callable[..., LocalFitloop], connect: Callable[..., LabelledProject], annotator: Annotator
) -> None:
    fitloop = start_fitloop()
    labelled = connect(fitloop, texts=5)
    found = _doctor(fitloop, annotator, labelled.project)
    assert "fail" not in found.values()
    assert {
        found[name] for name in ("label studio", "token", "backend", "webhook", "event", "body size")
    } == {"ok"}

    (hook,) = annotator.call("GET", "/api/webhooks/", params={"project": labelled.project})
    annotator.call("PATCH", f"/api/webhooks/{hook['id']}/", json={"is_active": False})
    found = _doctor(fitloop, annotator, labelled.project)
    assert (found["backend"], found["webhook"], found["event"]) == ("ok", "fail", "skipped")

    annotator.call("DELETE", f"/api/ml/{labelled.backend}")
    assert _doctor(fitloop, annotator, labelled.project)["backend"] == "fail"

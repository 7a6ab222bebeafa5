"""The built images, run as the chart runs them: not as root, with a read-only file system and a writable /tmp.

Skipped if there is no engine or image: `make images IMAGE_PREFIX=fitloop.test TAG=dev` builds them, and
FITLOOP_TEST_IMAGES=fitloop.test (FITLOOP_TEST_TAG=dev, FITLOOP_TEST_DOCKER=docker) names them.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.images.processes import OF

IMPORTS = (Path(__file__).parent / "imports.py").read_text(encoding="utf-8")
LABELS = ("title", "description", "source", "version", "licenses", "revision")
TOOLS = "pip pip3 pip3.11 setuptools gcc cc g++ make git curl wget"
pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Image:
    """An existing image and its engine."""

    docker: tuple[str, ...]
    role: str
    name: str

    def run(self, *command: str, entrypoint: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a container without a network and remove it."""
        entry = ("--entrypoint", entrypoint) if entrypoint else ()
        options = ("--rm", "--interactive", "--network", "none", "--read-only", "--tmpfs", "/tmp")
        return self._docker("run", *options, *entry, self.name, *command, stdin=stdin)

    def inspect(self) -> dict[str, Any]:
        """Return the image's configuration, or skip the test if there is none."""
        try:
            done = self._docker("image", "inspect", self.name)
        except FileNotFoundError:
            pytest.skip(f"no container engine: {shlex.join(self.docker)} is not there")
        if done.returncode:
            pytest.skip(f"no image {self.name}: see the head of this file")
        inspected: dict[str, Any] = json.loads(done.stdout)[0]
        return inspected

    def sizes(self) -> list[tuple[str, int]]:
        """Return the command and the size in bytes of each layer, newest first."""
        form = "{{.Size}}\t{{.CreatedBy}}"
        done = self._docker("history", "--human=false", "--no-trunc", "--format", form, self.name)
        pairs = [line.split("\t", 1) for line in done.stdout.splitlines()]
        return [(made_by, int(size)) for size, made_by in pairs]

    def _docker(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [*self.docker, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture(params=["adapter", "predictor", "trainer"])
def image(request: pytest.FixtureRequest) -> Image:
    prefix, tag = os.environ.get("FITLOOP_TEST_IMAGES", "fitloop"), os.environ.get("FITLOOP_TEST_TAG", "dev")
    docker = tuple(shlex.split(os.environ.get("FITLOOP_TEST_DOCKER", "docker")))
    found = Image(docker, request.param, f"{prefix}/{request.param}:{tag}")
    found.inspect()
    return found


def test_image_runs_unprivileged_and_is_labelled(image: Image) -> None:
    config = image.inspect()["Config"]
    assert config["User"] == "10001:10001"
    assert {f"org.opencontainers.image.{label}" for label in LABELS} <= config["Labels"].keys()


def test_all_imports_are_precompiled(image: Image) -> None:
    done = image.run("-", *OF[image.role], entrypoint="python", stdin=IMPORTS)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1])["uncompiled"] == []


def test_image_contains_no_build_tools(image: Image) -> None:
    found = image.run(
        "-c", f"which {TOOLS}; python -m pip --version || python -c 'import setuptools'", entrypoint="sh"
    )
    assert found.stdout == ""
    assert "No module named 'setuptools'" in found.stderr


def test_only_tmp_is_writable(image: Image) -> None:
    done = image.run("-c", "touch /tmp/it && touch /opt/fitloop/it", entrypoint="sh")
    assert done.returncode != 0
    assert "/opt/fitloop/it" in done.stderr


def test_image_has_the_command_line(image: Image) -> None:
    if image.role == "predictor":
        pytest.skip("the predictor's image has no command line")
    done = image.run("--version", entrypoint="fitloop")
    assert done.stdout.startswith("fitloop "), done.stderr


def test_missing_settings_end_with_one_sentence(image: Image) -> None:
    """So `kubectl logs` shows what to do, without a traceback."""
    done = image.run()
    assert done.returncode not in {0, 75}
    assert len(done.stderr.splitlines()) <= 12
    assert "Traceback" not in done.stderr


def test_the_adapter_image_is_small(image: Image) -> None:
    if image.role != "adapter":
        pytest.skip("only the adapter's size has a limit")
    ours = sum(
        size for made_by, size in image.sizes() if made_by.startswith(("COPY", "RUN /bin/sh -c rm -rf"))
    )
    assert ours <= 400_000_000


def test_code_is_a_small_last_layer(image: Image) -> None:
    """So a code change is built, pushed and pulled in seconds."""
    made_by, size = next(pair for pair in image.sizes() if pair[1])
    assert made_by.startswith("COPY /code")
    assert size < 10_000_000

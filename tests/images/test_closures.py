"""The images' package lists: up to date, and complete for what each process imports."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.images.processes import OF

DOCKER = Path(__file__).parents[2] / "docker"
EVERYTHING = ("kserve", "kubernetes", "minio", "torch", "transformers")


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    for name in EVERYTHING:
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            pytest.skip(
                f"{name} is not installed here: pip install -c constraints.txt -e '.[local,cluster,predictor,dev]'"
            )


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=DOCKER.parent
    )


def test_package_lists_are_up_to_date() -> None:
    done = _run("docker/closure.py", "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("image", ["adapter", "predictor", "trainer"])
def test_listed_packages_are_enough_to_import_a_process(image: str) -> None:
    done = _run("-m", "tests.images.imports", "--only", f"docker/{image}.txt", *OF[image])
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_missing_package_is_detected(tmp_path: Path) -> None:
    """Otherwise the test above would prove nothing."""
    lines = (DOCKER / "adapter.txt").read_text(encoding="utf-8").splitlines()
    short = tmp_path / "short.txt"
    short.write_text("\n".join(line for line in lines if not line.startswith("lxml==")), encoding="utf-8")
    done = _run("-m", "tests.images.imports", "--only", str(short), "services.core.labels")
    assert "lxml" in done.stderr


def test_the_adapter_lists_no_training_library() -> None:
    listed = re.findall(r"^([\w.-]+)==", (DOCKER / "adapter.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert not {"torch", "transformers", "kserve", "scikit-learn", "opencv-python-headless", "pip"} & set(
        listed
    )

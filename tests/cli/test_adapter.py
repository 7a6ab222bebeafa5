"""`fitloop adapter`: two ports, startup without the Kubernetes API, one line for each bad setting, orderly shutdown."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.api_server import NAMESPACE, FakeApiServer, serve_api
from tests.support.jobs import MANIFEST
from tests.support.s3_server import serve_bucket
from tests.support.waiting import eventually

_MAX_MEGABYTES = 200


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class AdapterProcess:
    """A `fitloop adapter` in a process of its own, with a folder for a bucket."""

    def __init__(self, folder: Path, kubeconfig: str, management_port: int = 0, **changed: str) -> None:
        self._output = folder / f"output-{len(list(folder.iterdir()))}"
        (folder / "kubeconfig").write_text(kubeconfig)
        if not (folder / "job.yaml").exists():
            (folder / "job.yaml").write_text(yaml.safe_dump(MANIFEST))
        self.port, self.management_port = _free_port(), management_port or _free_port()
        known = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "HOME"}}
        settings = {
            "KUBECONFIG": str(folder / "kubeconfig"),
            "FITLOOP_STORE": (folder / "bucket").as_uri(),
            "FITLOOP_CACHE_DIR": str(folder / "cache"),
            "FITLOOP_NAMESPACE": NAMESPACE,
            "FITLOOP_ANONYMOUS": "true",
            "FITLOOP_POD_NAME": "pod-a",
            "FITLOOP_JOB_TEMPLATE": str(folder / "job.yaml"),
        }
        ports = ("--port", str(self.port), "--management-port", str(self.management_port))
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "adapter", *ports],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=known | settings | changed,
            )

    def output(self) -> str:
        return self._output.read_text()

    def get(self, path: str, *, management: bool = False) -> int:
        """The answer's status; 0 where there is none."""
        port = self.management_port if management else self.port
        try:
            return httpx.get(f"http://127.0.0.1:{port}{path}").status_code
        except httpx.HTTPError:
            return 0

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.output()
        return self.get("/readyz", management=True) == httpx.codes.OK

    def megabytes(self) -> int:
        """Resident."""
        (line,) = (
            line
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
            if line.startswith("VmRSS")
        )
        return int(line.split()[1]) // 1024

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with serve_api(FakeApiServer()) as running:
        running.put("leases", {"kind": "Lease", "metadata": {"name": "fitloop"}})
        yield running


@pytest.fixture
def started() -> Iterator[list[AdapterProcess]]:
    made: list[AdapterProcess] = []
    yield made
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


def holder(api: FakeApiServer) -> str:
    return str((api.objects["leases", "fitloop"].get("spec") or {}).get("holderIdentity", ""))


def test_it_serves_two_ports_leads_and_releases_the_lease(
    tmp_path: Path, api: FakeApiServer, started: list[AdapterProcess]
) -> None:
    adapter = AdapterProcess(tmp_path, api.kubeconfig())
    started.append(adapter)
    eventually(adapter.is_ready, 60)
    assert adapter.get("/health") == 200
    assert adapter.get("/metrics") == 404
    assert adapter.get("/livez") == 404
    assert adapter.get("/livez", management=True) == 200
    assert adapter.get("/metrics", management=True) == 200
    assert adapter.get("/health", management=True) == 404
    eventually(lambda: holder(api).startswith("pod-a_"))
    if sys.platform == "linux":
        assert adapter.megabytes() <= _MAX_MEGABYTES
    assert adapter.end() == 0, adapter.output()
    assert holder(api) == ""
    assert "Traceback" not in adapter.output()


def test_it_is_ready_without_the_kubernetes_api(tmp_path: Path, started: list[AdapterProcess]) -> None:
    away = FakeApiServer()
    with serve_api(away):
        kubeconfig = away.kubeconfig()
    adapter = AdapterProcess(tmp_path, kubeconfig)
    started.append(adapter)
    eventually(adapter.is_ready, 60)
    assert adapter.get("/livez", management=True) == 200
    with serve_api(away):
        eventually(lambda: "leases" in {plural for plural, _ in away.objects}, 30)
        eventually(lambda: holder(away).startswith("pod-a_"))
    assert adapter.is_ready()
    assert adapter.end() == 0, adapter.output()


def test_it_waits_for_a_bucket_that_answers_late(
    tmp_path: Path, api: FakeApiServer, started: list[AdapterProcess]
) -> None:
    port = _free_port()
    bucket = {
        "FITLOOP_STORE": "s3://bucket/loop/",
        "FITLOOP_S3_ENDPOINT": f"http://127.0.0.1:{port}",
        "FITLOOP_S3_REGION": "here",
        "FITLOOP_S3_TIMEOUT_SECONDS": "2",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
    }
    adapter = AdapterProcess(tmp_path, api.kubeconfig(), 0, **bucket)
    started.append(adapter)
    eventually(lambda: adapter.get("/livez", management=True) == 200, 60)
    assert not adapter.is_ready()
    with serve_bucket(port):
        eventually(adapter.is_ready, 60)
        assert adapter.end() == 0, adapter.output()
    output = adapter.output()
    assert output.count("bucket_unavailable") == 1
    assert "Traceback" not in output


def test_a_missing_bucket_is_an_error(
    tmp_path: Path, api: FakeApiServer, started: list[AdapterProcess]
) -> None:
    port = _free_port()
    bucket = {"FITLOOP_STORE": "s3://other/", "FITLOOP_S3_ENDPOINT": f"http://127.0.0.1:{port}"}
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "FITLOOP_S3_REGION": "here"}
    with serve_bucket(port):
        adapter = AdapterProcess(tmp_path, api.kubeconfig(), 0, **bucket, **keys)
        started.append(adapter)
        assert adapter.process.wait(60) == 1
    assert "'other'" in adapter.output()
    assert "Traceback" not in adapter.output()


def _broken() -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(json.dumps(MANIFEST))
    manifest["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    return manifest


@pytest.mark.parametrize(
    ("changed", "cause"),
    [
        ({"FITLOOP_STORE": ""}, "FITLOOP_STORE"),
        ({"FITLOOP_STORE": "ftp://x"}, "ftp://x"),
        ({"KUBECONFIG": "/nowhere"}, "KUBECONFIG"),
        ({"FITLOOP_JOB_TEMPLATE": "/nowhere/job.yaml"}, "/nowhere/job.yaml"),
        ({"FITLOOP_ROLLOUT_MODE": "quickly"}, "FITLOOP_ROLLOUT_MODE"),
    ],
)
def test_each_invalid_setting_is_an_error(
    tmp_path: Path, api: FakeApiServer, started: list[AdapterProcess], changed: dict[str, str], cause: str
) -> None:
    adapter = AdapterProcess(tmp_path, api.kubeconfig(), 0, **changed)
    started.append(adapter)
    assert adapter.process.wait(60) == 1
    assert cause in adapter.output()
    assert "Traceback" not in adapter.output()


def test_missing_required_credentials_exit_with_78(
    tmp_path: Path, api: FakeApiServer, started: list[AdapterProcess]
) -> None:
    adapter = AdapterProcess(tmp_path, api.kubeconfig(), 0, FITLOOP_AUTH_REQUIRED="true")
    started.append(adapter)
    assert adapter.process.wait(60) == 78
    assert "auth.existingSecretKeys" in adapter.output()


def test_a_store_timeout_beyond_the_lease_exits_with_78(
    tmp_path: Path, api: FakeApiServer, started: list[AdapterProcess]
) -> None:
    adapter = AdapterProcess(tmp_path, api.kubeconfig(), 0, FITLOOP_S3_TIMEOUT_SECONDS="20")
    started.append(adapter)
    assert adapter.process.wait(60) == 78
    assert "store.timeoutSeconds) is 20" in adapter.output()


def test_an_invalid_job_template_is_refused_by_its_field(
    tmp_path: Path, api: FakeApiServer, started: list[AdapterProcess]
) -> None:
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(_broken()))
    adapter = AdapterProcess(tmp_path, api.kubeconfig())
    started.append(adapter)
    assert adapter.process.wait(60) == 1
    assert "spec.template.spec.restartPolicy" in adapter.output()


def test_a_job_template_that_kubernetes_refuses_is_an_error(
    tmp_path: Path, api: FakeApiServer, started: list[AdapterProcess]
) -> None:
    api.faults.append(("POST", 422, {}))
    adapter = AdapterProcess(tmp_path, api.kubeconfig())
    started.append(adapter)
    assert adapter.process.wait(60) == 1
    assert "trainer.*" in adapter.output()
    assert "Traceback" not in adapter.output()


def test_a_port_in_use_is_an_error(tmp_path: Path, api: FakeApiServer, started: list[AdapterProcess]) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104  # what an adapter takes
        taken.listen()
        port = taken.getsockname()[1]
        adapter = AdapterProcess(tmp_path, api.kubeconfig(), management_port=port)
        started.append(adapter)
        assert adapter.process.wait(60) == 1
    assert f"Port {port}" in adapter.output()
    assert "--management-port" in adapter.output()
    assert "Traceback" not in adapter.output()

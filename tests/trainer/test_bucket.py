"""A run whose request, base model, checkpoints and versions are all in a real bucket, in a process of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from services.core.domain import Method, RunState
from services.core.registry import Registry
from services.core.runs import Runs
from tests.support.buckets import ENDPOINT, KEY, SECRET, build_s3_store, needs_s3, temporary_bucket
from tests.support.trainer import TrainerWorld
from tests.support.trainer_process import serve_label_studio, trainer_command, trainer_environment
from tests.support.waiting import eventually

pytestmark = needs_s3


@pytest.fixture
def in_bucket(world: TrainerWorld) -> Iterator[TrainerWorld]:
    """The world, with its base model and everything else in a bucket."""
    with temporary_bucket() as name:
        cache = world.folder.parent / "cache"
        base = build_s3_store(f"s3://{name}/base/", cache)
        for path in world.base.iterdir():
            base.upload(path, path.name)
        world.store = build_s3_store(f"s3://{name}/loop/", cache)  # type: ignore[assignment]  # by the same Protocol
        world.runs, world.registry = Runs(world.store), Registry(world.store)
        world.base = f"{base.url}/"  # type: ignore[assignment]  # as BASELINE_MODEL_NAME
        yield world


class FakeNetwork:
    """A way to the storage that can be cut: a TCP proxy on a port of its own."""

    def __init__(self) -> None:
        parts = urlsplit(ENDPOINT)
        self._there = (parts.hostname or "", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.cut = threading.Event()
        self.refused = 0
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.hang_up()

    def hang_up(self) -> None:
        """Break all connections."""
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.cut.is_set():
                self.refused += 1
                near.close()
                continue
            far = socket.create_connection(self._there)
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while not self.cut.is_set() and (data := one.recv(1 << 16)):
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            end.close()


@pytest.fixture
def network() -> Iterator[FakeNetwork]:
    made = FakeNetwork()
    yield made
    made.close()


def started(world: TrainerWorld, url: str, run: str, endpoint: str = ENDPOINT) -> subprocess.Popen[bytes]:
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "FITLOOP_S3_ENDPOINT": endpoint}
    given = trainer_environment(url, **keys, FITLOOP_S3_TIMEOUT_SECONDS="1")
    return subprocess.Popen(trainer_command(world, run), env=given)


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(300)


def test_a_run_works_in_a_bucket(in_bucket: TrainerWorld) -> None:
    world = in_bucket
    world.label(30)
    run = world.request()
    with serve_label_studio(world) as url:
        assert ended(started(world, url, run)) == 0
    assert world.status(run).state is RunState.DONE
    assert world.registry.versions(world.key) == ["support-1"]
    found = world.manifest("support-1")
    assert found.lineage.base_model == str(world.base)
    assert list(world.store.keys(f"runs/{run}/checkpoints/")) == []
    written = {key.split("/")[0] for key in world.store.keys("")}
    assert written == {"encoders", "projects", "runs"}, "where it may write"


def test_resumes_from_a_checkpoint_in_the_bucket(
    in_bucket: TrainerWorld,
) -> None:
    world = in_bucket
    world.label(60)
    run = world.request(Method.FINETUNE, num_train_epochs=200.0, budget_seconds=600.0)  # seconds a part
    with serve_label_studio(world) as url:
        first = started(world, url, run)
        eventually(lambda: _is_training(world, run), 240, what="a few steps are done")
        first.send_signal(signal.SIGTERM)
        assert ended(first) == 75
        assert list(world.store.keys(f"runs/{run}/checkpoints/"))
        assert ended(started(world, url, run)) == 0
    assert world.manifest("support-1").lineage.resumed_from


BEFORE_PUBLISHING = {"features", "fitting", "judging", "exporting"}


def test_publishing_waits_for_the_bucket(in_bucket: TrainerWorld, network: FakeNetwork) -> None:
    world = in_bucket
    world.label(30)
    run = world.request()
    with serve_label_studio(world) as url:
        process = started(world, url, run, network.endpoint)
        eventually(  # each of them is over in a moment, and all come before the version is stored
            lambda: (status := world.runs.status(run)) is not None and status.stage in BEFORE_PUBLISHING, 240
        )
        network.cut.set()
        network.hang_up()
        eventually(lambda: network.refused > 8, 120)
        network.cut.clear()
        assert ended(process) == 0
    assert world.registry.versions(world.key) == ["support-1"]


def _is_training(world: TrainerWorld, run: str) -> bool:
    status = world.runs.status(run)
    return status is not None and status.stage.startswith("fine-tuning") and status.step > 3

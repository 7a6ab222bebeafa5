"""What every Rollout does: in this process, and over a predictor's pod in either mode."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.adapter.leader.workers import ThreadWorkers
from services.adapter.ports import Rollout, RolloutStatus
from services.cluster.events import EventRecorder
from services.cluster.pods import GENERATION, PredictorPods
from services.cluster.rollout import ClusterRollout
from services.cluster.workload import PredictorWorkload
from services.core.domain import Artefact, Served
from services.core.encoders import Encoders
from services.core.errors import UNUSABLE_VERSION
from services.core.registry import Registry
from services.core.serving_table import ServingTableReader
from services.core.settings import RolloutSettings, ServingSettings
from services.core.store.files import FileStore
from services.embedded.in_process import LocalRollout
from services.predictor.manager import ModelManager
from services.predictor.server import ManagementServer
from tests.support.api_server import FakeApiServer, serve_api
from tests.support.encoders import build_tiny_encoder, publish_head
from tests.support.inference import local_inference
from tests.support.versions import (
    KEY,
    build_tiny_version,
    corrupt_file,
    publish_versions,
    write_serving_table,
)
from tests.support.waiting import eventually


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artefact]:
    return build_tiny_version(tmp_path_factory.mktemp("made"))


class RolloutContract:
    """Subclasses set `rollout`; project 5 serves v-1, and v-2 can be its target."""

    registry: Registry
    rollout: Rollout

    @pytest.fixture(autouse=True)
    def _registry(self, tmp_path: Path, made: tuple[Path, Artefact]) -> None:
        self.registry = Registry(FileStore(tmp_path))
        publish_versions(self.registry, made, "v-1", "v-2")
        publish_versions(self.registry, made, "w-1", key="6-1")
        write_serving_table(self.registry, {KEY: Served("v-1")})

    def _advance(self, version: str, key: str = KEY) -> RolloutStatus:
        """Advance until the version is rolled out."""

        return self._until_done(lambda: self.rollout.advance(key, version, time.time()))

    def _check(self, version: str) -> RolloutStatus:
        return self._until_done(lambda: self.rollout.check(KEY, version))

    def _until_done(self, call: Callable[[], RolloutStatus]) -> RolloutStatus:
        def done() -> RolloutStatus | None:
            status = call()
            return status if status.done else None

        found = eventually(done)
        assert found is not None
        return found

    def test_target_is_loaded_by_every_process(self) -> None:
        write_serving_table(self.registry, {KEY: Served("v-1", target="v-2")})
        assert self._advance("v-2") == RolloutStatus(done=True)
        assert self._advance("v-2").done, "and stays loaded"

    def test_targets_of_two_projects_load_together(self) -> None:
        write_serving_table(self.registry, {KEY: Served("v-1", target="v-2"), "6-1": Served(target="w-1")})
        assert self._advance("w-1", "6-1").done
        assert self._advance("v-2").done

    def test_broken_version_is_refused_with_its_reason(self) -> None:
        corrupt_file(self.registry, "v-2")
        write_serving_table(self.registry, {KEY: Served("v-1", target="v-2")})
        with pytest.raises(UNUSABLE_VERSION, match="differs from its manifest"):
            self._advance("v-2")
        self.rollout.withdraw(KEY, "v-2")
        write_serving_table(self.registry, {KEY: Served("v-1")})
        assert self._check("v-1").done

    def test_check_of_the_served_version_is_done(self) -> None:
        assert self._check("v-1") == RolloutStatus(done=True)

    def test_withdrawing_an_unknown_version_is_harmless(self) -> None:
        self.rollout.withdraw(KEY, "v-9")  # must not raise
        assert self._check("v-1").done


class TestLocalRollout(RolloutContract):
    @pytest.fixture(autouse=True)
    def _rollout(self, _registry: None) -> Iterator[None]:
        inference = local_inference(self.registry, ServingSettings(workers=1))
        self.rollout = LocalRollout(inference, ThreadWorkers(1, "load", lambda: None))
        yield
        inference.close()


class FakePods:
    """A Deployment of one predictor whose pods run in this process: a new annotation starts a pod, then ends the old one."""

    def __init__(self, registry: Registry, api: FakeApiServer, mode: str) -> None:
        self.registry, self.api, self.mode = registry, api, mode
        self.port = 0
        self.over = threading.Event()
        api.put(
            "deployments",
            {
                "kind": "Deployment",
                "metadata": {"name": "serving"},
                "spec": {"replicas": 1, "template": {"metadata": {}}},
            },
        )
        self._start("")
        self.thread = threading.Thread(target=self._control)
        self.thread.start()

    def _start(self, generation: str) -> None:
        self.inference = local_inference(self.registry, ServingSettings(workers=1))
        self.manager = ModelManager(self.inference, ServingTableReader(self.registry.store), self.mode)  # type: ignore[arg-type]  # one of two words
        self.management = ManagementServer(self.manager, self.port, 0)
        self.management.start()
        self.port = self.management.port
        self.manager.start()
        eventually(lambda: self.manager.ready, every=0.01)
        meta = {
            "name": f"pod-{generation}",
            "labels": {"fitloop.io/predictor": "f"},
            "annotations": {GENERATION: generation},
        }
        status = {"podIP": "127.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
        self.api.put("pods", {"kind": "Pod", "metadata": meta, "status": status})

    def _stop(self) -> None:
        self.manager.stop()
        self.management.stop()
        self.inference.close()
        for pod in self.api.list_objects("pods"):
            self.api.remove("pods", pod["metadata"]["name"])

    def _control(self) -> None:
        running: Any = None
        while not self.over.wait(0.05):
            (deployment,) = self.api.list_objects("deployments")
            wanted = (deployment["spec"]["template"]["metadata"].get("annotations") or {}).get(GENERATION)
            if wanted != running:
                self._stop()
                self._start(wanted or "")
                running = wanted

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        self._stop()


@pytest.mark.parametrize("mode", ["reload", "rolling"])
class TestClusterRollout(RolloutContract):
    @pytest.fixture(autouse=True)
    def _rollout(self, _registry: None, mode: str) -> Iterator[None]:
        with serve_api(FakeApiServer()) as api:
            pods, kube = FakePods(self.registry, api, mode), api.kube()
            predictors = PredictorPods(kube, "fitloop.io/predictor=f", pods.port)
            settings = RolloutSettings(mode=mode, min_interval_seconds=0.0)
            events = EventRecorder(kube, "deployment/serving", "adapter")
            workload = PredictorWorkload(kube, "deployment/serving")
            workers = ThreadWorkers(1, "predictors", lambda: None)
            self.rollout = ClusterRollout(workload, predictors, settings, events, workers)
            self.pods = pods
            yield
            pods.close()

    def test_second_head_of_an_encoder_restarts_no_pod(self, tmp_path: Path) -> None:
        encoder = Encoders(self.registry.store).publish(
            tmp_path / "encoder", build_tiny_encoder(tmp_path / "encoder", int8=False)
        )
        for version in ("h-1", "h-2"):
            publish_head(self.registry, encoder.digest, version, KEY)
        write_serving_table(self.registry, {KEY: Served("v-1", target="h-1")})
        assert self._advance("h-1").done
        manager = self.pods.manager
        write_serving_table(self.registry, {KEY: Served("h-1", target="h-2")})
        advance = partial(self.rollout.advance, KEY, "h-2", time.time(), encoder.digest)
        assert self._until_done(advance).done
        assert self.pods.manager is manager, "the same process"
        assert {"h-1", "h-2"} <= set(manager.state()["held"][KEY])

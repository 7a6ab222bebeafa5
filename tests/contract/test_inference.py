"""What every Inference does: in this process, and over HTTP to a predictor's application."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.applications import Starlette

from services.adapter.ports import Inference
from services.cluster.inference import RemoteInference
from services.core.domain import Artefact, Served
from services.core.errors import FitloopError, Overloaded
from services.core.registry import Registry
from services.core.serving_table import ServingTableReader
from services.core.settings import ClusterSettings, ServingSettings
from services.core.store.files import FileStore
from services.predictor.manager import ModelManager
from services.predictor.routes import Routes
from tests.support.base_models import TEXTS
from tests.support.inference import local_inference
from tests.support.versions import (
    KEY,
    build_tiny_version,
    corrupt_file,
    publish_versions,
    write_serving_table,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artefact]:
    return build_tiny_version(tmp_path_factory.mktemp("made"))


class InferenceContract:
    """Subclasses set `inference`; project 5 has current v-1, previous v-2 and target v-3."""

    registry: Registry
    inference: Inference

    @pytest.fixture(autouse=True)
    def _registry(self, tmp_path: Path, made: tuple[Path, Artefact]) -> None:
        self.registry = Registry(FileStore(tmp_path))
        publish_versions(self.registry, made, "v-1", "v-2", "v-3")
        write_serving_table(self.registry, {KEY: Served("v-1", "v-2", "v-3")})

    async def test_rows_are_in_order_and_sum_to_1(self) -> None:
        together = await self.inference.scores(KEY, "v-1", TEXTS)
        assert together.labels == ("A", "B")
        assert together.probabilities.shape == (len(TEXTS), 2)
        assert together.probabilities.dtype == np.float32
        np.testing.assert_allclose(together.probabilities.sum(axis=1), 1, atol=1e-5)
        for row, text in enumerate(TEXTS[:3]):
            alone = await self.inference.scores(KEY, "v-1", [text])
            np.testing.assert_allclose(alone.probabilities[0], together.probabilities[row], atol=1e-4)

    async def test_named_version_is_loaded_on_demand(self) -> None:
        for version in ("v-1", "v-2", "v-3", "v-1"):
            assert (await self.inference.scores(KEY, version, ["a text"])).probabilities.shape == (1, 2)

    async def test_unusual_texts_are_answered(self) -> None:
        texts = ["", " ", "🙂", "Привет 你好", "\x00", "a\ud83d", "word " * 5000]
        assert (await self.inference.scores(KEY, "v-1", texts)).probabilities.shape == (len(texts), 2)

    async def test_no_texts_get_no_rows(self) -> None:
        assert (await self.inference.scores(KEY, "v-1", [])).probabilities.shape == (0, 2)

    async def test_broken_version_fails_alone(self) -> None:
        corrupt_file(self.registry, "v-2")
        for _ in range(2):
            with pytest.raises(FitloopError, match="differs from its manifest") as caught:
                await self.inference.scores(KEY, "v-2", ["a text"])
            assert not isinstance(caught.value, Overloaded)
        assert (await self.inference.scores(KEY, "v-1", ["a text"])).probabilities.shape == (1, 2)

    @pytest.mark.parametrize(("key", "version"), [(KEY, "v-9"), ("9-9", "v-1")])
    async def test_missing_version_is_an_error(self, key: str, version: str) -> None:
        with pytest.raises(FitloopError):
            await self.inference.scores(key, version, ["a text"])

    async def test_concurrent_requests_get_their_own_answers(self) -> None:
        alone = [await self.inference.scores(KEY, "v-1", [text]) for text in TEXTS]
        found = await asyncio.gather(*(self.inference.scores(KEY, "v-1", [text]) for text in TEXTS))
        for one, other in zip(alone, found, strict=True):
            np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-4)

    async def test_ready_while_running(self) -> None:
        assert await self.inference.ready()


class TestLocalInference(InferenceContract):
    @pytest.fixture(autouse=True)
    def _inference(self, _registry: None) -> Iterator[None]:
        inference = local_inference(self.registry, ServingSettings(workers=2))
        self.inference = inference
        yield
        inference.close()


class TestRemoteInference(InferenceContract):
    @pytest.fixture(autouse=True)
    def _inference(self, _registry: None) -> Iterator[None]:
        there = local_inference(self.registry, ServingSettings(workers=2))
        manager = ModelManager(there, ServingTableReader(self.registry.store), "rolling", ready=True)
        manager.read_table()
        app = Starlette(routes=Routes(there, manager).routes())
        known = ClusterSettings(predictor_url="http://models.test", predict_timeout_seconds=60.0)
        remote = RemoteInference(known, httpx.ASGITransport(app))
        self.inference = remote
        yield
        remote.close()
        there.close()

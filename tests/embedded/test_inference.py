"""In one process requests and loads are counted as a predictor counts them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core.errors import CorruptVersion, FitloopError
from services.core.registry import Registry
from services.core.settings import ServingSettings
from services.core.store.files import FileStore
from services.embedded.in_process import LocalRollout
from services.embedded.inference import CountedInference
from services.engine.inference import LocalInference
from services.predictor import metrics
from tests.support.metrics import metric_growth, metric_value
from tests.support.versions import KEY, build_tiny_version, corrupt_file, publish_versions


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Versions v-1 and v-2."""
    found = Registry(FileStore(tmp_path / "store"))
    publish_versions(found, build_tiny_version(tmp_path), "v-1", "v-2")
    return found


@pytest.fixture
def local(registry: Registry) -> Iterator[LocalInference]:
    before = metrics._versions.loaded, metrics._versions.refused
    found = LocalInference(registry, ServingSettings(workers=1))
    yield found
    found.close()
    metrics.export_versions(*before)


async def test_requests_are_counted_by_outcome(registry: Registry, local: LocalInference) -> None:
    inference = CountedInference(local)
    grown = {
        outcome: metric_growth("fitloop_predictor_requests_total", outcome=outcome)
        for outcome in metrics.OUTCOMES
    }
    seconds = metric_growth("fitloop_predictor_request_seconds_count")
    corrupt_file(registry, "v-2")
    assert await inference.ready()
    assert (await inference.scores(KEY, "v-1", ["a text"])).probabilities.shape == (1, 2)
    for version in ("v-2", "v-9"):
        with pytest.raises(FitloopError):
            await inference.scores(KEY, version, ["a text"])
    found = {outcome: count() for outcome, count in grown.items() if count()}
    assert found == {"answered": 1, "refused": 1, "unknown": 1}
    assert seconds() == 3
    assert metric_value("fitloop_predictor_version_info", project="5", version="v-1") == 1
    assert metric_value("fitloop_predictor_versions", state="refused") == 2


def test_rollout_loads_are_counted_once(registry: Registry, local: LocalInference) -> None:
    rollout = LocalRollout(local)
    grown = {
        outcome: metric_growth("fitloop_predictor_loads_total", outcome=outcome)
        for outcome in ("loaded", "refused", "failed")
    }
    corrupt_file(registry, "v-2")
    for _ in range(3):
        assert rollout.advance(KEY, "v-1", 0.0).done
    with pytest.raises(CorruptVersion):
        rollout.advance(KEY, "v-2", 0.0)
    assert {outcome: count() for outcome, count in grown.items()} == {"loaded": 1, "refused": 1, "failed": 0}

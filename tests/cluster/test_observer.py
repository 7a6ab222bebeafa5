"""The observer of predictors: reads in a worker, one at a time, and reports what the last read found."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from services.adapter.leader.workers import ThreadWorkers
from services.cluster.client import ClusterError
from services.cluster.observer import PredictorObserver
from services.cluster.pods import PredictorPod
from tests.support.waiting import eventually
from tests.support.workers import InlineWorkers

POD = PredictorPod("a", True)


class Predictors:
    """Reads of the pods, which can hang or fail."""

    def __init__(self) -> None:
        self.now = 100.0
        self.answering = threading.Event()
        self.answering.set()
        self.error: Exception | None = None
        self.reads = 0

    def read(self) -> list[PredictorPod]:
        self.reads += 1
        assert self.answering.wait(30)
        if self.error:
            raise self.error
        return [POD]

    def observer(self, workers: InlineWorkers | ThreadWorkers) -> PredictorObserver:
        return PredictorObserver(self.read, lambda: {"spec": {}}, workers, lambda: self.now)


@pytest.fixture
def predictors() -> Iterator[Predictors]:
    made = Predictors()
    yield made
    made.answering.set()


def test_nothing_waits_for_a_predictor_that_hangs(predictors: Predictors) -> None:
    finished = threading.Event()
    observer = predictors.observer(ThreadWorkers(1, "predictors", finished.set))
    predictors.answering.clear()
    for _ in range(3):
        assert observer.latest() is None
        predictors.now += 1
    predictors.answering.set()
    assert finished.wait(30)
    seen = eventually(observer.latest)
    assert seen is not None
    assert (seen.began, seen.pods, seen.workload) == (100.0, [POD], {"spec": {}})


def test_reads_are_shared_for_a_moment(predictors: Predictors) -> None:
    observer = predictors.observer(InlineWorkers())
    assert observer.latest() is observer.latest()
    assert predictors.reads == 1
    predictors.now += 0.25
    seen = observer.latest()
    assert seen is not None
    assert (seen.began, predictors.reads) == (100.25, 2)


def test_error_is_raised_until_a_read_succeeds(predictors: Predictors) -> None:
    observer = predictors.observer(InlineWorkers())
    predictors.error = ClusterError("No right to list pods.")
    for _ in range(2):
        with pytest.raises(ClusterError, match="No right"):
            observer.latest()
    predictors.error = None
    predictors.now += 1
    assert observer.latest() is not None

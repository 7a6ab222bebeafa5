from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from services.core.errors import EngineError, Overloaded
from services.engine.compute import Logits, Scores, TokenIds
from services.engine.encoder import TextEncoder
from services.engine.head import Head
from services.engine.model import Model
from services.engine.scheduler import Scheduler
from services.engine.tokenise import configure_tokenizer
from tests.support.metrics import metric_growth
from tests.support.waiting import eventually

WORDS = {f"w{n}": n for n in range(50)}
LABELS = ("first", "second")


class FakeEngine:
    """Logits are the sum of a text's ids and its length: an answer for another text would show."""

    kind = "arithmetic"
    width = 2

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()
        self.started = threading.Event()
        self.fails_on: int | None = None

    def forward(self, batch: Sequence[TokenIds]) -> Logits:
        self.batches.append([len(ids) for ids in batch])
        self.started.set()
        self.go.wait(10)
        if any(self.fails_on in ids for ids in batch):
            raise ZeroDivisionError("made to fail")
        return np.array([[sum(ids) / 100, len(ids) / 100] for ids in batch], np.float32)

    def close(self) -> None:
        pass


def _build_model(engine: FakeEngine) -> Model:
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return Model(LABELS, TextEncoder(engine, configure_tokenizer(tokenizer, 300)), Head())


def _answers(answer: Future[Scores]) -> int:
    return len(answer.result(10).probabilities)


@contextmanager
def _running_scheduler(streams: int = 2, queue_texts: int = 1000) -> Iterator[Scheduler]:
    scheduler = Scheduler(streams, queue_texts)
    try:
        yield scheduler
    finally:
        scheduler.close()


TEXT = st.lists(st.integers(0, 49), min_size=1, max_size=40).map(lambda ids: " ".join(f"w{n}" for n in ids))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.lists(TEXT, max_size=30)), min_size=1, max_size=8),
    st.integers(1, 3),
    st.booleans(),
)
def test_every_text_is_answered_once_in_order(
    requests: list[tuple[int, list[str]]], streams: int, defer: bool
) -> None:
    engines = [FakeEngine(), FakeEngine()]
    models = [_build_model(engine) for engine in engines]
    with _running_scheduler(streams) as scheduler, ThreadPoolExecutor(4) as clients:
        submitted = clients.map(
            lambda request: scheduler.submit(models[request[0]], request[1], defer=defer), requests
        )
        for (number, texts), answer in zip(requests, submitted, strict=True):
            scores = answer.result(10)
            expected = models[number].scores_of(texts)
            assert scores.labels == LABELS
            assert np.allclose(scores.probabilities, expected.probabilities)
        assert scheduler.waiting == 0


def test_requests_share_a_batch() -> None:
    engine = FakeEngine()
    model = _build_model(engine)
    with _running_scheduler(streams=1) as scheduler:
        engine.go.clear()
        first = scheduler.submit(model, ["w1"])
        engine.started.wait(10)
        others = [scheduler.submit(model, [f"w{n} w{n}"]) for n in range(5)]
        engine.go.set()
        assert sum(map(_answers, [first, *others])) == 6
    assert engine.batches == [[1], [2] * 5]


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_streams_compute_in_parallel(streams: int) -> None:
    engines = [FakeEngine() for _ in range(4)]
    for engine in engines:
        engine.go.clear()
    with _running_scheduler(streams) as scheduler:
        answers = [scheduler.submit(_build_model(engine), ["w1"]) for engine in engines]
        eventually(lambda: sum(engine.started.is_set() for engine in engines) >= streams)
        alive = [thread for thread in threading.enumerate() if thread.name.startswith("fitloop-stream-")]
        assert len(alive) == streams
        assert scheduler.waiting == len(engines) - streams
        for engine in engines:
            engine.go.set()
        assert sum(map(_answers, answers)) == len(engines)


def test_single_text_overtakes_a_large_request() -> None:
    engine = FakeEngine()
    model = _build_model(engine)
    with _running_scheduler(streams=1) as scheduler:
        engine.go.clear()
        large = scheduler.submit(model, ["w1 " * 200] * 50)
        engine.started.wait(10)
        lone = scheduler.submit(model, ["w1"])
        engine.go.set()
        assert _answers(lone) == 1
        large.result(10)
    assert [1] in engine.batches[:3]


def test_deferred_requests_are_tokenised_together(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, asked = FakeEngine(), list[list[str]]()
    model = _build_model(engine)
    original = TextEncoder.encode

    def recorded(self: TextEncoder, texts: Sequence[str]) -> list[list[int]]:
        asked.append(list(texts))
        return original(self, texts)

    monkeypatch.setattr(TextEncoder, "encode", recorded)
    with _running_scheduler(streams=1) as scheduler:
        engine.go.clear()
        first = scheduler.submit(model, ["w1"], defer=True)
        engine.started.wait(10)
        others = [scheduler.submit(model, [f"w{n}"], defer=True) for n in range(2, 5)]
        assert scheduler.waiting == 3
        engine.go.set()
        assert sum(map(_answers, [first, *others])) == 4
    assert asked == [["w1"], ["w2", "w3", "w4"]]
    assert engine.batches == [[1], [1, 1, 1]]


def test_a_deferred_request_may_be_given_up() -> None:
    engine = FakeEngine()
    model = _build_model(engine)
    with _running_scheduler(streams=1) as scheduler:
        engine.go.clear()
        first = scheduler.submit(model, ["w1"])
        engine.started.wait(10)
        given_up = scheduler.submit(model, ["w2"], defer=True)
        assert given_up.cancel()
        assert scheduler.waiting == 0
        engine.go.set()
        assert _answers(first) == 1
        assert _answers(scheduler.submit(model, ["w3"], defer=True)) == 1
    assert engine.batches == [[1], [1]]


def test_deferred_requests_fail_alone() -> None:
    with _running_scheduler(streams=1) as scheduler:
        broken = scheduler.submit(_build_model(FakeEngine()), [3], defer=True)  # type: ignore[list-item]  # the mistake is the point
        with pytest.raises(EngineError, match="could not compute"):
            broken.result(10)
        assert scheduler.waiting == 0
        assert _answers(scheduler.submit(_build_model(FakeEngine()), ["w1"], defer=True)) == 1


def test_deferred_requests_are_refused_at_the_end() -> None:
    engine = FakeEngine()
    model, scheduler = _build_model(engine), Scheduler(1, 100)
    engine.go.clear()
    first = scheduler.submit(model, ["w1"])
    engine.started.wait(10)
    waiting = scheduler.submit(model, ["w2"], defer=True)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    eventually(lambda: scheduler._closed)
    engine.go.set()
    closing.join(10)
    assert _answers(first) == 1
    with pytest.raises(Overloaded, match="shutting down"):
        waiting.result(10)


def test_full_queue_is_overloaded_until_it_drains() -> None:
    engine = FakeEngine()
    model = _build_model(engine)
    with _running_scheduler(streams=1, queue_texts=10) as scheduler:
        engine.go.clear()
        blocking = scheduler.submit(model, ["w1"])
        engine.started.wait(10)
        waiting = scheduler.submit(model, ["w2"] * 8)
        with pytest.raises(Overloaded, match="8 texts are queued, of at most 10"):
            scheduler.submit(model, ["w3"] * 3)
        engine.go.set()
        assert len(waiting.result(10).probabilities) == 8
        assert _answers(blocking) == 1
        assert len(scheduler.submit(model, ["w3"] * 3).result(10).probabilities) == 3


def test_oversized_request_is_accepted_when_idle() -> None:
    with _running_scheduler(queue_texts=10) as scheduler:
        model = _build_model(FakeEngine())
        assert len(scheduler.submit(model, ["w1"] * 25).result(10).probabilities) == 25


def test_no_texts_get_no_scores() -> None:
    with _running_scheduler() as scheduler:
        assert scheduler.submit(_build_model(FakeEngine()), []).result(10).probabilities.shape == (0, 2)


def test_engine_error_fails_only_its_batch() -> None:
    engine = FakeEngine()
    model = _build_model(engine)
    engine.fails_on = 49
    with _running_scheduler(streams=1) as scheduler:
        engine.go.clear()
        fine = scheduler.submit(model, ["w1"])
        engine.started.wait(10)
        broken = scheduler.submit(model, ["w49 " * 250, "w2", "w3"])
        later = scheduler.submit(model, ["w4 w5 w6"])
        engine.go.set()
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            broken.result(10)
        assert _answers(fine) == 1
        assert _answers(later) == 1
        assert scheduler.waiting == 0
        assert _answers(scheduler.submit(model, ["w1"])) == 1, "the stream lives on"


def test_wrong_output_shape_is_an_engine_error() -> None:
    model = _build_model(FakeEngine())
    model.encoder.engine.width = 3
    with _running_scheduler() as scheduler, pytest.raises(EngineError, match="3 features"):
        scheduler.submit(model, ["w1"]).result(10)


def test_cancelled_request_leaves_the_queue() -> None:
    engine = FakeEngine()
    model = _build_model(engine)
    with _running_scheduler(streams=1, queue_texts=10) as scheduler:
        engine.go.clear()
        first = scheduler.submit(model, ["w1"])
        engine.started.wait(10)
        given_up = scheduler.submit(model, ["w2 w2"] * 10)
        assert given_up.cancel()
        assert scheduler.waiting == 0
        engine.go.set()
        assert _answers(first) == 1
    assert engine.batches == [[1]]


def test_cancelling_during_computation_is_harmless() -> None:
    engine = FakeEngine()
    model = _build_model(engine)
    with _running_scheduler(streams=1) as scheduler:
        engine.go.clear()
        given_up = scheduler.submit(model, ["w1"])
        engine.started.wait(10)
        assert given_up.cancel()
        engine.go.set()
        assert _answers(scheduler.submit(model, ["w2"])) == 1


def test_encoding_error_frees_the_queue() -> None:
    with _running_scheduler() as scheduler:
        with pytest.raises(TypeError):
            scheduler.submit(_build_model(FakeEngine()), [3])  # type: ignore[list-item]  # the mistake is the point
        assert scheduler.waiting == 0


def test_close_fails_waiting_requests() -> None:
    engine = FakeEngine()
    model = _build_model(engine)
    before = threading.active_count()
    scheduler = Scheduler(2, 100)
    engine.go.clear()
    working = [scheduler.submit(model, ["w1 " * 200]) for _ in range(2)]
    eventually(lambda: len(engine.batches) == 2)
    waiting = scheduler.submit(model, ["w2"])
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    engine.go.set()
    closing.join(10)
    assert sum(map(_answers, working)) == 2
    with pytest.raises(Overloaded, match="shutting down"):
        waiting.result(10)
    with pytest.raises(Overloaded, match="shutting down"):
        scheduler.submit(model, ["w1"])
    assert threading.active_count() == before


def test_concurrent_submits() -> None:
    model = _build_model(FakeEngine())
    with _running_scheduler(streams=2) as scheduler, ThreadPoolExecutor(16) as clients:
        asked = [[f"w{n % 50} " * (1 + n % 7)] for n in range(300)]
        answers = list(clients.map(lambda texts: scheduler.submit(model, texts).result(10), asked))
    expected = [model.scores_of(texts).probabilities for texts in asked]
    assert np.allclose([answer.probabilities for answer in answers], expected)


def test_scheduler_does_not_keep_models_alive() -> None:
    with _running_scheduler() as scheduler:
        scheduler.submit(_build_model(FakeEngine()), ["w1"] * 20).result(10)
        assert not scheduler._queues
        assert not scheduler._round_robin


def test_two_failing_batches_of_one_request() -> None:
    engine = FakeEngine()
    model = _build_model(engine)
    engine.fails_on = 49
    with _running_scheduler(streams=2) as scheduler:
        engine.go.clear()
        broken = scheduler.submit(model, ["w49 " * 250, "w49"])
        eventually(lambda: len(engine.batches) == 2)
        engine.go.set()
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            broken.result(10)
        engine.fails_on = None
        assert sum(_answers(scheduler.submit(model, ["w1"])) for _ in range(4)) == 4


def test_scoring_error_does_not_end_a_stream() -> None:
    model = _build_model(FakeEngine())
    fine, model.scores = model.scores, None  # type: ignore[method-assign,assignment]  # broken on purpose
    with _running_scheduler(streams=1) as scheduler:
        with pytest.raises(EngineError, match="TypeError"):
            scheduler.submit(model, ["w1"]).result(10)
        model.scores = fine  # type: ignore[method-assign]  # and repaired
        assert _answers(scheduler.submit(model, ["w1"])) == 1


def test_request_stages_are_measured() -> None:
    """A request is observed once for tokenising and once for queueing; a batch once, with its padding."""
    engine = FakeEngine()
    model = _build_model(engine)
    names = ("tokenise_seconds_count", "queue_seconds_count", "inference_seconds_count", "texts_total")
    grown = [metric_growth(f"fitloop_engine_{name}") for name in names]
    tokens, padding = (metric_growth(f"fitloop_engine_{name}_total") for name in ("tokens", "padding_tokens"))
    waited = metric_growth("fitloop_engine_queue_seconds_sum")
    with _running_scheduler(streams=1) as scheduler:
        engine.go.clear()
        first = scheduler.submit(model, ["w1 w1 w1"])
        engine.started.wait(10)
        second = scheduler.submit(model, ["w1", "w2 w2"])
        engine.go.set()
        assert _answers(first) + _answers(second) == 3
    assert [found() for found in grown] == [2, 2, 2, 3]
    assert (tokens(), padding()) == (6, 1)
    assert 0 < waited() < 10


def test_failed_batch_is_not_counted_full_queue_is() -> None:
    engine = FakeEngine()
    model = _build_model(engine)
    engine.fails_on = 1
    texts, rejected = (
        metric_growth("fitloop_engine_texts_total"),
        metric_growth("fitloop_engine_rejected_total", reason="queue_full"),
    )
    with _running_scheduler(streams=1, queue_texts=2) as scheduler:
        engine.go.clear()
        broken = scheduler.submit(model, ["w1"])
        engine.started.wait(10)
        waiting = scheduler.submit(model, ["w1"])
        with pytest.raises(Overloaded):
            scheduler.submit(model, ["w2"] * 2)
        engine.go.set()
        for answer in (broken, waiting):
            with pytest.raises(EngineError):
                answer.result(10)
    assert (texts(), rejected()) == (0, 1)
    with pytest.raises(Overloaded):
        scheduler.submit(model, ["w2"])
    assert rejected() == 1, "a process that ends is no full queue"

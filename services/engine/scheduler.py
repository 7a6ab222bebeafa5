"""Batch texts across requests and compute them in N streams; no timer.

Requests are served round robin: each turn anchors a batch at the longest waiting text of the next request, and neighbours
in length from any request for the same model fill it (`compute.batch_window`). So a single text waits for at most one turn
of each earlier request, a large request is computed in sorted order, and no request starves. `submit` tokenises in the
calling thread: never call it on an event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import count
from threading import Condition, Thread
from time import perf_counter
from typing import NamedTuple

import numpy as np
import structlog

from services.core.errors import EngineError, Overloaded
from services.core.telemetry.logs import safe_traceback
from services.engine import metrics
from services.engine.compute import Logits, Scores, TokenIds, batch_window, forward, token_budget
from services.engine.model import Model

log = structlog.get_logger()


class _Item(NamedTuple):
    length: int
    serial: int
    """Unique, so that comparing two items never compares `ids`."""
    ids: TokenIds
    request: _Request
    row: int


class _Request:
    __slots__ = ("dequeued", "entered", "finished", "future", "items", "left", "logits", "model", "waited")

    def __init__(self, model: Model, encoded: Sequence[TokenIds], serials: Iterator[int]) -> None:
        self.model = model
        self.future: Future[Scores] = Future()
        self.finished = False
        self.items = sorted(_Item(len(ids), next(serials), ids, self, row) for row, ids in enumerate(encoded))
        self.dequeued = bytearray(len(encoded))
        self.left = len(encoded)
        """Rows not answered yet."""
        self.logits = np.empty((len(encoded), len(model.labels)), np.float32)
        self.entered = perf_counter()
        self.waited: float | None = None
        """Seconds until the first batch with one of its texts."""

    def anchor(self) -> _Item | None:
        """Return the longest text that is not in a batch yet."""
        while self.items and self.dequeued[self.items[-1].row]:
            self.items.pop()
        return self.items[-1] if self.items else None


class Scheduler:
    """Computes for any number of models. `queue_texts` bounds the queue; an empty one accepts a larger request."""

    def __init__(self, streams: int, queue_texts: int) -> None:
        self._streams = streams
        self._queue_texts = queue_texts
        self._condition = Condition()
        self._round_robin: deque[_Request] = deque()
        self._queues: dict[Model, list[_Item]] = {}
        self._accepted = 0
        self._tokens = 0
        self._serials = count()
        self._closed = False
        self._threads = [
            Thread(target=self._work, name=f"fitloop-stream-{n}", daemon=True) for n in range(streams)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Return the number of texts that were accepted and are not being computed yet."""
        return self._accepted

    def submit(self, model: Model, texts: Sequence[str]) -> Future[Scores]:
        """Return a future of the scores of `texts`, in their order; cancelling it removes them from the queue.

        Raises Overloaded at once if the queue is full or closed. The future raises EngineError.
        """
        self._accept(len(texts))
        began = perf_counter()
        try:
            request = _Request(model, model.encode(texts), self._serials)
        except BaseException:
            self._free_places(len(texts))
            raise
        metrics.observe_tokenising(request.entered - began)
        if texts:
            self._enqueue(request)
        else:
            request.future.set_result(model.scores(request.logits))
        return request.future

    def close(self) -> None:
        """End the streams after their current batches; queued requests get Overloaded."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()
        self._fail(
            {request for line in self._queues.values() for _, _, _, request, _ in line}, _closed_error()
        )

    def _accept(self, texts: int) -> None:
        with self._condition:
            if self._closed:
                raise _closed_error()
            if self._accepted and self._accepted + texts > self._queue_texts:
                metrics.count_rejection("queue_full")
                raise Overloaded(
                    f"{self._accepted} texts are queued, of at most {self._queue_texts}: try again in a moment."
                )
            self._accepted += texts

    def _free_places(self, texts: int) -> None:
        with self._condition:
            self._accepted -= texts

    def _enqueue(self, request: _Request) -> None:
        with self._condition:
            if self._closed:
                raise _closed_error()
            line = self._queues.setdefault(request.model, [])
            line.extend(request.items)
            line.sort()
            self._tokens += sum(item.length for item in request.items)
            self._round_robin.append(request)
            self._condition.notify(self._streams)
        request.future.add_done_callback(
            lambda future: self._discard({request}) if future.cancelled() else None
        )

    def _work(self) -> None:
        while batch := self._next_batch():
            self._compute(batch)

    def _next_batch(self) -> list[_Item]:
        """Wait for the next batch; an empty one once the scheduler is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._closed or self._queues)
            if self._closed:
                return []
            while (anchor := self._round_robin[0].anchor()) is None:
                self._round_robin.popleft()
            self._round_robin.rotate(-1)
            return self._take_batch(anchor)

    def _take_batch(self, anchor: _Item) -> list[_Item]:
        model = anchor.request.model
        line = self._queues[model]
        start, stop = batch_window(
            line,
            bisect_left(line, anchor),
            lambda item: item.length,
            token_budget(self._tokens, self._streams),
        )
        batch = line[start:stop]
        del line[start:stop]
        self._dequeue(model, batch)
        now = perf_counter()
        for request in {item.request for item in batch if item.request.waited is None}:
            request.waited = now - request.entered
        return batch

    def _dequeue(self, model: Model, dropped: Iterable[_Item]) -> None:
        for item in dropped:
            item.request.dequeued[item.row] = 1
            self._accepted -= 1
            self._tokens -= item.length
        # An empty queue must keep neither models nor requests alive.
        if not self._queues[model]:
            del self._queues[model]
        if not self._queues:
            self._round_robin.clear()

    def _compute(self, batch: list[_Item]) -> None:
        model = batch[0].request.model
        try:
            began = perf_counter()
            logits = forward(model.engine, [item.ids for item in batch], len(model.labels))
            metrics.observe_batch([item.length for item in batch], perf_counter() - began)
            self._answer(batch, logits)
        except Exception as error:  # noqa: BLE001  # any error of a library goes to the requests of this batch alone
            self._fail({item.request for item in batch}, _as_engine_error(error))

    def _answer(self, batch: list[_Item], logits: Logits) -> None:
        with self._condition:
            for item, row in zip(batch, logits, strict=True):
                item.request.logits[item.row] = row
                item.request.left -= 1
            done = {item.request for item in batch if item.request.left == 0}
        for request in done:
            scores = request.model.scores(request.logits)
            metrics.observe_queueing(request.waited or 0.0)
            if self._claim_answer(request):
                request.future.set_result(scores)

    def _fail(self, requests: set[_Request], error: Exception) -> None:
        self._discard(requests)
        for request in requests:
            if self._claim_answer(request):
                request.future.set_exception(error)

    def _claim_answer(self, request: _Request) -> bool:
        """Return whether this call may resolve the future: two batches may fail, and it may be cancelled."""
        with self._condition:
            first, request.finished = not request.finished, True
        return first and request.future.set_running_or_notify_cancel()

    def _discard(self, requests: set[_Request]) -> None:
        """Remove the queued texts of these requests."""
        with self._condition:
            for model in {request.model for request in requests} & self._queues.keys():
                line = self._queues[model]
                dropped = [item for item in line if item.request in requests]
                line[:] = [item for item in line if item.request not in requests]
                self._dequeue(model, dropped)


def _closed_error() -> Overloaded:
    return Overloaded("This process is shutting down: try again in a moment.")


def _as_engine_error(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    log.error("batch_error", frames=safe_traceback(error))  # without its message, which may contain a text
    wrapped = EngineError(f"The model could not compute a batch ({type(error).__name__}): see the log.")
    wrapped.__cause__ = error
    return wrapped

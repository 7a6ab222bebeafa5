"""Batch texts across requests and compute them in N streams; no timer.

Requests are served round robin: each turn anchors a batch at the longest waiting text of the next request, and neighbours
in length from any request for the same encoder fill it: texts of different projects and versions share a batch, and each
request then meets its own head (`compute.batch_window`). So a single text waits for at most one turn
of each earlier request, a large request is computed in sorted order, and no request starves. `submit` tokenises in the
calling thread: never call it so on an event loop. With `defer` the next free stream does it, for all such requests at once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from itertools import count, islice
from threading import Condition, Thread
from time import perf_counter

import numpy as np

from services.core.errors import FitloopError
from services.engine import metrics, processor
from services.engine.compute import Features, Scores, batch_window, forward, token_budget
from services.engine.encoder import TextEncoder
from services.engine.failures import as_engine_error, closed_error
from services.engine.model import Model
from services.engine.places import Places
from services.engine.queued import QueuedRequest, QueuedText
from services.engine.recent import Known


class Scheduler:
    """Computes for any number of models. `queue_texts` bounds the queue; an empty one accepts a larger request."""

    def __init__(self, streams: int, queue_texts: int) -> None:
        self._streams = streams
        self._places = Places(queue_texts)
        self._condition = Condition()
        self._arrivals: list[QueuedRequest] = []  # to be tokenised
        self._round_robin: deque[QueuedRequest] = deque()
        self._queues: dict[TextEncoder, list[QueuedText]] = {}
        self._tokens = 0
        self._serials = count()
        self._closed = False
        self.idle = 0
        """Streams that wait for work."""
        processor.limit_blas_to_one_thread()
        self._threads = [
            Thread(target=self._work, name=f"fitloop-stream-{n}", daemon=True) for n in range(streams)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Return the number of accepted texts that are not being computed yet."""
        return self._places.taken

    def submit(
        self,
        model: Model,
        texts: Sequence[str],
        project_key: str = "",
        known: Known | None = None,
        *,
        defer: bool = False,
    ) -> Future[Scores]:
        """Return a future of the scores of `texts`, in their order; cancelling it removes them from the queue.

        Only the missing rows of `known` are computed, and then stand in it. `defer`: for a few short texts, since a stream tokenises
        them. Raises Overloaded at once if the queue is full, also of this project's texts, or closed. The future raises EngineError.
        """
        known = known or Known(np.empty((len(texts), model.encoder.width), np.float32), range(len(texts)))
        request = QueuedRequest(model, known, [texts[row] for row in known.missing], project_key)
        with self._condition:
            if self._closed:
                raise closed_error()
            self._places.take(project_key, len(known.missing))
            if defer and known.missing:
                self._arrivals.append(request)
                self._condition.notify()
        if not known.missing:
            request.future.set_result(model.scores(request.features))
            return request.future
        if not defer:
            self._tokenise([request])
            request.entered = perf_counter()
            self._enqueue([request])
        request.future.add_done_callback(lambda done: self._discard({request}) if done.cancelled() else None)
        return request.future

    def close(self) -> None:
        """End the streams after their current batches; queued requests get Overloaded."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()
        queued = {request for line in self._queues.values() for _, _, _, request, _ in line}
        self._fail({*queued, *self._arrivals}, closed_error())

    def _tokenise(self, requests: Sequence[QueuedRequest]) -> None:
        """Tokenise requests for one encoder in this thread; if that raises, their places are free again."""
        began, texts = perf_counter(), [text for request in requests for text in request.texts]
        try:
            encoded = iter(requests[0].model.encoder.encode(texts))
            for request in requests:
                request.tokenised(list(islice(encoded, len(request.texts))), self._serials)
                metrics.observe_tokenising(perf_counter() - began)
        except BaseException:
            with self._condition:
                for request in requests:
                    self._places.free(request.project_key, len(request.texts))
            raise

    def _enqueue(self, requests: Sequence[QueuedRequest], streams: int = -1) -> None:
        """Queue tokenised requests, and wake that many streams, all by default."""
        with self._condition:
            if self._closed:
                raise closed_error()
            line = self._queues.setdefault(requests[0].model.encoder, [])
            for request in requests:
                line.extend(request.items)
                self._tokens += sum(item.length for item in request.items)
            line.sort()
            self._round_robin.extend(requests)
            self._condition.notify(self._streams if streams < 0 else streams)

    def _work(self) -> None:
        while not self._closed:
            arrived, batch = self._next_work()
            if arrived:
                self._admit(arrived)
            elif batch:
                self._compute(batch)

    def _next_work(self) -> tuple[list[QueuedRequest], list[QueuedText]]:
        """Wait for requests of one encoder to tokenise, or for the next batch; neither once the scheduler is closed."""
        with self._condition:
            self.idle += 1
            self._condition.wait_for(lambda: self._closed or self._queues or self._arrivals)
            self.idle -= 1
            if self._closed:
                return [], []
            if self._arrivals:
                encoder = self._arrivals[0].model.encoder
                arrived = [request for request in self._arrivals if request.model.encoder is encoder]
                self._arrivals = [
                    request for request in self._arrivals if request.model.encoder is not encoder
                ]
                return arrived, []
            while (anchor := self._round_robin[0].anchor()) is None:
                self._round_robin.popleft()
            self._round_robin.rotate(-1)
            return [], self._take_batch(anchor)

    def _admit(self, requests: list[QueuedRequest]) -> None:
        """Tokenise and queue requests that arrived; this stream then takes the first batch itself."""
        try:
            self._tokenise(requests)
            self._enqueue(requests, len(requests) - 1)
        except Exception as error:  # noqa: BLE001  # any error of a library goes to these requests alone
            self._fail(set(requests), error if isinstance(error, FitloopError) else as_engine_error(error))

    def _take_batch(self, anchor: QueuedText) -> list[QueuedText]:
        encoder = anchor.request.model.encoder
        line = self._queues[encoder]
        start, stop = batch_window(
            line,
            bisect_left(line, anchor),
            lambda item: item.length,
            token_budget(self._tokens, self._streams, encoder.engine.kind),
        )
        batch = line[start:stop]
        del line[start:stop]
        self._dequeue(encoder, batch)
        now = perf_counter()
        for request in {item.request for item in batch if item.request.waited is None}:
            request.waited = now - request.entered
        return batch

    def _dequeue(self, encoder: TextEncoder, dropped: Iterable[QueuedText]) -> None:
        for item in dropped:
            item.request.dequeued[item.row] = 1
            self._places.free(item.request.project_key)
            self._tokens -= item.length
        # An empty queue must keep neither encoders nor requests alive.
        if not self._queues[encoder]:
            del self._queues[encoder]
        if not self._queues:
            self._round_robin.clear()

    def _compute(self, batch: list[QueuedText]) -> None:
        engine = batch[0].request.model.encoder.engine
        try:
            began = perf_counter()
            features = forward(engine, [item.ids for item in batch])
            metrics.observe_batch([item.length for item in batch], perf_counter() - began)
            self._answer(batch, features)
        except Exception as error:  # noqa: BLE001  # any error of a library goes to the requests of this batch alone
            self._fail({item.request for item in batch}, as_engine_error(error))

    def _answer(self, batch: list[QueuedText], features: Features) -> None:
        with self._condition:
            for item, row in zip(batch, features, strict=True):
                item.request.features[item.row] = row
                item.request.left -= 1
            done = {item.request for item in batch if item.request.left == 0}
        for request in done:
            scores = request.model.scores(request.features)
            metrics.observe_queueing(request.waited or 0.0)
            if self._claim_answer(request):
                request.future.set_result(scores)

    def _fail(self, requests: set[QueuedRequest], error: Exception) -> None:
        self._discard(requests)
        for request in requests:
            if self._claim_answer(request):
                request.future.set_exception(error)

    def _claim_answer(self, request: QueuedRequest) -> bool:
        """Return whether this call may resolve the future: two batches may fail, and it may be cancelled."""
        with self._condition:
            first, request.finished = not request.finished, True
        return first and request.future.set_running_or_notify_cancel()

    def _discard(self, requests: set[QueuedRequest]) -> None:
        """Remove the queued texts of these requests."""
        with self._condition:
            for request in requests.intersection(self._arrivals):
                self._arrivals.remove(request)
                self._places.free(request.project_key, request.left)
            for encoder in {request.model.encoder for request in requests} & self._queues.keys():
                line = self._queues[encoder]
                dropped = [item for item in line if item.request in requests]
                line[:] = [item for item in line if item.request not in requests]
                self._dequeue(encoder, dropped)

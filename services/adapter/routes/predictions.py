"""POST /predict: a prediction for each task, in order; a task that cannot be predicted gets [], and the others theirs.

What is asked for is the version that /setup tells Label Studio, so both always name the same. Reading texts and writing
regions are pure (`adapter/suggestions.py`); large requests do both in a thread, piece by piece: what one needs in memory is
its own size, and predictors are never asked for more than a piece at once.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from services.adapter import metrics
from services.adapter.metrics import PredictionOutcome
from services.adapter.ports import Inference
from services.adapter.routes.bodies import (
    LARGE_BODY,
    ListSplitter,
    NotReady,
    parse_elements,
    parse_project_id,
    run_by_size,
)
from services.adapter.state.board import Board, ProjectView
from services.adapter.suggestions import are_probabilities, build_prediction, readable_text
from services.core.errors import BadRequest, EngineError, Overloaded
from services.core.http.limits import read_chunks, reservation_of
from services.core.telemetry import tracing
from services.engine.compute import Scores

MAX_REQUEST_BYTES: Final = 256 << 20
"""Bytes of a request: some half a million short tasks, where the budget of the process allows it."""
_ANSWER_BYTES = 200
"""Bytes of an answer for one task: by this its size is known before it is made."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The tasks of a request that can be predicted."""

    tasks: int
    view: ProjectView | None
    version: str = ""
    """The one that /setup told of when the request came; asked for and named by the answer, whatever is told of meanwhile."""
    positions: tuple[int, ...] = ()
    """Where each text's answer goes."""
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Predictions:
    """The route."""

    board: Board
    inference: Inference

    async def predict(self, request: Request) -> Response:
        """One list of predictions a task."""
        if not self.board.ready.is_set():
            raise NotReady("Fitloop is still reading its state: ask again in a few seconds.")
        envelope, pieces = await _read(request)
        number = parse_project_id(envelope.get("project"))
        view, now = None if number is None else self.board.view(number), time.time()
        answers, holding = list[bytes](), reservation_of(request)
        while pieces:
            if answers and await request.is_disconnected():
                raise ClientDisconnect
            piece = pieces.popleft()
            asked = await run_by_size(len(piece), _parse_piece, piece, not answers, view, now)
            answers.append(await self._predict(asked))
            holding.release(len(piece))
            holding.reserve(len(answers[-1]))
        return _respond(answers)

    async def _predict(self, asked: Batch) -> bytes:
        if not asked.texts:
            return b",".join([b"[]"] * asked.tasks)
        with _count_failures(len(asked.texts)):
            scores = await self._scores(asked)
            return await run_by_size(len(asked.texts) * _ANSWER_BYTES, build_answer, asked, scores)

    async def _scores(self, asked: Batch) -> Scores:
        assert asked.view is not None  # noqa: S101  # for the type checker: there are texts only then
        said: dict[str, int | str] = {"project": asked.view.project.id, "version": asked.version}
        structlog.contextvars.bind_contextvars(**said)
        with tracing.span("inference", {"texts": len(asked.texts), **said}, kind=tracing.SpanKind.CLIENT):
            return await self.inference.scores(asked.view.project.key, asked.version, asked.texts)


async def _read(request: Request) -> tuple[dict[str, Any], deque[bytes]]:
    """All but the tasks, and these in pieces that are not parsed yet. Raises BadRequest, TooLarge, Overloaded, Compressed."""
    cutter, pieces = ListSplitter("tasks"), deque[bytes]()
    async for chunk in read_chunks(request, MAX_REQUEST_BYTES):
        pieces += await run_by_size(len(chunk), cutter.feed, chunk)
    envelope = cutter.envelope()
    if not isinstance(envelope.get("tasks"), list):
        raise BadRequest('The body needs "tasks": a list of Label Studio tasks.')
    return envelope, pieces


def _parse_piece(piece: bytes, first: bool, view: ProjectView | None, now: float) -> Batch:
    return select_tasks(parse_elements(piece, first=first), view, now)


@contextlib.contextmanager
def _count_failures(texts: int) -> Iterator[None]:
    """Whatever kept them from being answered, a slip of ours included, is in the figures that alerts read."""
    try:
        yield
    except Overloaded:
        metrics.count_predictions(PredictionOutcome.OVERLOADED, texts)
        raise
    except Exception:  # counted, and raised again
        metrics.count_predictions(PredictionOutcome.FAILED, texts)
        raise


def select_tasks(tasks: Sequence[object], view: ProjectView | None, now: float) -> Batch:
    """Which tasks can be predicted: none where the project has no model of the question that it asks."""
    version = view.served.effective_version(now) if view else None
    if view is None or view.space is None or version is None or version in view.foreign:
        metrics.count_predictions(PredictionOutcome.NO_MODEL, len(tasks))
        return Batch(len(tasks), view)
    texts = {
        position: text for position, task in enumerate(tasks) if (text := readable_text(view.space, task))
    }
    metrics.count_predictions(PredictionOutcome.NO_TEXT, len(tasks) - len(texts))
    return Batch(len(tasks), view, version, tuple(texts), tuple(texts.values()))


def build_answer(asked: Batch, scores: Scores) -> bytes:
    """The tasks' answers in JSON, without brackets around them. Raises EngineError where the scores are not one row a text."""
    assert asked.view is not None and asked.view.space is not None  # noqa: PT018, S101  # for the type checker, as above
    if scores.probabilities.shape != (len(asked.texts), len(scores.labels)):
        raise EngineError(f"Version {asked.version} did not answer for each text: see the log.")
    results: list[Any] = [[]] * asked.tasks
    outcomes: Counter[PredictionOutcome] = Counter()
    for row, position in enumerate(asked.positions):
        found = build_prediction(asked.view.space, scores, row, asked.version)
        outcomes[_outcome(found, scores, row)] += 1
        results[position] = found or []
    metrics.observe_scores(asked.view.project.id, (found["score"] for found in results if found))
    for outcome, tasks in outcomes.items():
        metrics.count_predictions(outcome, tasks)
    return orjson.dumps(results)[1:-1]


def _outcome(found: dict[str, Any] | None, scores: Scores, row: int) -> PredictionOutcome:
    if found:
        return PredictionOutcome.PREDICTED
    return PredictionOutcome.STALE_LABEL if are_probabilities(scores, row) else PredictionOutcome.NOT_FINITE


def _respond(answers: Sequence[bytes]) -> Response:
    """In parts: a large answer is not worth a copy. An answer is empty for a piece without tasks."""
    parts = [b'{"results":[']
    for one in filter(None, answers):
        parts += [one] if len(parts) == 1 else [b",", one]
    parts.append(b"]}")

    async def sent() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    size = sum(map(len, parts))
    if size <= LARGE_BODY:
        return Response(b"".join(parts), media_type="application/json")
    return StreamingResponse(sent(), headers={"Content-Length": str(size)}, media_type="application/json")

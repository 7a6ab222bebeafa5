"""POST /predict: a prediction per task, in order; [] for a task that cannot be predicted.

Scores come from the version that /setup reports, so both always name the same. Reading texts and writing regions is pure
(`adapter/suggestions.py`); large requests do both in a thread, piece by piece, so a request needs its own size in memory and
predictors get one piece at a time.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    has_small_body,
    parse_elements,
    parse_project_id,
    read_object,
    run_by_size,
)
from services.adapter.routes.own_answers import render_answers
from services.adapter.state.board import Board, ProjectView
from services.adapter.suggestions import are_probabilities, build_prediction, conceal, is_blind
from services.core.domain import Project
from services.core.errors import BadRequest, EngineError, Overloaded
from services.core.http.limits import read_chunks, reservation_of
from services.core.labels.readable import readable_text
from services.core.telemetry import tracing
from services.engine.compute import Scores
from services.mlbackend.calls import TASKS_PER_CALL, PredictCall, TaskPredictions, split_params

MAX_REQUEST_BYTES: Final = 256 << 20
"""Bytes of a request: about half a million short tasks, if the process's budget allows it."""
_ANSWER_BYTES = 200
"""Bytes of the answer for one task, to estimate its size."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The tasks of a piece that can be predicted."""

    tasks: int
    view: ProjectView | None
    version: str = ""
    """The effective version when the request came: it scores the texts and is named in the answer."""
    positions: tuple[int, ...] = ()
    """Index of each text's task."""
    texts: tuple[str, ...] = ()
    own_tasks: tuple[Mapping[str, Any], ...] = ()
    """Instead of texts: the tasks themselves, for a class of the operator's."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Route of /predict."""

    board: Board
    inference: Inference
    blind_share: float = 0.0
    """FITLOOP_BLIND_SHARE."""

    async def predict(self, request: Request) -> Response:
        """Answer with one list of predictions per task. Raises NotReady, BadRequest and errors of inference."""
        if not self.board.ready.is_set():
            raise NotReady
        envelope, pieces = await _read(request)
        project_id = parse_project_id(envelope.get("project"))
        view, now = None if project_id is None else self.board.view(project_id), time.time()
        if view is not None and not view.is_read:
            raise NotReady
        answers, reservation = list[bytes](), reservation_of(request)
        context, params = split_params(envelope.get("params"))
        config = envelope.get("label_config")
        rest = PredictCall((), context, params, config if isinstance(config, str) else None)
        if tasks := envelope["tasks"]:
            answers.append(await self._answer(request, select_tasks(tasks, view, now), rest))
            reservation.reserve(len(answers[-1]))
        while pieces:
            if answers and await request.is_disconnected():
                raise ClientDisconnect
            piece = pieces.popleft()
            batch = await run_by_size(len(piece), _parse_piece, piece, not answers, view, now)
            answers.append(await self._answer(request, batch, rest))
            reservation.release(len(piece))
            reservation.reserve(len(answers[-1]))
        return _respond(answers)

    async def _answer(self, request: Request, batch: Batch, rest: PredictCall) -> bytes:
        return await (self._ask_class(request, batch, rest) if batch.own_tasks else self._predict(batch))

    async def _predict(self, batch: Batch) -> bytes:
        if not batch.texts:
            return b",".join([b"[]"] * batch.tasks)
        with _count_failures(len(batch.texts)):
            scores = await self._scores(batch)
            size = len(batch.texts) * _ANSWER_BYTES
            return await run_by_size(size, build_answer, batch, scores, self.blind_share)

    async def _ask_class(self, request: Request, batch: Batch, rest: PredictCall) -> bytes:
        """Have the version's class answer the tasks, some at a time, while the client waits; `rest`: what came with them."""
        assert batch.view is not None  # noqa: S101  # for the type checker: there are tasks only then
        found: list[TaskPredictions] = []
        with _count_failures(len(batch.own_tasks)):
            for start in range(0, len(batch.own_tasks), TASKS_PER_CALL):
                if found and await request.is_disconnected():
                    raise ClientDisconnect
                call = replace(rest, tasks=batch.own_tasks[start : start + TASKS_PER_CALL])
                with _traced(batch, tasks=len(call.tasks)) as project:
                    found += await self.inference.predict_tasks(project.key, batch.version, call)
        return render_answers(batch.view.project.id, batch.tasks, batch.positions, found)

    async def _scores(self, batch: Batch) -> Scores:
        with _traced(batch, texts=len(batch.texts)) as project:
            return await self.inference.scores(project.key, batch.version, batch.texts)


async def _read(request: Request) -> tuple[dict[str, Any], deque[bytes]]:
    """Read a body, if it is large without its tasks, and these unparsed. Raises BadRequest, BodyTooLarge, Overloaded, CompressedBody."""
    cutter, pieces = ListSplitter("tasks"), deque[bytes]()
    if has_small_body(request):
        envelope = await read_object(request)
    else:
        async for chunk in read_chunks(request, MAX_REQUEST_BYTES):
            pieces += await run_by_size(len(chunk), cutter.feed, chunk)
        envelope = cutter.envelope()
    if not isinstance(envelope.get("tasks"), list):
        raise BadRequest('The body needs "tasks": a list of Label Studio tasks.')
    return envelope, pieces


def _parse_piece(piece: bytes, first: bool, view: ProjectView | None, now: float) -> Batch:
    return select_tasks(parse_elements(piece, first=first), view, now)


@contextlib.contextmanager
def _traced(batch: Batch, **counts: int) -> Iterator[Project]:
    """Put a request for a batch's answers into a span; yield its project."""
    assert batch.view is not None  # noqa: S101  # for the type checker: there is something to answer only then
    ids: dict[str, int | str] = {"project": batch.view.project.id, "version": batch.version}
    structlog.contextvars.bind_contextvars(**ids)
    with tracing.span("inference", {**counts, **ids}, kind=tracing.SpanKind.CLIENT):
        yield batch.view.project


@contextlib.contextmanager
def _count_failures(texts: int) -> Iterator[None]:
    """Count texts that were not scored, whatever the error, bugs included: alerts read these metrics."""
    try:
        yield
    except Overloaded:
        metrics.count_predictions(PredictionOutcome.OVERLOADED, texts)
        raise
    except Exception:  # counted, and raised again
        metrics.count_predictions(PredictionOutcome.FAILED, texts)
        raise


def select_tasks(tasks: Sequence[object], view: ProjectView | None, now: float) -> Batch:
    """Select the tasks that can be predicted: none if the project has no version for its label space."""
    version = view.served.effective_version(now) if view else None
    if view is not None and version is not None and version in view.own_models:
        return _for_class(tasks, view, version)
    if view is None or view.space is None or version is None or version in view.foreign:
        metrics.count_predictions(PredictionOutcome.NO_MODEL, len(tasks))
        return Batch(len(tasks), view)
    texts = {
        position: text for position, task in enumerate(tasks) if (text := readable_text(view.space, task))
    }
    metrics.count_predictions(PredictionOutcome.NO_TEXT, len(tasks) - len(texts))
    return Batch(len(tasks), view, version, tuple(texts), tuple(texts.values()))


def _for_class(tasks: Sequence[object], view: ProjectView, version: str) -> Batch:
    own = {
        position: task
        for position, task in enumerate(tasks)
        if isinstance(task, Mapping) and isinstance(task.get("data"), Mapping)
    }
    metrics.count_predictions(PredictionOutcome.NO_TEXT, len(tasks) - len(own))
    return Batch(len(tasks), view, version, tuple(own), own_tasks=tuple(own.values()))


def build_answer(batch: Batch, scores: Scores, blind_share: float = 0.0) -> bytes:
    """Return the tasks' answers as JSON without enclosing brackets, those of blind texts concealed.

    Raises EngineError unless there is one row of scores per text.
    """
    assert batch.view is not None and batch.view.space is not None  # noqa: PT018, S101  # for the type checker, as above
    if scores.probabilities.shape != (len(batch.texts), len(scores.labels)):
        raise EngineError(f"Version {batch.version} did not return scores for each text: see the log.")
    results: list[Any] = [[]] * batch.tasks
    is_evaluated = batch.version not in batch.view.unevaluated
    outcomes: Counter[PredictionOutcome] = Counter()
    for row, position in enumerate(batch.positions):
        found = build_prediction(batch.view.space, scores, row, batch.version, is_evaluated=is_evaluated)
        outcomes[_outcome(found, scores, row)] += 1
        if found and is_blind(batch.texts[row], blind_share):
            found = conceal(found)
        results[position] = found or []
    metrics.observe_scores(batch.view.project.id, (found["score"] for found in results if found))
    for outcome, tasks in outcomes.items():
        metrics.count_predictions(outcome, tasks)
    return orjson.dumps(results)[1:-1]


def _outcome(found: dict[str, Any] | None, scores: Scores, row: int) -> PredictionOutcome:
    if found:
        return PredictionOutcome.PREDICTED
    return PredictionOutcome.STALE_LABEL if are_probabilities(scores, row) else PredictionOutcome.NOT_FINITE


def _respond(answers: Sequence[bytes]) -> Response:
    """Stream a large answer instead of copying it. An answer is empty for a piece without tasks."""
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

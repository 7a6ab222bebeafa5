"""The predictor's routes in KServe's application: registered before KServe's own, they take precedence.

KServe's implementation of the same protocols costs about a millisecond per request, answers 200 for a model that is not
ready, and lets anyone unload one. Routes that are not listed here are KServe's.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import structlog
from anyio import to_thread
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.core.errors import FitloopError, NotFound
from services.core.http.disconnect import while_connected
from services.core.http.limits import (
    MEMORY_SHARE,
    Budget,
    LimitInFlight,
    memory_limit,
    read_chunks,
)
from services.core.telemetry import correlation, tracing
from services.core.telemetry.correlation import RequestIds, log_ids
from services.core.telemetry.logs import safe_traceback
from services.engine.compute import Scores
from services.predictor import metrics
from services.predictor.inference import VersionInference
from services.predictor.manager import ModelManager
from services.predictor.protocol import (
    MODEL_PREFIX,
    ScoreRequest,
    answer_tasks,
    answer_v1,
    answer_v2,
    parse_tasks,
    parse_v1,
    parse_v2,
    project_key_of,
)
from services.predictor.responses import error_and_outcome, error_response

log = structlog.get_logger()
Parse = Callable[[bytes], ScoreRequest]
Respond = Callable[[str, str, ScoreRequest, Scores], Response]
Work = Callable[[bytes, tracing.Span], Awaitable[Response]]
"""Answers a request with this body."""
T = TypeVar("T")
_ANY = ["GET", "POST", "PUT", "DELETE"]
PARSE_IN_THREAD_BYTES = 100_000
"""Larger bodies are parsed in a thread."""
MAX_BODY_BYTES = 64 << 20
"""An adapter sends pieces of half a megabyte; one of release 0.1.0 sends all texts at once."""


@dataclass(frozen=True, slots=True)
class Routes:
    """The routes and what they need."""

    inference: VersionInference
    manager: ModelManager
    budget: Budget = field(default_factory=lambda: Budget(memory_limit() // MEMORY_SHARE))
    """Bounds the bytes of requests in flight."""

    def routes(self) -> list[Route]:
        """Return the routes in the order in which they are matched."""
        scoring = [Middleware(RequestIds), Middleware(LimitInFlight, budget=self.budget)]
        return [
            Route("/v2/health/live", _live),
            Route("/v2/health/ready", self.ready),
            Route("/v2/repository/models/{model}/{action}", _forbidden, methods=["POST"]),
            Route("/v2/models/{model}/infer", self.infer, methods=["POST"], middleware=scoring),
            Route("/v2/models/{model}/tasks", self.tasks, methods=["POST"], middleware=scoring),
            Route("/v2/models/{model}/ready", self.model_ready),
            Route("/v2/models/{model}", self.metadata),
            Route("/v2/models", self.models),
            Route("/v1/models", self.models),
            Route("/v1/models/{model}:predict", self.predict, methods=["POST"], middleware=scoring),
            Route("/v1/models/{model}", self.model_ready),
            *(
                Route(f"/{protocol}/models/{{rest:path}}", _unknown, methods=_ANY)
                for protocol in ("v1", "v2")
            ),
        ]

    async def ready(self, _: Request) -> Response:
        """Answer whether all served versions are loaded or refused."""
        return JSONResponse({"ready": self.manager.ready}, 200 if self.manager.ready else 503)

    async def models(self, _: Request) -> Response:
        """List the projects that serve a version."""
        return JSONResponse({"models": [f"{MODEL_PREFIX}{key}" for key in self.manager.table.last.projects]})

    async def model_ready(self, request: Request) -> Response:
        """Answer whether the project's version is loaded."""
        model = request.path_params["model"]
        version = self.manager.effective_version(project_key_of(model) or "")
        if version is None:
            return error_response(404, f"{model[:80]!r} is no model here.")
        ready = self.inference.is_loaded(project_key_of(model) or "", version)
        return JSONResponse({"name": model, "ready": ready, "version": version}, 200 if ready else 503)

    async def metadata(self, request: Request) -> Response:
        """Describe the model's tensors."""
        model = request.path_params["model"]
        version = self.manager.effective_version(project_key_of(model) or "")
        if version is None:
            return error_response(404, f"{model[:80]!r} is no model here.")
        inputs = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        outputs = [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, -1]},
            {"name": "labels", "datatype": "BYTES", "shape": [-1]},
        ]
        metadata = {
            "name": model,
            "versions": [version],
            "platform": "fitloop",
            "inputs": inputs,
            "outputs": outputs,
        }
        return JSONResponse(metadata)

    async def infer(self, request: Request) -> Response:
        """Score texts by protocol v2."""

        def respond(model: str, version: str, parsed: ScoreRequest, scores: Scores) -> Response:
            body, headers = answer_v2(model, version, parsed, scores)
            return Response(body, headers=headers)

        return await self._score(request, parse_v2, respond)

    async def predict(self, request: Request) -> Response:
        """Score texts by protocol v1."""

        def respond(_: str, version: str, parsed: ScoreRequest, scores: Scores) -> Response:
            return Response(answer_v1(version, parsed, scores), media_type="application/json")

        return await self._score(request, parse_v1, respond)

    async def tasks(self, request: Request) -> Response:
        """Predict tasks with the class of the version."""

        async def work(body: bytes, span: tracing.Span) -> Response:
            parsed = await _parsed(parse_tasks, body)
            key, version = self._find_version(request.path_params["model"], parsed.version)
            _note(span, key, version, tasks=len(parsed.call.tasks))
            found = await while_connected(request, self.inference.predict_tasks(key, version, parsed.call))
            return Response(answer_tasks(version, found), media_type="application/json")

        return await self._traced(request, work)

    async def _score(self, request: Request, parse: Parse, respond: Respond) -> Response:
        async def work(body: bytes, span: tracing.Span) -> Response:
            parsed, model = await _parsed(parse, body), request.path_params["model"]
            key, version = self._find_version(model, parsed.version)
            _note(span, key, version, texts=len(parsed.texts))
            return respond(model, version, parsed, await self._scores(request, key, version, parsed))

        return await self._traced(request, work)

    async def _traced(self, request: Request, work: Work) -> Response:
        parent = request.headers.get(correlation.TRACEPARENT_HEADER, "")
        attributes = {"request_id": correlation.current_request_id()}
        with tracing.span("score", attributes, kind=tracing.SpanKind.SERVER, parent=parent) as span:
            response = await self._answer(request, work, span)
            tracing.annotate(span, status=response.status_code)
            return response

    async def _answer(self, request: Request, work: Work, span: tracing.Span) -> Response:
        began = time.perf_counter()
        try:
            body = b"".join(
                [chunk async for chunk in read_chunks(request, MAX_BODY_BYTES, "send fewer texts at once")]
            )
            response, outcome = await work(body, span), "answered"
        except FitloopError as error:
            response, outcome = error_and_outcome(error)
        except ClientDisconnect:
            response, outcome = error_response(400, "The body is incomplete."), "bad_request"
        except Exception as error:  # noqa: BLE001  # a bug: the client gets a fixed message, the log the traceback
            log.error("request_error", frames=safe_traceback(error))
            response, outcome = (
                error_response(500, "The predictor failed with an unexpected error: see its log."),
                "failed",
            )
        seconds = time.perf_counter() - began
        metrics.count_request(outcome, seconds)
        log.debug("request_answered", outcome=outcome, status=response.status_code, seconds=round(seconds, 4))
        return response

    async def _scores(self, request: Request, key: str, version: str, parsed: ScoreRequest) -> Scores:
        scoring = self.inference.scores(key, version, parsed.texts)
        if self.inference.is_loaded(key, version):
            return await scoring
        # A load is for nobody once its clients have given up.
        return await while_connected(request, scoring)

    def _find_version(self, model: str, asked: str | None) -> tuple[str, str]:
        key = project_key_of(model)
        version = asked or (self.manager.effective_version(key) if key else None)
        if key is None or version is None or not self.manager.may_serve(key, version):
            named = f"version {asked[:80]!r} of " if asked else ""
            raise NotFound(f"This predictor serves no {named}{model[:80]!r}.")
        return key, version


async def _parsed(parse: Callable[[bytes], T], body: bytes) -> T:
    return await to_thread.run_sync(parse, body) if len(body) > PARSE_IN_THREAD_BYTES else parse(body)


def _note(span: tracing.Span, key: str, version: str, **counts: int) -> None:
    tracing.annotate(span, **counts, **log_ids(key, version))
    structlog.contextvars.bind_contextvars(**log_ids(key, version))


async def _live(_: Request) -> Response:
    return JSONResponse({"live": True})


async def _unknown(_: Request) -> Response:
    """Answer 404; KServe would log a traceback for each of these."""
    return error_response(
        404,
        "Use POST /v1/models/<model>:predict or POST /v2/models/<model>/infer; parameters.version names a version.",
    )


async def _forbidden(_: Request) -> Response:
    return error_response(
        403, "The adapter decides which versions are loaded: use `fitloop promote` and `fitloop rollback`."
    )

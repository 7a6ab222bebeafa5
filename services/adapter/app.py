"""The adapter's ASGI application: routes, probes, middleware, and errors as responses.

Whatever Label Studio waits for is answered from memory; the store, models and large bodies are handled in threads.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from http import HTTPStatus

import prometheus_client
import structlog
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from services.adapter import metrics
from services.adapter.metrics.exposition import BoardCollector, ProcessCollector
from services.adapter.pages import to_problem_page
from services.adapter.ports import EventSink, Inference
from services.adapter.routes.actions import ActionPages
from services.adapter.routes.api import Api
from services.adapter.routes.auth import AccessPolicy, AuthMiddleware, RefusedEvents
from services.adapter.routes.bodies import Forbidden, NoSuchResource, NotReady, json_response
from services.adapter.routes.garbage import GarbageRoutes
from services.adapter.routes.home import Banners, StatusPages
from services.adapter.routes.page_data import PageData
from services.adapter.routes.predictions import Predictions
from services.adapter.routes.reports import ReportRoutes
from services.adapter.routes.same_origin import FormTokens, SameOriginMiddleware
from services.adapter.routes.setup import SetupRoutes
from services.adapter.routes.version_cache import VersionCache
from services.adapter.routes.webhook import Webhook
from services.adapter.state.board import Board
from services.adapter.state.encoder_status import EncoderStatusReader
from services.adapter.state.gc_reports import GcReportFile
from services.core.errors import BadRequest, EngineError, FitloopError, Overloaded, StoreError
from services.core.http.limits import (
    MEMORY_SHARE,
    BodyTooLarge,
    Budget,
    CompressedBody,
    LimitInFlight,
    memory_limit,
)
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.telemetry import correlation, tracing
from services.core.telemetry.correlation import RequestIds
from services.core.telemetry.logs import safe_traceback

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ProbeRoutes:
    """/livez, /readyz and /metrics, which depend on nothing outside this process once the state has been read."""

    board: Board
    collector: ProcessCollector

    async def live(self, _: Request) -> Response:
        """Answer that the process is alive."""
        return json_response({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        """Answer once the state has been read, so that /setup can be answered. Raises NotReady."""
        if not self.board.ready.is_set():
            raise NotReady
        return json_response({"status": "ready"})

    async def metrics(self, _: Request) -> Response:
        """Answer with all metrics of this process."""
        body = await to_thread.run_sync(prometheus_client.generate_latest, self.collector)
        return Response(body, media_type=prometheus_client.CONTENT_TYPE_LATEST)


Handler = Callable[[Request], Awaitable[Response]]

_PAGES = frozenset({"/", "/projects/{id}", "/projects/{id}/versions/{version}", "/projects/{id}/{action}"})

_PROBES = frozenset({"/health", "/livez", "/readyz", "/metrics"})

_STATUSES: dict[type[FitloopError], int] = {
    BadRequest: 400,
    Forbidden: 403,
    NoSuchResource: 404,
    BodyTooLarge: 413,
    CompressedBody: 415,
    NotReady: 503,
    Overloaded: 503,
    EngineError: 503,
    StoreError: 503,
}


def create_app(
    settings: Settings,
    board: Board,
    events: EventSink,
    inference: Inference,
    registry: Registry,
    runs: Runs,
    *,
    management: bool = True,
    budget: Budget | None = None,
) -> Starlette:
    """Create the application for Label Studio, browsers and the command line; it starts no threads of its own.

    `management`: include probes and metrics, instead of a port of their own (`create_management_app`).
    `budget`: bytes of requests in flight; by default a share of the memory.
    """
    catalogue = VersionCache(registry)
    connection = SetupRoutes(board, events, settings.training)
    api = Api(board, events, catalogue, runs, connection, inference, EncoderStatusReader(registry.store))
    garbage = GarbageRoutes(events, GcReportFile(registry.store))
    tokens, refusals = FormTokens(settings.auth), RefusedEvents()
    home = StatusPages(api, PageData(api), Banners(settings, inference, refusals, board), tokens, settings)
    wishes = ActionPages(api, tokens)
    reports = ReportRoutes(api, settings.label_studio.public_url or settings.label_studio.url)
    routes = [  # in the order in which a request is compared with them
        _route("POST", "/predict", Predictions(board, inference, settings.serving.blind_share).predict),
        _route("POST", "/webhook", Webhook(events).webhook),
        _route("POST", "/setup", connection.setup),
        _route("GET", "/health", connection.health),
        _route("GET", "/versions", connection.versions),
        _route("GET", "/", home.index),
        _route("GET", "/projects/{id}", home.project),
        _route("GET", "/projects/{id}/versions/{version}", home.version),
        _route("GET", "/projects/{id}/{action}", wishes.confirm),
        _route("POST", "/projects/{id}/{action}", wishes.submit),
        _route("GET", "/api/predictors", api.predictors),
        _route("GET", "/api/encoders", api.encoders),
        _route("GET", "/api/projects", api.projects),
        _route("GET", "/api/projects/{id}", api.project),
        _route("GET", "/api/projects/{id}/versions/{version}/report", reports.report),
        _route("POST", "/api/projects/{id}/{action}", api.submit),
        _route("POST", "/api/gc", garbage.submit),
        _route("GET", "/api/gc/{command}", garbage.report),
        *(_management(board) if management else ()),
    ]
    outer = [
        Middleware(RequestIds),
        Middleware(AuthMiddleware, policy=AccessPolicy.from_settings(settings.auth), refusals=refusals),
        Middleware(SameOriginMiddleware),
        Middleware(LimitInFlight, budget=budget or Budget(memory_limit() // MEMORY_SHARE)),
    ]
    app = Starlette(routes=routes, middleware=outer, exception_handlers={HTTPException: _no_route})
    app.router.redirect_slashes = (
        False  # to a URL made of Host, which loses the prefix that an ingress took off
    )
    return app


def create_management_app(board: Board) -> Starlette:
    """Create an application with /livez, /readyz and /metrics, without a password: for a port that no ingress routes to."""
    return Starlette(routes=_management(board), exception_handlers={HTTPException: _no_route})


def _management(board: Board) -> list[Route]:
    management = ProbeRoutes(board, ProcessCollector(BoardCollector(board)))
    return [
        _route("GET", "/livez", management.live),
        _route("GET", "/readyz", management.ready),
        _route("GET", "/metrics", management.metrics),
    ]


def error_response(error: FitloopError) -> Response:
    """Return the error's message with its status."""
    status = next((code for kind, code in _STATUSES.items() if isinstance(error, kind)), 500)
    headers = {"Retry-After": "2"} if status == 503 else {}
    return _error_answer(status, str(error), headers)


def _route(method: str, path: str, handler: Handler) -> Route:
    return Route(path, _endpoint(path, handler), methods=[method])


def _endpoint(path: str, handler: Handler) -> Handler:
    """Wrap a handler: errors become responses, and its time is measured."""

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        with _request_span(path, request) as span:
            response = await _call(path, handler, request)
            tracing.annotate(span, status=response.status_code)
        if path not in _PROBES:
            seconds = round(time.perf_counter() - started, 4)
            log.debug("request_answered", route=path, status=response.status_code, seconds=seconds)
        if path in _PAGES:
            response = to_problem_page(request, response)
        metrics.observe_response(path, response.status_code, time.perf_counter() - started)
        return response

    return endpoint


async def _call(path: str, handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except FitloopError as error:
        response = error_response(error)
        _log_error(path, response.status_code, error)
        return response
    except ClientDisconnect:
        return _error_answer(400, "The body is incomplete.", {})
    except Exception as error:  # noqa: BLE001  # a bug: the caller gets a message, the log the frames
        log.error("request_error", route=path, frames=safe_traceback(error))
        return _error_answer(500, "Unexpected error: see Fitloop's log.", {})


def _request_span(path: str, request: Request) -> AbstractContextManager[tracing.Span]:
    """Name a span by the route, never by the requested path, which may hold the secret; probes have no span."""
    if path in _PROBES:
        return nullcontext(tracing.INVALID_SPAN)
    parent = request.headers.get(correlation.TRACEPARENT_HEADER, "")
    attributes = {"method": request.method, "route": path, "request_id": correlation.current_request_id()}
    return tracing.span(f"{request.method} {path}", attributes, kind=tracing.SpanKind.SERVER, parent=parent)


def _log_error(path: str, status: int, error: FitloopError) -> None:
    """Log server errors; a client error's message may repeat what was sent, so only the client gets it."""
    if status >= 500 and not isinstance(error, NotReady):
        log.warning("request_failed", route=path, status=status, reason=str(error))


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"{request.method} is not supported here: {HTTPStatus(status).phrase}."
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return to_problem_page(request, _error_answer(status, message, headers))


def _error_answer(status: int, message: str, headers: dict[str, str]) -> Response:
    return json_response({"detail": message, "status": status}, status, headers)

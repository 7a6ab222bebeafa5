"""The predictor process: store, engine, model manager, and two servers: management, and KServe's with our routes.

`serve` returns after SIGTERM, once pending requests are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import prometheus_client
import structlog
import uvicorn.config
from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.core.errors import BadConfig
from services.core.http.connections import (
    MANAGEMENT_BOUNDS,
    Bounds,
    bounded_protocol,
    public_bounds,
    raise_file_limit,
)
from services.core.http.token import RequireToken
from services.core.registry import Registry
from services.core.serving_table import ServingTableReader
from services.core.settings import ClusterSettings, Settings
from services.core.store import ObjectStore, open_store, unavailable_reason
from services.core.telemetry import tracing
from services.core.telemetry.logs import configure, log_uncaught, use_root_handler
from services.core.telemetry.metrics import Component, set_build_info
from services.predictor import metrics
from services.predictor.crashes import CrashGuard
from services.predictor.inference import build_inference
from services.predictor.manager import ModelManager
from services.predictor.routes import Routes

log = structlog.get_logger()
_CONNECT_SECONDS = 1.0
_GRACE_SECONDS = 30
"""For pending requests at shutdown."""
BOUNDED: Final = bounded_protocol(Bounds())
"""HTTP protocol of the serving port."""


@dataclass
class ManagementServer:
    """The port that no ingress routes to: /livez, /readyz, /state for the leader, /metrics.

    It runs in a thread of its own, because probes must be answered while every stream computes.
    """

    manager: ModelManager
    port: int
    serving_port: int
    """The port of the protocols: the process is not ready unless it accepts connections there."""
    settings: ClusterSettings = field(default_factory=ClusterSettings)
    """Has the token that /state requires."""

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/livez", self._live),
                Route("/readyz", self._ready),
                Route("/state", self._state),
                Route("/metrics", self._metrics),
            ],
            middleware=[Middleware(RequireToken, settings=self.settings)],
        )

    def start(self) -> None:
        """Listen in a thread. Raises BadConfig if the port is taken."""
        listener = _listen(self.port)
        self.port = listener.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                self.app(),
                http=bounded_protocol(MANAGEMENT_BOUNDS),
                ws="none",
                log_config=None,
                access_log=False,
                lifespan="off",
            )
        )
        serve = self._server.run
        self._thread = threading.Thread(target=serve, args=([listener],), name="management", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(5)

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def _ready(self, _: Request) -> Response:
        ready = self.manager.ready and await self._accepts_connections()
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def _accepts_connections(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_connection("127.0.0.1", self.serving_port)
            writer.close()
            return True
        return False

    async def _state(self, _: Request) -> Response:
        self.manager.read_table_soon()
        return JSONResponse(self.manager.state())

    async def _metrics(self, _: Request) -> Response:
        body = await to_thread.run_sync(prometheus_client.generate_latest)
        return Response(body, media_type=prometheus_client.CONTENT_TYPE_LATEST)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port))
    except OSError as error:
        raise BadConfig(
            f"Cannot listen on port {port} ({error.strerror}): set FITLOOP_PREDICTOR_STATE_PORT to a free one."
        ) from error


def serve(settings: Settings) -> None:
    """Serve until SIGTERM; an unreachable bucket is waited for. Raises BadConfig if a setting must be changed."""
    configure(settings.logging, hidden=settings.secrets())
    log_uncaught()
    tracing.configure(settings.tracing, "predictor")
    BOUNDED.bounds = public_bounds(raise_file_limit())
    store = _open_store(settings)
    crashes = CrashGuard((settings.storage.cache_dir or Path(tempfile.gettempdir())) / "crashes")
    inference = build_inference(Registry(store), settings, crashes.guard)
    manager = ModelManager(inference, ServingTableReader(store), settings.rollout.mode)
    crashes.is_serving = lambda: manager.ready
    management = ManagementServer(
        manager, settings.cluster.predictor_state_port, settings.cluster.predictor_port, settings.cluster
    )
    set_build_info(Component.PREDICTOR)
    metrics.export_versions(inference.loaded, manager.refusals)
    management.start()
    manager.start()
    try:
        build_model_server(Routes(inference, manager), settings.cluster).start([])
    finally:
        crashes.forgive_current_loads()
        manager.stop()
        inference.close()
        management.stop()
        tracing.close()


def build_model_server(routes: Routes, settings: ClusterSettings) -> Any:
    """Return KServe's server: HTTP only, no latency logs, our routes before its own, connections bounded, token required."""
    # Deprecation warnings of KServe are not ours to fix.
    warnings.filterwarnings("ignore", module=r"fastapi|kserve")

    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:BOUNDED"  # KServe has no option for it
    from kserve import ModelServer  # noqa: PLC0415  # takes a second to import, and reads the command line
    from kserve.model_server import app  # noqa: PLC0415

    app.router.routes[:0] = routes.routes()
    app.add_middleware(RequireToken, settings=settings)
    server = ModelServer(
        http_port=settings.predictor_port,
        enable_grpc=False,
        enable_latency_logging=False,
        workers=1,
        grace_period=_GRACE_SECONDS,
    )
    use_root_handler("kserve", "kserve.trace", "uvicorn", "uvicorn.error", "uvicorn.access")
    return server


def _open_store(settings: Settings) -> ObjectStore:
    if not settings.storage.store:
        raise BadConfig("FITLOOP_STORE is not set: name the bucket, such as s3://bucket/prefix/.")
    store = open_store(settings.storage.store, settings.s3, settings.storage)
    if why := unavailable_reason(store, write=False):  # the manager retries
        log.warning("bucket_unavailable", reason=why)
    return store

"""The predictor's parts, put together: store, engine, manager, management port, and KServe's server with our routes.

`serve` returns when SIGTERM has come and what was asked before it is answered.
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
import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.core.errors import BadConfig
from services.core.http.asgi import RequireToken
from services.core.http.connections import (
    MANAGEMENT_BOUNDS,
    Bounds,
    bounded_protocol,
    public_bounds,
    raise_file_limit,
)
from services.core.registry import Registry, ServingTable
from services.core.settings import ClusterSettings, Settings
from services.core.store import ObjectStore, open_store, unavailable_reason
from services.core.telemetry import tracing
from services.core.telemetry.logs import configure, log_uncaught, use_root_handler
from services.core.telemetry.metrics import Component, set_build_info
from services.engine.inference import LocalInference
from services.predictor import metrics
from services.predictor.crashes import CrashGuard
from services.predictor.manager import ModelManager
from services.predictor.routes import Routes

log = structlog.get_logger()

_CONNECT_SECONDS = 1.0


@dataclass
class ManagementServer:
    """Probes and metrics, which must answer while every stream computes. `start`, then `stop`."""

    manager: ModelManager
    port: int
    serving_port: int
    """The port of the protocols: nothing is ready that takes no connection there, before the start or in the end."""
    settings: ClusterSettings = field(default_factory=ClusterSettings)
    """With the token that /state asks for."""

    def app(self) -> Starlette:
        """The routes."""
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
        """Listen; returns at once. Raises BadConfig where the port is taken."""
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
        """Stop listening."""
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
        return JSONResponse(self.manager.state())

    async def _metrics(self, _: Request) -> Response:
        body = await to_thread.run_sync(prometheus_client.generate_latest)
        return Response(body, media_type=prometheus_client.CONTENT_TYPE_LATEST)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("", port))
    except OSError as error:
        raise BadConfig(
            f"Port {port} cannot be listened at ({error.strerror}): set FITLOOP_PREDICTOR_STATE_PORT to a free one."
        ) from error


_GRACE_SECONDS = 30
"""For requests that are being answered when the process is to end."""

BOUNDED: Final = bounded_protocol(Bounds())
"""For the port of the protocols."""


def serve(settings: Settings) -> None:
    """Until SIGTERM. Raises BadConfig where somebody must change something; a bucket that does not answer is waited for."""
    configure(settings.logging, hidden=settings.secrets())
    log_uncaught()
    tracing.configure(settings.tracing, "predictor")
    BOUNDED.bounds = public_bounds(raise_file_limit())
    store = _open_store(settings)
    crashes = CrashGuard((settings.storage.cache_dir or Path(tempfile.gettempdir())) / "crashes")
    inference = LocalInference(Registry(store), settings.serving, crashes.guard)
    manager = ModelManager(inference, ServingTable(store), settings.rollout.mode)
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
    """KServe's server: HTTP alone, two lines a request fewer, our routes before its own, and a bound and a token before all."""
    # What is outdated in KServe is not ours to mend.
    warnings.filterwarnings("ignore", module=r"fastapi|kserve")
    import uvicorn.config  # noqa: PLC0415

    uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:BOUNDED"  # KServe lets nobody say which
    from kserve import ModelServer  # noqa: PLC0415  # a second of imports, and it reads the command line
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
        raise BadConfig("FITLOOP_STORE is not set: name the bucket, as s3://bucket/prefix/.")
    store = open_store(settings.storage.store, settings.s3, settings.storage)
    if why := unavailable_reason(store, write=False):  # the manager tries on
        log.warning("the bucket does not answer: this predictor is not ready until it does", reason=why)
    return store

"""The port that no ingress routes to: /livez, /readyz, /state for the leader, /metrics. In a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass, field

import prometheus_client
import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.core.errors import BadConfig
from services.core.http.asgi import RequireToken
from services.core.http.connections import MANAGEMENT_BOUNDS, bounded_protocol
from services.core.settings import ClusterSettings
from services.predictor.manager import ModelManager

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

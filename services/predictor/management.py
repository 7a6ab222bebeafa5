"""The port that no ingress routes to: /livez, /readyz, /state for the leader, /metrics. In a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field

import prometheus_client
import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.predictor.keeper import Keeper


@dataclass
class Management:
    """Probes and metrics, which must answer while every stream computes. `start`, then `stop`."""

    keeper: Keeper
    port: int
    serves: int
    """The port of the protocols: nothing is ready before it answers."""
    ending: threading.Event = field(default_factory=threading.Event)
    _listening: bool = False

    def app(self) -> Starlette:
        """The routes."""
        return Starlette(
            routes=[
                Route("/livez", self._live),
                Route("/readyz", self._ready),
                Route("/state", self._state),
                Route("/metrics", self._metrics),
            ]
        )

    def start(self) -> None:
        """Listen; returns at once."""
        config = uvicorn.Config(self.app(), host="0.0.0.0", port=self.port, log_config=None, access_log=False)  # noqa: S104  # a pod's own port
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, name="management", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._server.should_exit = True
        self._thread.join(5)

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def _ready(self, _: Request) -> Response:
        ready = self.keeper.ready and not self.ending.is_set() and await self._listens()
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def _listens(self) -> bool:
        if not self._listening:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.serves)
                writer.close()
                self._listening = True
        return self._listening

    async def _state(self, _: Request) -> Response:
        return JSONResponse(self.keeper.state())

    async def _metrics(self, _: Request) -> Response:
        body = await to_thread.run_sync(prometheus_client.generate_latest)
        return Response(body, media_type=prometheus_client.CONTENT_TYPE_LATEST)

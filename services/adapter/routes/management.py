"""/livez, /readyz and /metrics: for the kubelet and Prometheus, on a cluster at a port of their own."""

from __future__ import annotations

from dataclasses import dataclass

import prometheus_client
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from services.adapter.metrics.exposition import ProcessCollector
from services.adapter.routes.bodies import NotReady, json_response
from services.adapter.state.board import Board


@dataclass(frozen=True, slots=True)
class Management:
    """The routes. None depends on anything beyond this process once the state has been read."""

    board: Board
    everything: ProcessCollector

    async def live(self, _: Request) -> Response:
        """The process answers."""
        return json_response({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        """Whether the state has been read, so that /setup can be answered."""
        if not self.board.ready.is_set():
            raise NotReady("Fitloop is still reading its state.")
        return json_response({"status": "ready"})

    async def metrics(self, _: Request) -> Response:
        """All metrics of this process, for Prometheus."""
        body = await to_thread.run_sync(prometheus_client.generate_latest, self.everything)
        return Response(body, media_type=prometheus_client.CONTENT_TYPE_LATEST)

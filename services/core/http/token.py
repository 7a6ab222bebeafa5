"""The token between adapters and predictors.

`RequireToken` is ASGI middleware in front of a predictor's routes; probes and metrics are open.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Final

from pydantic import SecretStr

from services.core.http import App, Receive, Scope, Send
from services.core.settings import ClusterSettings

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"})
_REFUSED: Final = "This predictor requires a token: set FITLOOP_PREDICTOR_TOKEN to the same value on adapters and predictors."


def bearer_headers(token: SecretStr) -> dict[str, str]:
    """Return the headers of a request to a predictor."""
    value = token.get_secret_value()
    return {"Authorization": f"Bearer {value}"} if value else {}


class RequireToken:
    """Answer 401 to requests without the token."""

    def __init__(self, app: App, settings: ClusterSettings, clock: Callable[[], float] = time.time) -> None:
        self._app = app
        self._expected = bearer_headers(settings.predictor_token).get("Authorization", "").encode()
        self._from = settings.predictor_token_from
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["path"] in OPEN_PATHS
            or self.is_authorized(_authorization(scope))
        ):
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"error": _REFUSED}).encode()})

    def is_authorized(self, authorization: bytes) -> bool:
        """Return whether the header (b"" if absent) holds the token, or may be absent still. Takes constant time."""
        if not self._expected or (not authorization and self._clock() < self._from):
            return True
        return secrets.compare_digest(authorization, self._expected)


def _authorization(scope: Scope) -> bytes:
    return next((bytes(value) for name, value in scope["headers"] if name == b"authorization"), b"")

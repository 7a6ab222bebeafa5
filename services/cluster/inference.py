"""The Inference port over HTTP: KServe's protocol v2 to the Service that the predictors stand behind.

A request names its version, and an answer that names another is an error. One more try, after a connection error or a
503. Connections are closed after half a minute, so that new pods get their share of the requests.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import quote

import httpx
import numpy as np
import orjson

from services.core.errors import EngineError, NotFound, Overloaded
from services.core.settings import ClusterSettings
from services.engine.protocol import Scores

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
CONNECTION_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.25
_UNHEALTHY: Final = frozenset({502, 503, 504})


class RemoteInference:
    """Asks the predictors."""

    def __init__(self, settings: ClusterSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Nothing is connected yet."""
        self._url = settings.predictor_url.rstrip("/")
        self._seconds = settings.predict_timeout_seconds
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._since = 0.0

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        """One row a text, in order. Raises Overloaded, EngineError, NotFound."""
        model = f"p{project_key}"
        body = orjson.dumps(_request(version, texts))
        try:
            async with asyncio.timeout(self._seconds):
                answer = await self._ask(f"{self._url}/v2/models/{quote(model, safe='')}/infer", body)
        except TimeoutError as error:
            raise Overloaded(
                f"The predictors did not answer within {self._seconds:g} s: try again in a moment."
            ) from error
        if answer.status_code != httpx.codes.OK:
            raise _refusal(answer, version)
        return _scores(answer, version, len(texts))

    async def ready(self) -> bool:
        """Whether a predictor behind the Service says that it is ready."""
        try:
            answer = await self._fresh_client().get(f"{self._url}/v2/health/ready", timeout=_CONNECT_SECONDS)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    async def close(self) -> None:
        """Close all connections."""
        if self._client:
            await self._client.aclose()

    async def _ask(self, url: str, body: bytes) -> httpx.Response:
        for last in (False, True):
            try:
                answer = await self._fresh_client().post(url, content=body)
            except httpx.TransportError as error:
                if last:
                    raise Overloaded(
                        f"No predictor answers at {self._url} ({type(error).__name__}): `kubectl get pods` shows whether one is ready."
                    ) from error
            else:
                if last or answer.status_code not in _UNHEALTHY:
                    return answer
            await asyncio.sleep(_PAUSE_SECONDS)
        raise AssertionError("the second try returns or raises")  # pragma: no cover

    def _fresh_client(self) -> httpx.AsyncClient:
        """A client whose connections are young; what an older one still carries is let finish."""
        now = time.monotonic()
        if self._client is None or now - self._since > CONNECTION_SECONDS:
            old, self._since = self._client, now
            self._client = httpx.AsyncClient(
                transport=self._transport,
                headers={"Content-Type": "application/json"},
                timeout=httpx.Timeout(self._seconds, connect=_CONNECT_SECONDS),
            )
            if old:
                self._retire(old)
        return self._client

    def _retire(self, client: httpx.AsyncClient) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._seconds, lambda: loop.create_task(client.aclose()))


def _request(version: str, texts: Sequence[str]) -> dict[str, Any]:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
    return {"inputs": [tensor], "parameters": {"version": version, "binary_data_output": True}}


def _scores(answer: httpx.Response, version: str, texts: int) -> Scores:
    try:
        length = int(answer.headers[HEADER_LENGTH])
        said = orjson.loads(answer.content[:length])
        figures, labels = said["outputs"]
        rows = (
            np.frombuffer(answer.content, dtype="<f4", offset=length)
            .reshape(figures["shape"])
            .astype(np.float32)
        )
        names = tuple(str(label) for label in labels["data"])
        answered = said["parameters"]["version"]
    except (KeyError, ValueError, TypeError) as error:
        raise EngineError(
            f"A predictor's answer cannot be read ({type(error).__name__}): is another server behind it?"
        ) from error
    if answered != version:
        raise EngineError(f"A predictor answered by version {answered}, and was asked for {version}.")
    if rows.shape != (texts, len(names)):
        raise EngineError(
            f"A predictor answered {rows.shape} figures for {texts} texts and {len(names)} labels."
        )
    return Scores(names, rows)


def _refusal(answer: httpx.Response, version: str) -> Exception:
    try:
        sentence = str(json.loads(answer.content)["error"])
    except (ValueError, KeyError, TypeError):
        sentence = f"A predictor answered {answer.status_code} to a request for version {version}."
    if answer.status_code == 404:
        return NotFound(sentence)
    return Overloaded(sentence) if answer.status_code in _UNHEALTHY else EngineError(sentence)

"""The Inference port over HTTP: KServe's protocol v2 to the predictors' Service.

A request names its version, and an answer that names another one is an error. A lost connection or a 503 is retried once,
a failing connection attempt for some seconds. Connections are closed after half a minute, so that new pods get their share
of the requests; a connection to a vanished machine is dropped within seconds. No project can take all connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import orjson
from numpy.typing import NDArray

from services.cluster.shares import PLACES, RequestShares
from services.cluster.task_requests import parse_predictions, render_call
from services.core.errors import EngineError, FitloopError, NotFound, Overloaded, PredictorsUnreachable
from services.core.http.faults import describe_fault_briefly
from services.core.http.limits import GZIP_ONLY, ResponseTooLarge, limit_response_async
from services.core.http.token import bearer_headers
from services.core.settings import ClusterSettings
from services.core.telemetry import correlation
from services.engine.compute import Scores
from services.mlbackend.calls import PredictCall, TaskPredictions

T = TypeVar("T")
HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_THRESHOLDS: Final = "thresholds"
CONNECTION_MAX_AGE: Final = 30.0
CONNECT_RETRY_SECONDS: Final = 5.0
"""By then the Service no longer routes to a killed predictor."""
MAX_ANSWER_BYTES: Final = 64 << 20
"""Enough for 5,000 texts, the most of one request, and 3,000 labels."""
_CONNECT_SECONDS: Final = 2.0
_RETRY_PAUSE_SECONDS: Final = 0.25
_LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=PLACES)
"""Requests in flight are bounded by shares."""
_RETRYABLE: Final = frozenset({429, 502, 503, 504})
_KEEPALIVE: Final = (
    ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, 5),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 2),
    ("TCP_KEEPCNT", socket.IPPROTO_TCP, 3),
    ("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, 10_000),
)
"""Drop a connection after about ten seconds without any answer, TCP keep-alives included, where the system supports it."""


class RemoteInference:
    """Requests scores from the predictors."""

    def __init__(self, settings: ClusterSettings, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = settings.predictor_url.rstrip("/")
        self._seconds = settings.predict_timeout_seconds
        self._headers = bearer_headers(settings.predictor_token)
        self._transport = transport
        self._certificates = httpx.create_ssl_context() if self._url.startswith("https:") else False
        self._client: httpx.AsyncClient | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._client_created = 0.0
        self._shares = RequestShares()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="predictors", daemon=True)
        self._thread.start()

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        """Return one row per text, in order. Raises Overloaded, EngineError, NotFound."""
        return await self._on_own_loop(self._scores(project_key, version, texts))

    async def predict_tasks(self, project_key: str, version: str, call: PredictCall) -> list[TaskPredictions]:
        """Return each task's predictions, in order. Raises Overloaded, EngineError, NotFound."""
        return await self._on_own_loop(self._predictions(project_key, version, call))

    async def ready(self) -> bool:
        """Return whether a predictor behind the Service reports that it is ready."""
        return await self._on_own_loop(self._ready())

    def close(self) -> None:
        """Close all connections."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_CONNECT_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CONNECT_SECONDS)
        self._loop.close()

    async def _on_own_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """Await on this object's event loop: connections belong to one loop, and requests come from several."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        answer = await self._ask(project_key, version, "infer", _render_request(version, texts))
        return _parse_answer(answer, version, len(texts))

    async def _predictions(self, project_key: str, version: str, call: PredictCall) -> list[TaskPredictions]:
        answer = await self._ask(project_key, version, "tasks", render_call(version, call))
        return parse_predictions(answer, version, len(call.tasks))

    async def _ask(self, project_key: str, version: str, path: str, body: bytes) -> httpx.Response:
        url = f"{self._url}/v2/models/{quote(f'p{project_key}', safe='')}/{path}"
        try:
            async with asyncio.timeout(self._seconds), self._shares.place(project_key):
                answer = await self._post(url, body)
        except TimeoutError as error:
            raise PredictorsUnreachable(
                f"The predictors did not answer within {self._seconds:g} s: try again in a moment."
            ) from error
        if answer.status_code != httpx.codes.OK:
            raise _error_of(answer, version)
        return answer

    async def _ready(self) -> bool:
        try:
            answer = await self._fresh_client().get(f"{self._url}/v2/health/ready", timeout=_CONNECT_SECONDS)
        except httpx.HTTPError:
            return False
        return answer.status_code == httpx.codes.OK

    async def _close(self) -> None:
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._client:
            await self._client.aclose()

    async def _post(self, url: str, body: bytes) -> httpx.Response:
        """Post until answered: failed connections for some seconds, as nothing was processed; other failures once."""
        connect_until, can_retry = time.monotonic() + CONNECT_RETRY_SECONDS, True
        while True:
            try:
                answer = await self._fresh_client().post(
                    url, content=body, headers=correlation.outgoing_headers()
                )
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if time.monotonic() >= connect_until:
                    raise self._unreachable(error) from error
            except ResponseTooLarge as error:
                raise EngineError(f"The answer of a predictor at {self._url} {error}.") from error
            except httpx.RequestError as error:
                if not can_retry:
                    raise self._unreachable(error) from error
                can_retry = False
            else:
                if not can_retry or answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    return answer
                can_retry = False
            await asyncio.sleep(_RETRY_PAUSE_SECONDS)

    def _unreachable(self, error: httpx.RequestError) -> PredictorsUnreachable:
        return PredictorsUnreachable(
            f"No predictor answers at {self._url} ({describe_fault_briefly(error)}): `kubectl get pods` shows whether one is ready."
        )

    def _fresh_client(self) -> httpx.AsyncClient:
        """Return a client with recent connections; requests of the previous client may finish."""
        now = time.monotonic()
        if self._client is None or now - self._client_created > CONNECTION_MAX_AGE:
            if self._client:
                retiring = asyncio.create_task(self._retire(self._client))
                self._retiring.add(retiring)
                retiring.add_done_callback(self._retiring.discard)
            self._client, self._client_created = self._new_client(), now
        return self._client

    def _new_client(self) -> httpx.AsyncClient:
        transport = self._transport or httpx.AsyncHTTPTransport(
            verify=self._certificates, socket_options=_socket_options(), limits=_LIMITS
        )
        return httpx.AsyncClient(
            transport=transport,
            headers={"Content-Type": "application/json", **GZIP_ONLY, **self._headers},
            event_hooks={"response": [limit_response_async(MAX_ANSWER_BYTES)]},
            timeout=httpx.Timeout(self._seconds, connect=_CONNECT_SECONDS),
            trust_env=False,  # an egress proxy does not know the cluster's Services
        )

    async def _retire(self, client: httpx.AsyncClient) -> None:
        try:
            await asyncio.sleep(self._seconds)
        finally:
            await client.aclose()


def _socket_options() -> list[tuple[int, int, int]]:
    return [
        (level, getattr(socket, name), value) for name, level, value in _KEEPALIVE if hasattr(socket, name)
    ]


def _render_request(version: str, texts: Sequence[str]) -> bytes:
    tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": list(texts)}
    body = {"inputs": [tensor], "parameters": {"version": version, "binary_data_output": True}}
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:  # a lone surrogate is no Unicode text, and the tokenizer would replace it
        tensor["data"] = [text.encode("utf-8", "replace").decode() for text in texts]
        return orjson.dumps(body)


def _parse_answer(answer: httpx.Response, version: str, texts: int) -> Scores:
    try:
        length = int(answer.headers[HEADER_LENGTH])
        head = orjson.loads(answer.content[:length])
        probabilities, labels, *others = head["outputs"]
        thresholds = _thresholds(others)
        rows = (
            np.frombuffer(answer.content, dtype="<f4", offset=length)
            .reshape(probabilities["shape"])
            .astype(np.float32)
        )
        names = tuple(str(label) for label in labels["data"])
        answered = head["parameters"]["version"]
    except (KeyError, ValueError, TypeError) as error:
        raise EngineError(
            f"A predictor's answer cannot be read ({type(error).__name__}): is another server behind {answer.url.host}?"
        ) from error
    if answered != version:
        raise EngineError(f"A predictor answered with version {answered} to a request for {version}.")
    if rows.shape != (texts, len(names)):
        raise EngineError(
            f"A predictor answered {rows.shape} probabilities for {texts} texts and {len(names)} labels."
        )
    if thresholds is not None and thresholds.shape != (len(names),):
        raise EngineError(f"A predictor answered {len(thresholds)} thresholds for {len(names)} labels.")
    return Scores(names, rows, thresholds)


def _thresholds(outputs: Sequence[Mapping[str, Any]]) -> NDArray[np.float32] | None:
    """Return the probabilities from which on labels are chosen; None where a text has one label."""
    found = [one["data"] for one in outputs if one["name"] == _THRESHOLDS]
    return np.array(found[0], np.float32) if found else None


def _error_of(answer: httpx.Response, version: str) -> FitloopError:
    message = f"A predictor answered {answer.status_code} to a request for version {version}."
    if correlation.SAFE_ERROR_HEADER in answer.headers:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            message = str(json.loads(answer.content)["error"])
    if answer.status_code == 404:
        return NotFound(message)
    return Overloaded(message) if answer.status_code in _RETRYABLE else EngineError(message)

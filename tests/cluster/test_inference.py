"""Requests to predictors: what is sent, what is accepted, what is retried, and how long connections live."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from services.cluster.inference import CONNECTION_MAX_AGE, MAX_ANSWER_BYTES, RemoteInference
from services.cluster.shares import MAX_WAITING, PLACES
from services.core.errors import EngineError, NotFound, Overloaded
from services.core.settings import ClusterSettings
from services.core.telemetry.correlation import SAFE_ERROR_HEADER
from services.engine.compute import Scores
from services.predictor.protocol import ScoreRequest, answer_v2, parse_v2

SCORES = Scores(("A", "B"), np.array([[0.75, 0.25]], np.float32))
Answer = Callable[[httpx.Request], httpx.Response]
Make = Callable[..., RemoteInference]


def answer_correctly(request: httpx.Request) -> httpx.Response:
    """Answer as a predictor does."""
    asked = parse_v2(request.content)
    scores = Scores(SCORES.labels, np.repeat(SCORES.probabilities, len(asked.texts), axis=0))
    body, headers = answer_v2("p5-1", str(asked.version), asked, scores)
    return httpx.Response(200, content=body, headers=headers)


class FakePredictor(httpx.AsyncBaseTransport):
    """Gives the given answers in turn, then correct ones; an exception is raised."""

    def __init__(self, *answers: Answer | httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else answer_correctly
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def inference() -> Iterator[Make]:
    made: list[RemoteInference] = []

    def make(transport: httpx.AsyncBaseTransport | None = None, **settings: Any) -> RemoteInference:
        known: dict[str, Any] = {
            "predictor_url": "http://models.test/",
            "predict_timeout_seconds": 5.0,
        } | settings
        made.append(RemoteInference(ClusterSettings(**known), transport))
        return made[-1]

    yield make
    for one in made:
        one.close()


def build_error(status: int, sentence: str = "why") -> httpx.Response:
    return httpx.Response(status, json={"error": sentence}, headers={SAFE_ERROR_HEADER: "error"})


async def test_request_names_version_and_binary_output(inference: Make) -> None:
    predictor = FakePredictor()
    scores = await inference(predictor).scores("5-1", "v-1", ["a", "b"])
    assert scores.labels == ("A", "B")
    np.testing.assert_array_equal(scores.probabilities, [[0.75, 0.25]] * 2)
    assert scores.probabilities.flags.writeable
    (request,) = predictor.asked
    assert str(request.url) == "http://models.test/v2/models/p5-1/infer"
    assert parse_v2(request.content) == ScoreRequest(("a", "b"), "v-1", "", True)


async def test_lone_surrogate_is_replaced(inference: Make) -> None:
    predictor = FakePredictor()
    await inference(predictor).scores("5-1", "v-1", ["a\ud83d", "b"])
    assert parse_v2(predictor.asked[0].content).texts == ("a?", "b")


async def test_connection_errors_are_retried(inference: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Service routes to a killed predictor for a second or two; after some seconds the request fails."""
    predictor = FakePredictor(*[httpx.ConnectError("x")] * 4)
    await inference(predictor).scores("5-1", "v-1", ["a"])
    assert len(predictor.asked) == 5
    monkeypatch.setattr("services.cluster.inference.CONNECT_RETRY_SECONDS", 0.0)
    with pytest.raises(Overloaded, match="No predictor answers"):
        await inference(FakePredictor(httpx.ConnectError("x"))).scores("5-1", "v-1", ["a"])


@pytest.mark.parametrize("failure", [httpx.ReadError("x"), build_error(503)])
async def test_one_retry_after_disconnect_or_503(inference: Make, failure: Any) -> None:
    predictor = FakePredictor(failure)
    await inference(predictor).scores("5-1", "v-1", ["a"])
    assert len(predictor.asked) == 2
    again = FakePredictor(failure, failure)
    with pytest.raises(Overloaded):
        await inference(again).scores("5-1", "v-1", ["a"])
    assert len(again.asked) == 2


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, EngineError),
        (404, NotFound),
        (424, EngineError),
        (429, Overloaded),
        (500, EngineError),
        (504, Overloaded),
    ],
)
async def test_other_errors_are_not_retried(inference: Make, status: int, error: type[Exception]) -> None:
    predictor = FakePredictor(build_error(status, "File 'x' differs."))
    with pytest.raises(error, match="File 'x' differs"):
        await inference(predictor).scores("5-1", "v-1", ["a"])
    assert len(predictor.asked) == 1


async def test_error_without_message_gets_one(inference: Make) -> None:
    with pytest.raises(EngineError, match="answered 500 to a request for version v-1"):
        await inference(FakePredictor(httpx.Response(500, text="<html>"))).scores("5-1", "v-1", ["a"])


def answer_with(**outputs: Any) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        whole = answer_correctly(request)
        length = int(whole.headers["Inference-Header-Content-Length"])
        head, rest = json.loads(whole.content[:length]), whole.content[length:]
        head |= outputs
        encoded = orjson.dumps(head)
        return httpx.Response(
            200, content=encoded + rest, headers={"Inference-Header-Content-Length": str(len(encoded))}
        )

    return answer


def test_answer_size_is_bounded(inference: Make) -> None:
    large = httpx.Response(
        200, headers={"Content-Length": str(MAX_ANSWER_BYTES + 1)}, stream=httpx.ByteStream(b"x")
    )
    predictor = FakePredictor(large)
    with pytest.raises(EngineError, match="is larger than the limit of 64 MB"):
        asyncio.run(inference(predictor).scores("5-1", "v-1", ["a"]))
    assert len(predictor.asked) == 1


def answer_three_rows(request: httpx.Request) -> httpx.Response:
    asked = parse_v2(request.content)
    scores = Scores(("A", "B"), np.full((3, 2), 0.5, np.float32))
    body, headers = answer_v2("p", "v-1", ScoreRequest(("", "", ""), asked.version, "", True), scores)
    return httpx.Response(200, content=body, headers=headers)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (answer_with(parameters={"version": "v-9"}), "answered with version v-9 to a request for v-1"),
        (answer_three_rows, r"answered \(3, 2\) probabilities for 1 texts and 2 labels"),
        (answer_with(outputs=[]), "cannot be read"),
        (httpx.Response(200, text="hello"), "another server"),
        (
            httpx.Response(200, text="hello", headers={"Inference-Header-Content-Length": "3"}),
            "another server",
        ),
    ],
)
async def test_unexpected_answer_is_an_engine_error(inference: Make, answer: Any, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        await inference(FakePredictor(answer)).scores("5-1", "v-1", ["a"])


async def test_deadline_covers_all_retries(inference: Make) -> None:
    class Slow(FakePredictor):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(60)
            return await super().handle_async_request(request)

    with pytest.raises(Overloaded, match="within 0.2 s"):
        await inference(Slow(), predict_timeout_seconds=0.2).scores("5-1", "v-1", ["a"])


async def test_no_predictor_is_unreachable_and_not_ready(
    inference: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.cluster.inference.CONNECT_RETRY_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as found:
        url = f"http://127.0.0.1:{found.getsockname()[1]}"
    unreachable = inference(predictor_url=url)
    assert not await unreachable.ready()
    with pytest.raises(Overloaded, match=f"No predictor answers at {url}"):
        await unreachable.scores("5-1", "v-1", ["a"])


async def test_ready_follows_the_predictor(inference: Make) -> None:
    assert await inference(FakePredictor(httpx.Response(200))).ready()
    assert not await inference(FakePredictor(httpx.Response(503))).ready()


async def test_connections_are_replaced_after_30_seconds(
    inference: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("services.cluster.inference.time.monotonic", lambda: now[0])
    predictor = FakePredictor()
    remote = inference(predictor, predict_timeout_seconds=0.1)
    clients = []
    for moment in (0.0, CONNECTION_MAX_AGE, CONNECTION_MAX_AGE + 1, 2 * CONNECTION_MAX_AGE):
        now[0] = moment
        await remote.scores("5-1", "v-1", ["a"])
        clients.append(remote._client)
    assert [one is clients[0] for one in clients] == [True, True, False, False]
    assert clients[2] is clients[3]
    while not predictor.closed:  # noqa: ASYNC110  # it is another loop that closes it
        await asyncio.sleep(0.01)
    assert predictor.closed == 1


def test_requests_work_from_any_event_loop(inference: Make) -> None:
    remote = inference(FakePredictor())
    for _ in range(2):
        assert asyncio.run(remote.scores("5-1", "v-1", ["a"])).labels == ("A", "B")


def test_requests_of_several_threads_work_at_once(inference: Make) -> None:
    remote = inference(FakePredictor())
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(asyncio.run, remote.scores("1-1", "v-1", ["a text"])) for _ in range(40)]
        assert all(len(one.result(30).probabilities) == 1 for one in asked)


async def test_cancelling_a_request_cancels_it_downstream(inference: Make) -> None:
    cancelled = asyncio.Event()
    here = asyncio.get_running_loop()

    class Slow(FakePredictor):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            try:
                await asyncio.sleep(60)
            finally:
                here.call_soon_threadsafe(cancelled.set)
            return await super().handle_async_request(request)

    asked = asyncio.create_task(inference(Slow()).scores("5-1", "v-1", ["a"]))
    await asyncio.sleep(0.1)
    asked.cancel()
    await asyncio.wait_for(cancelled.wait(), 5)


class SlowServer:
    """A server that answers requests for project 6-1 only; those of project 5-1 hang, each on a connection."""

    def __init__(self) -> None:
        self.hanging = 0
        self.is_full = asyncio.Event()
        self.released = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(re.search(r"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]  # httpx sends it
                request = httpx.Request("POST", "http://x", content=await reader.readexactly(length))
                if "/p5-1/" in head:
                    self.hanging += 1
                    if self.hanging == PLACES // 2:
                        self.is_full.set()
                    await self.released.wait()
                answer = answer_correctly(request)
                fields = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
                writer.write(f"HTTP/1.1 200 OK\r\n{fields}\r\n".encode() + answer.content)

    async def close(self) -> None:
        """Close all connections."""
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


async def test_project_with_slow_answers_delays_no_other(
    inference: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowServer()
    server = await asyncio.start_server(slow.serve, "127.0.0.1", 0, backlog=512)
    host, port = server.sockets[0].getsockname()[:2]
    asked = inference(predictor_url=f"http://{host}:{port}", predict_timeout_seconds=60.0)
    monkeypatch.setattr(asked._shares, "wait_seconds", 60.0)
    requests = [asyncio.create_task(asked.scores("5-1", "v-1", ["a"])) for _ in range(250)]
    try:
        async with asyncio.timeout(30):
            await slow.is_full.wait()
            assert (await asked.scores("6-1", "v-1", ["a"])).labels == ("A", "B")
            done = await asyncio.gather(*(asked.scores("6-1", "v-1", ["a"]) for _ in range(20)))
            assert len(done) == 20
        assert slow.hanging == PLACES // 2
        refused = [task for task in requests if task.done() and task.exception()]
        assert len(refused) == 250 - PLACES // 2 - MAX_WAITING
        assert all(isinstance(task.exception(), Overloaded) for task in refused)
    finally:
        slow.released.set()
        await asyncio.gather(*requests, return_exceptions=True)
        server.close()
        await slow.close()
    assert sum(task.exception() is None for task in requests) == PLACES // 2 + MAX_WAITING


async def test_thresholds_of_several_labels_are_read(inference: Make) -> None:
    thresholds = np.array([0.5, 0.25], np.float32)

    def answer(request: httpx.Request, numbers: Any = thresholds) -> httpx.Response:
        scores = Scores(SCORES.labels, SCORES.probabilities, numbers)
        body, headers = answer_v2("p5-1", "v-1", parse_v2(request.content), scores)
        return httpx.Response(200, content=body, headers=headers)

    found = await inference(FakePredictor(answer)).scores("5-1", "v-1", ["a"])
    assert found.thresholds is not None
    assert found.thresholds.tolist() == [0.5, 0.25]
    assert (await inference(FakePredictor()).scores("5-1", "v-1", ["a"])).thresholds is None
    broken = FakePredictor(lambda request: answer(request, thresholds[:1]))
    with pytest.raises(EngineError, match="1 thresholds for 2 labels"):
        await inference(broken).scores("5-1", "v-1", ["a"])

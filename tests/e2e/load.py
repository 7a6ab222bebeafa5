"""Requests as Label Studio sends them, five a second, and the outcome of each.

A request fails if it is not answered with 200 within Label Studio's timeout, or lacks predictions for a task. A prediction's
version is right if /setup returned it within a second before or after.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

TIMEOUTS = {"/health": 1.0, "/setup": 3.0, "/predict": 100.0, "/webhook": 1.0}
"""Label Studio's timeouts in seconds."""
PER_SECOND = 5
TOLERANCE = 1.0
_ORDER = ("/predict", "/setup", "/predict", "/health", "/webhook")


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one request."""

    path: str
    began: float
    ended: float
    problem: str = ""
    version: str = ""
    """From /setup, or from the predictions."""

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass
class Load:
    """Sends requests about one project until it is left. A context manager."""

    url: str
    project: str
    """`<id>.<created>`, as Label Studio names it."""
    texts: tuple[str, ...]
    """Each is sent with a number behind it, so that no answer is read from a cache."""
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _number: Iterator[int] = field(default_factory=itertools.count)

    def __enter__(self) -> Self:
        self._client = httpx.Client(base_url=self.url, headers=dict(self.headers))
        self._pool = ThreadPoolExecutor(64)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.wait(2 * TOLERANCE)  # the latest version is requested once more
        self._over.set()
        self._thread.join()
        self._pool.shutdown()
        self._client.close()

    def _run(self) -> None:
        due = time.monotonic()
        for path in itertools.cycle(_ORDER):
            if self._over.wait(max(0.0, due - time.monotonic())):
                return
            self._pool.submit(self._ask, path)
            due += 1 / PER_SECOND

    def _ask(self, path: str) -> None:
        began = time.time()
        problem, version = "", ""
        try:
            problem, version = self._outcome(path)
        except httpx.HTTPError as error:
            problem = f"{type(error).__name__}: {error}"
        ended = time.time()
        if not problem and ended - began > TIMEOUTS[path]:
            problem = f"answered after {ended - began:.1f} s"
        self.answers.append(Answer(path, began, ended, problem, version))

    def _outcome(self, path: str) -> tuple[str, str]:
        timeout = TIMEOUTS[path]
        if path == "/health":
            return _problem(self._client.get(path, timeout=timeout)), ""
        response = self._client.post(path, json=self._body(path), timeout=timeout)
        if problem := _problem(response):
            return problem, ""
        if path == "/setup":
            return "", str(response.json()["model_version"])
        if path == "/predict":
            return self._predictions(response.json())
        return "", ""

    def _body(self, path: str) -> dict[str, Any]:
        if path == "/predict":
            texts = [f"{text} {next(self._number)}" for text in self.texts]
            tasks = [{"id": number, "data": {"text": text}} for number, text in enumerate(texts)]
            return {"project": self.project, "tasks": tasks, "params": {"context": None}}
        if path == "/webhook":
            return {"action": "PROJECT_UPDATED", "project": {"id": int(self.project.partition(".")[0])}}
        return {
            "project": self.project,
            "schema": "",
            "hostname": "",
            "access_token": "",
            "extra_params": None,
        }

    def _predictions(self, body: dict[str, Any]) -> tuple[str, str]:
        results = body.get("results")
        if not isinstance(results, list) or len(results) != len(self.texts):
            return f"answered {results!r:.80}", ""
        if any(not result for result in results):
            return "a task without a prediction", ""
        versions = {result["model_version"] for result in results}
        return ("", versions.pop()) if len(versions) == 1 else (f"several versions: {versions}", "")

    def failures(self) -> list[Answer]:
        """Return failed requests, including those with a wrong version."""
        setups = [answer for answer in self.answers if answer.path == "/setup" and not answer.problem]
        return [
            answer
            for answer in self.answers
            if answer.problem or (answer.path == "/predict" and not _is_expected(answer, setups))
        ]

    def report(self) -> str:
        """Return one line for the test's report."""
        slowest = {
            path: max((answer.seconds for answer in self.answers if answer.path == path), default=0.0)
            for path in TIMEOUTS
        }
        versions = Counter(answer.version for answer in self.answers if answer.path == "/predict")
        failed = self.failures()
        actual = "; ".join(
            f"{answer.path} {answer.problem or 'wrong version ' + answer.version}" for answer in failed[:5]
        )
        slow = ", ".join(f"{path} {seconds:.2f} s" for path, seconds in slowest.items())
        return f"{len(self.answers)} requests, {len(failed)} failed ({actual}); slowest {slow}; versions {dict(versions)}"


def _problem(response: httpx.Response) -> str:
    return "" if response.status_code == httpx.codes.OK else f"{response.status_code}: {response.text[:120]}"


def _is_expected(answer: Answer, setups: list[Answer]) -> bool:
    """Return whether /setup returned that version within the tolerance, or right before or after if it was not answered then."""
    near = [
        setup
        for setup in setups
        if setup.ended >= answer.began - TOLERANCE and setup.began <= answer.ended + TOLERANCE
    ]
    before = [setup for setup in setups if setup.ended < answer.began][-1:]
    after = [setup for setup in setups if setup.began > answer.ended][:1]
    return any(setup.version == answer.version for setup in near or [*before, *after])

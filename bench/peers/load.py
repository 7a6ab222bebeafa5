"""The load of one measurement, in a process of its own: `python -m bench.peers.load` reads a job as JSON and writes its answers' times.

Closed loop: each client sends its next request once the last was answered. Open loop: requests arrive by a Poisson process, and
each is timed from its arrival, so that a server that falls behind cannot slow down those who ask it (coordinated omission).
Connections are kept; an arrival that finds none free opens another.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import cycle

MAX_CONNECTIONS = 512
_GIVE_UP_SECONDS = 20.0
"""After the last arrival; what is still unanswered then counts as this late."""


@dataclass(frozen=True, slots=True)
class Job:
    """Where to send which bodies, and how."""

    port: int
    path: str
    bodies: list[str]
    """Sent in turn."""
    clients: int = 1
    seconds: float = 2.0
    most: int = 1_000_000
    """Requests after which it ends, if the seconds are not over."""
    rate: float = 0.0
    """Arrivals per second of an open loop; 0: a closed loop."""


@dataclass(slots=True)
class Outcome:
    """Milliseconds of each request in the order of their ends, and what went wrong."""

    milliseconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0
    last: str = ""
    """Body of the last answer."""


class Connections:
    """Connections to one server, each used by one request at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        bodies = [body.encode() for body in job.bodies]
        head = f"POST {job.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
        self._requests = cycle([f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies])

    async def ask(self) -> bytes:
        """Send the next request and return the answer's body. Raises OSError, ValueError for a status other than 200."""
        async with self._slots:
            reader, writer = self._free.pop() if self._free else await self._open()
            writer.write(next(self._requests))
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(_content_length(head))
            self._free.append((reader, writer))
        if b" 200 " not in head[:16]:
            raise ValueError(f"status {head[9:12].decode()}")
        return body

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._job.port, limit=1 << 20)


def _content_length(head: bytes) -> int:
    at = head.lower().index(b"content-length:") + len(b"content-length:")
    return int(head[at : head.index(b"\r\n", at)])


async def send(job: Job) -> Outcome:
    outcome, connections = Outcome(), Connections(job)
    began = time.perf_counter()
    if job.rate:
        await _open_loop(job, connections, outcome)
    else:
        left = iter(range(job.most))
        clients = (_client(connections, outcome, began + job.seconds, left) for _ in range(job.clients))
        await asyncio.gather(*clients)
    outcome.seconds = time.perf_counter() - began
    return outcome


async def _client(connections: Connections, outcome: Outcome, end: float, left: Iterator[int]) -> None:
    while time.perf_counter() < end and next(left, None) is not None:
        await _ask(connections, outcome, time.perf_counter())


async def _open_loop(job: Job, connections: Connections, outcome: Outcome) -> None:
    chance, due, tasks = random.Random(0), time.perf_counter(), []
    end = due + job.seconds
    while due < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(_ask(connections, outcome, due)))
        due += chance.expovariate(job.rate)
    _, late = await asyncio.wait(tasks, timeout=_GIVE_UP_SECONDS)
    for task in late:
        task.cancel()
    outcome.milliseconds += [_GIVE_UP_SECONDS * 1e3] * len(late)


async def _ask(connections: Connections, outcome: Outcome, since: float) -> None:
    try:
        body = await connections.ask()
        outcome.milliseconds.append((time.perf_counter() - since) * 1e3)
        outcome.last = body.decode()
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        outcome.errors.append(f"{type(error).__name__}: {error}"[:80])


def main() -> None:
    job = Job(**json.load(sys.stdin))
    json.dump(asdict(asyncio.run(send(job))), sys.stdout)


if __name__ == "__main__":
    main()

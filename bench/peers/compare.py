"""Run the workloads at each server in interleaved rounds, then open-loop arrivals, then a hundred thousand texts at ours."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import texts
from bench.machine import cores, resident_megabytes
from bench.peers import content, report
from bench.peers.load import Job
from bench.peers.servers import FITLOOP, Peer, all_of
from bench.peers.workload import Requests, build_requests, fresh, vary
from bench.result import Options, Result, say
from bench.rig import Rig, until
from demo.processes import DemoError, Server

HOME = Path(".bench/peers")
ROUNDS, SLOW_ROUNDS, SLOW_SECONDS = 3, 2, 5.0
"""A server that needs longer for its 1,000 texts has fewer rounds."""
CLIENTS, CLIENT_SECONDS, ONE_SECONDS, OPEN_SECONDS = 32, 3.0, 2.0, 5.0
SHARES = (0.5, 0.8, 0.95)
"""Of the throughput with 32 clients, for arrivals in an open loop."""
MIXED_TEXTS = 100_000
LAYERS, INNER = 6, 1536
"""Of MiniLM."""


@dataclass(slots=True)
class Measured:
    """What one server did."""

    texts: list[float] = field(default_factory=list)
    """Texts per second of each request with 1,000."""
    long: list[float] = field(default_factory=list)
    clients: list[float] = field(default_factory=list)
    """Requests per second with 32 clients."""
    clients_ms: list[float] = field(default_factory=list)
    one_ms: list[float] = field(default_factory=list)
    open_ms: dict[float, list[float]] = field(default_factory=dict)
    """By share of the throughput."""
    rates: dict[float, float] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    megabytes: float = 0.0
    first_seconds: float = 0.0
    status: str = ""
    """Why it was not measured."""


def run(options: Options, rig: Rig) -> Result:
    requests = build_requests(options)
    classifier, bucket = (HOME / "classifier").absolute(), (HOME / "bucket").absolute()
    content.build_classifier(classifier, options)
    shutil.rmtree(bucket, ignore_errors=True)
    content.publish(classifier, bucket)
    found: dict[str, Measured] = {}
    ceilings = {isa: ceiling(isa) for isa in (report.FULL, report.WITHOUT_AMX)}
    running: dict[str, tuple[Peer, Server]] = {}
    for name, peer in all_of(classifier, bucket, texts.intents(options.data), HOME.absolute()).items():
        found[name] = Measured(status=peer if isinstance(peer, str) else "")
        if isinstance(peer, Peer):
            start(peer, rig, requests, running, found[name])
    for number in range(ROUNDS):
        for name, (peer, _) in running.items():
            measure(peer, requests, found[name], number)
    for name, (peer, server) in running.items():
        measure_open(peer, requests, found[name])
        found[name].megabytes = resident_megabytes(_pid(server))
    memory = hold(*running[FITLOOP], requests) if FITLOOP in running else []
    for _, server in running.values():
        server.stop(10)
    return report.result(found, requests, ceilings, memory)


def ceiling(isa: str) -> dict[str, Any]:
    """Return the operations per second of the model's products, with oneDNN's instructions limited to `isa`."""
    sizes = (LAYERS, content.WIDTH, INNER, cores())
    command = [sys.executable, "-m", "bench.peers.ceiling", *map(str, sizes)]
    environment = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout))


def start(
    peer: Peer,
    rig: Rig,
    requests: Requests,
    running: dict[str, tuple[Peer, Server]],
    measured: Measured,
) -> None:
    """Start a server and wait for its first answer, or note why there is none."""
    server = peer.server(rig.folder)
    rig.servers.append(server)
    began = time.perf_counter()
    server.start()
    try:
        server.wait(180)
        until(lambda: _answers(peer, requests.short[:1]) or None, 120, "its first answer")
    except DemoError as error:
        server.kill()
        measured.status = "not started: " + str(error).splitlines()[-1][:120]
        say(f"peers: {peer.name}: {error}")
        return
    measured.first_seconds = time.perf_counter() - began
    running[peer.name] = (peer, server)
    say(f"peers: {peer.name} answered after {measured.first_seconds:.1f} s")


def _answers(peer: Peer, rows: list[str]) -> bool:
    """Return whether it answers with labels: a server may accept requests before it has a model."""
    outcome = send(peer, rows, most=1)
    try:
        return len(peer.labels(json.loads(outcome["last"]))) == len(rows)
    except (ValueError, LookupError, TypeError):
        return False


def send(peer: Peer, rows: Sequence[str], **options: Any) -> dict[str, Any]:
    """Send each of the rows as a request of its own."""
    return _send(Job(peer.port, peer.path, [peer.request([row]) for row in rows], **options))


def send_whole(peer: Peer, rows: Sequence[str]) -> dict[str, Any]:
    """Send one request with all rows."""
    outcome = _send(Job(peer.port, peer.path, [peer.request(rows)], seconds=600, most=1))
    assert not outcome["errors"], f"{peer.name}: {outcome['errors']}"
    return outcome


def _send(job: Job) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.peers.load"]
    done = subprocess.run(command, input=json.dumps(asdict(job)), capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def measure(peer: Peer, requests: Requests, measured: Measured, number: int) -> None:
    """Run the closed-loop workloads once."""
    if number >= SLOW_ROUNDS and min(measured.texts) < len(requests.short) / SLOW_SECONDS:
        return
    whole = send_whole(peer, vary(requests.short, number))
    measured.texts.append(len(requests.short) * 1e3 / whole["milliseconds"][0])
    if not number:
        measured.labels = peer.labels(json.loads(whole["last"]))
    long = send_whole(peer, vary(requests.long, number))
    measured.long.append(len(requests.long) * 1e3 / long["milliseconds"][0])
    many = send(peer, fresh(requests, 100 + number), clients=CLIENTS, seconds=CLIENT_SECONDS)
    measured.clients.append(len(many["milliseconds"]) / many["seconds"])
    measured.clients_ms += many["milliseconds"]
    one = send(peer, fresh(requests, 200 + number), seconds=ONE_SECONDS)
    measured.one_ms += one["milliseconds"]
    say(
        f"peers: round {number + 1}: {peer.name}: {measured.texts[-1]:.0f} texts/s, {measured.clients[-1]:.0f} requests/s, "
        f"{statistics.median(one['milliseconds']):.2f} ms for one. {'; '.join(sorted(set(many['errors'] + one['errors'])))}"
    )


def measure_open(peer: Peer, requests: Requests, measured: Measured) -> None:
    """Send requests at rates that do not depend on the answers."""
    for number, share in enumerate(SHARES):
        rate = statistics.median(measured.clients) * share
        outcome = send(peer, fresh(requests, 300 + number), seconds=OPEN_SECONDS, rate=rate)
        measured.rates[share] = rate
        measured.open_ms[share] = outcome["milliseconds"]


def hold(peer: Peer, server: Server, requests: Requests) -> list[tuple[int, float]]:
    """Send 100,000 texts, one in twenty a long one, in requests of 2,000; return texts and megabytes."""
    found = []
    for number in range(MIXED_TEXTS // 2_000):
        rows = [
            *vary(requests.short, number),
            *vary(requests.short[:900], -number),
            *vary(requests.long[:100], number),
        ]
        send_whole(peer, rows)
        found.append(((number + 1) * 2_000, resident_megabytes(_pid(server))))
    return found


def _pid(server: Server) -> int:
    assert server.process is not None
    return server.process.pid

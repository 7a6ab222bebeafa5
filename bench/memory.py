"""Resident memory of `fitloop local` while it serves MiniLM and trains nothing."""

from __future__ import annotations

import httpx

from bench import texts
from bench.machine import resident_megabytes
from bench.predict import ask
from bench.result import Options, Result, say
from bench.rig import Rig

GOAL = 450.0
_REQUEST, _REQUESTS, _TRAINED_ON = 1_000, 5, 300


def run(options: Options, rig: Rig) -> Result:
    train = texts.some(texts.banking77(options.data, "train"), _TRAINED_ON, seed=0)
    rows = [("when", "MB")]
    with rig.fitloop(METHOD="linear-probe") as backend, httpx.Client(timeout=300) as client:
        rows.append(("just started", f"{resident_megabytes(backend.pid):.0f}"))
        connected = rig.connect(backend, train, texts.intents(options.data))
        rig.train(backend, connected)
        rows.append(("a version has been trained and is served", f"{resident_megabytes(backend.pid):.0f}"))
        for number in range(_REQUESTS):
            ask(client, backend.url, connected, texts.mixed(options.data, _REQUEST, seed=number))
        found = resident_megabytes(backend.pid)
        rows.append((f"after {_REQUESTS * _REQUEST:,} predictions", f"{found:.0f}"))
        say(f"memory: {found:.0f} MB")
    return Result(
        name="memory",
        rows=tuple(rows),
        sentence=f"`fitloop local` takes {found:.0f} MB after {_REQUESTS * _REQUEST:,} predictions.",
        met=found <= GOAL,
        goal=f"at most {GOAL:.0f} MB",
        how=(
            "Resident memory (RSS, in millions of bytes) of the process alone: the trainer is a separate process, which has exited by "
            f"then. MiniLM with a linear probe, {_REQUESTS} requests of {_REQUEST:,} different short texts."
        ),
    )

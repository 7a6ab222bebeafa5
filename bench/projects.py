"""A predictor with many projects on one encoder: time until it is ready, and resident memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from bench import texts
from bench.machine import resident_megabytes
from bench.result import Options, Result, say
from bench.rig import Rig, base, until
from services.core.domain import (
    Artefact,
    EncoderManifest,
    Estimate,
    GateDecision,
    Lineage,
    Manifest,
    Method,
    Parameters,
    Pooling,
    Served,
    Serving,
)
from services.core.encoders import Encoders
from services.core.registry import Registry
from services.core.serving_table import ServingTableFile
from services.core.store import open_store
from services.engine.head import Head, Layer
from services.engine.pooling import Pooler
from services.engine.torch import TorchEngine
from services.trainer.publishing.int8 import convert

GOALS = {12: 260.0, 500: 400.0}
"""Megabytes, by number of projects."""
READY_SECONDS = 15.0
_LABELS, _WIDTH, _REQUESTS, _TEXTS = 20, 384, 20, 32


def run(options: Options, rig: Rig) -> Result:
    del rig
    rows = [
        ("projects", "ready after s", "MB when ready", f"MB after {_REQUESTS * _TEXTS} texts each for 12")
    ]
    met = True
    for projects, goal in GOALS.items():
        with (
            tempfile.TemporaryDirectory() as folder,
            _predictor(_bucket(Path(folder), projects)) as predictor,
        ):
            seconds, ready = predictor.seconds, resident_megabytes(predictor.pid)
            _ask(predictor.url, options, min(12, projects))
            after = resident_megabytes(predictor.pid)
        rows.append((str(projects), f"{seconds:.1f}", f"{ready:.0f}", f"{after:.0f}"))
        say(f"projects: {projects}: ready after {seconds:.1f} s, {ready:.0f} MB, then {after:.0f} MB")
        met = met and after <= goal and seconds <= READY_SECONDS
    return Result(
        name="projects",
        rows=tuple(rows),
        sentence=f"A predictor with {rows[-1][0]} projects of {_LABELS} labels takes {rows[-1][3]} MB.",
        met=met,
        goal=f"at most {GOALS[12]:.0f} MB with 12 projects and {GOALS[500]:.0f} with 500, ready within {READY_SECONDS:.0f} s",
        how=(
            "Resident memory (RSS, in millions of bytes) of the predictor's process, KServe included. All projects serve a linear "
            "probe on MiniLM from a folder as bucket."
        ),
    )


@dataclass(frozen=True, slots=True)
class _Predictor:
    pid: int
    url: str
    seconds: float
    """From its start until it was ready."""


def _bucket(folder: Path, projects: int) -> Path:
    """Write MiniLM as an encoder, a head of random weights for each project, and the serving table."""
    registry = Registry(open_store(folder.as_uri()))
    encoder = _encoder(registry, folder / "made")
    random = np.random.default_rng(0)
    for number in range(1, projects + 1):
        weight = random.normal(0, 1, (_LABELS, _WIDTH)).astype(np.float32)
        made = folder / "heads" / str(number)
        made.mkdir(parents=True)
        Head((Layer(weight, np.zeros(_LABELS, np.float32)),)).write(made)
        registry.publish(made, _manifest(f"{number}-1", encoder.digest))
    served = {f"{number}-1": Served("v-1", since=1.0) for number in range(1, projects + 1)}
    ServingTableFile(registry.store).write(Serving(1, 1, served))
    return folder


def _encoder(registry: Registry, folder: Path) -> EncoderManifest:
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(base() / name, folder / name)
    engine = TorchEngine(folder, Pooler("mean", normalize=True), _WIDTH, 0)
    convert(engine.model, "bert", folder / "ct2")
    manifest = EncoderManifest("ab" * 32, "all-MiniLM-L6-v2", "bert", _WIDTH, 256, Pooling(), "ct2-int8", "")
    return Encoders(registry.store).publish(folder, manifest)


def _manifest(key: str, encoder: str) -> Manifest:
    return Manifest(
        version="v-1",
        project_key=key,
        method=Method.LINEAR_PROBE,
        labels=tuple(f"label {number}" for number in range(_LABELS)),
        artefact=Artefact("head", "encoder", "", 256, 1.0),
        encoder=encoder,
        estimate=Estimate(300, 280, 0.9, 0.95, 0.9, "cross-fit", 300, 280),
        gate=GateDecision(True, "first", ("First version.",)),
        lineage=Lineage(key, tuple(range(300)), "h", "c", "minilm", "d", "0", Parameters(), None, 300, True),
        created_at=1.0,
    )


@contextmanager
def _predictor(bucket: Path) -> Iterator[_Predictor]:
    port, state = _free_port(), _free_port()
    environment = os.environ | {
        "FITLOOP_STORE": bucket.as_uri(),
        "FITLOOP_ROLLOUT_MODE": "reload",
        "FITLOOP_PREDICTOR_PORT": str(port),
        "FITLOOP_PREDICTOR_STATE_PORT": str(state),
        "FITLOOP_LOG_LEVEL": "WARNING",
    }
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "services.predictor"], env=environment)
    try:
        until(lambda: _is_ready(state) or None, 120, "the predictor is ready", every=0.05)
        yield _Predictor(process.pid, f"http://127.0.0.1:{port}", time.monotonic() - began)
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
    return False


def _ask(url: str, options: Options, projects: int) -> None:
    with httpx.Client(timeout=60) as client:
        for seed in range(_REQUESTS):
            instances = texts.mixed(options.data, _TEXTS, seed)
            for number in range(1, projects + 1):
                answer = client.post(f"{url}/v1/models/p{number}-1:predict", json={"instances": instances})
                answer.raise_for_status()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])

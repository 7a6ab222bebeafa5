"""Everything a run needs in a temporary folder: a project with learnable labels, a store and a tiny base model."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from services.core.domain import (
    EMBED,
    LabelState,
    Manifest,
    Method,
    Parameters,
    RunRequest,
    RunState,
    RunStatus,
    Served,
    Serving,
)
from services.core.encoders import Encoders
from services.core.registry import Registry
from services.core.runs import Runs, embed_run_name
from services.core.serving_table import ServingTableFile
from services.core.settings import Settings
from services.core.store.files import FileStore
from services.trainer.embedding import embed
from services.trainer.own_model import train_own_model
from services.trainer.process import RetryingStore, Run
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress, first_status
from services.trainer.training import train
from tests.support.base_models import TEXTS
from tests.support.label_states import write_label_state
from tests.support.labelstudio import FakeLabelStudio

WORDS = {
    "order": "order arrive parcel friday",
    "money": "money back shoes invoice",
    "account": "password change address account",
}
FILLER = " ".join(TEXTS).split()


def build_text(label: str, random_: random.Random) -> str:
    """Return nine words of the label's vocabulary and a random one."""
    words = [*random_.choices(WORDS[label].split(), k=9), random_.choice(FILLER)]
    random_.shuffle(words)
    return " ".join(words)


class FakeStop(Stop):
    """A stop that is requested after so many checks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    @requested.setter
    def requested(self, value: bool) -> None:
        raise AssertionError


@dataclass
class TrainerWorld:
    """Project 1 and its runs."""

    folder: Path
    base: Path
    labelstudio: FakeLabelStudio = field(default_factory=FakeLabelStudio)
    random: random.Random = field(default_factory=lambda: random.Random(0))
    stop: Stop = field(default_factory=Stop)
    checkpoint_seconds: float = 60.0
    pool_seconds: float = 60.0
    settings: Settings = field(default_factory=Settings)
    """Of runs of a class of the operator's."""

    def __post_init__(self) -> None:
        self.labelstudio.add_project(1, tuple(WORDS))
        self.store = FileStore(self.folder)
        self.runs, self.registry = Runs(self.store), Registry(self.store)

    @property
    def key(self) -> str:
        return self.labelstudio.project(1)[0].key

    def label(self, count: int) -> list[int]:
        """Add texts with their true labels."""
        numbers = []
        for place in range(count):
            label = tuple(WORDS)[place % len(WORDS)]
            number = self.labelstudio.add_task()
            self.labelstudio.tasks[1][number]["data"] = {"text": build_text(label, self.random)}
            self.labelstudio.label(number, label)
            numbers.append(number)
        return numbers

    def request(self, method: Method = Method.LINEAR_PROBE, asked: Any = None, **parameters: Any) -> str:
        name = self.runs.next_name(1)
        given = Parameters(method=method, base_model=str(self.base), max_length=32, **parameters)
        labels = write_label_state(self.store, self.labelstudio, control=given.control)
        self.runs.write(RunRequest(name, self.key, 1, "test", given, 1.0, asked=asked or {}, labels=labels))
        return name

    def request_embed(self, seconds: float = 60.0, *, label_names: str = "", **parameters: Any) -> str:
        """Request a run that computes features, and makes a version from label names if it is given their fingerprint."""
        name = embed_run_name(1, len(self.runs.embed_names(1)) + 1)
        given = Parameters(
            base_model=str(self.base), max_length=32, budget_seconds=seconds, control="label", **parameters
        )
        self.runs.write(
            RunRequest(name, self.key, 1, "test", given, 1.0, kind=EMBED, label_names=label_names)
        )
        return name

    def add_texts(self, count: int) -> list[int]:
        """Add unlabelled texts."""
        numbers = []
        for place in range(count):
            number = self.labelstudio.add_task()
            text = build_text(tuple(WORDS)[place % len(WORDS)], self.random)
            self.labelstudio.tasks[1][number]["data"] = {"text": text}
            numbers.append(number)
        return numbers

    def labels(self, run: str) -> LabelState:
        """Return the labels that the run was requested for."""
        request = self.runs.request(run)
        assert request is not None
        assert request.labels is not None
        return request.labels

    def forget_labels(self, run: str) -> None:
        """Make the request one of release 0.1.0, which does not name labels."""
        request = self.runs.request(run)
        assert request is not None
        self.runs.write(replace(request, labels=None))

    def train(self, run: str) -> None:
        """Do what the process does between its first status and its last."""
        request = self.runs.request(run)
        assert request is not None
        with Progress(self.runs, first_status(self.runs, run)) as progress:
            store = RetryingStore(self.store, self.stop, pause=0.001)
            run_ = Run(
                request,
                Runs(store),
                Registry(store),
                self.labelstudio,
                progress,
                self.stop,
                self.checkpoint_seconds,
                pool_seconds=self.pool_seconds,
            )
            if request.parameters.is_own_model:
                train_own_model(run_, self.settings, self.labelstudio)
            else:
                (embed if request.kind == EMBED else train)(run_)
            progress.finish(RunState.DONE, 0)

    def status(self, run: str) -> RunStatus:
        status = self.runs.status(run)
        assert status is not None
        return status

    def weights(self, version: str) -> dict[str, NDArray[np.float32]]:
        """Return the tensors of the version's encoder."""
        encoders = Encoders(self.store)
        manifest = encoders.manifest(self.manifest(version).encoder)
        return load_file(encoders.folder(manifest, ["model.safetensors"]) / "model.safetensors")

    def manifest(self, version: str) -> Manifest:
        return self.registry.manifest(self.key, version)

    def serve(self, version: str, *, pinned: bool = False) -> None:
        """Serve a version, as the leader would."""
        ServingTableFile(self.registry.store).write(
            Serving(1, 1, {self.key: Served(current=version, pinned=pinned)})
        )

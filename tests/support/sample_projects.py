"""Realistic projects for tests of the pages: versions with manifests and reports, a run, a board.

Reports are built by the trainer's own code from made-up answers; nothing is trained.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.adapter.state.board import ProjectView
from services.adapter.state.board_file import BOARD_KEY, BoardDocument
from services.core import documents
from services.core.domain import (
    CutTexts,
    Disagreement,
    Estimate,
    ExpectedAccuracy,
    GateDecision,
    LabelDisagreement,
    LabelSpace,
    Manifest,
    OutOfSample,
    Project,
    RunState,
    RunStatus,
    Served,
    Serving,
    Truncation,
    Uncounted,
)
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.serving_table import ServingTableFile
from services.core.store import ObjectStore
from services.trainer.data.dataset import Dataset, Example
from services.trainer.evaluation.gate import decide, decide_first, pair_up
from services.trainer.evaluation.metrics import estimate
from services.trainer.evaluation.near_duplicates import Neighbours, list_near_duplicates
from services.trainer.evaluation.report import build_report, changed_texts
from services.trainer.evaluation.suspects import list_suspects
from tests.support.label_states import EMPTY_STATE
from tests.support.manifests import build_manifest as sample

INTENTS = (
    "Cancel order", "Damaged item", "Delivery status", "Invoice request", "Refund", "Return an item", "Something else"
)  # fmt: skip
HOSTILE = "<script>alert('title')</script>"
LONG = "Customer messages of the northern warehouses, " * 6
NOW = 1_795_600_000.0


@dataclass(frozen=True, slots=True)
class BuiltVersion:
    """A version, and the out-of-sample predictions that the next one is compared with."""

    manifest: Manifest
    answers: OutOfSample
    report: dict[str, object]


def build_project(number: int, title: str) -> Project:
    return Project(f"{number}-{number}", number, title, "<View/>", f"hash-{number}", "2026-11-23T22:35:52Z")


def build_versions(
    key: str, count: int, labels: Sequence[str] = INTENTS, stem: str = "shop"
) -> list[BuiltVersion]:
    """Build versions, oldest first; each is better than the one before, except the third, which the gate held."""
    made: list[BuiltVersion] = []
    served: BuiltVersion | None = None
    for number in range(1, count + 1):
        texts = 12 + 28 * number
        skill = 0.2 + 0.62 * (1 - 0.8**number) - (0.35 if number == 3 else 0)
        found = _version(key, f"{stem}-{number}", number, texts, skill, labels, served)
        made.append(found)
        served = found if found.manifest.gate.promote else served
    return made


def publish_versions(store: ObjectStore, made: Sequence[BuiltVersion]) -> None:
    """Publish them with all files that the pages read."""
    for one in made:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "oos.json").write_bytes(documents.dump(one.answers))
            (Path(folder) / "report.json").write_text(json.dumps(one.report))
            Registry(store).publish(Path(folder), one.manifest)


def build_view(number: int, title: str, made: Sequence[BuiltVersion] = (), **changes: Any) -> ProjectView:
    """Build the board's view of a project that serves the newest promoted version."""
    through = [one.manifest.version for one in made if one.manifest.gate.promote]
    served = Served(through[-1], through[-2] if through[1:] else None) if through else Served()
    space = LabelSpace("intent", "text", "$text", INTENTS, note="Choices 'intent' of the text 'text'")
    sentence = f"serving {served.current}; waiting: 6 of 10 labelled tasks changed" if through else "waiting: 6 of 10 labelled tasks changed"  # fmt: skip
    shown = ProjectView(build_project(number, title), space, served, 12, 6, 10, sentence, checked_at=NOW)
    return replace(shown, **changes)


def build_run_status(number: int, step: int = 30) -> RunStatus:
    """Build the status of a run in its second stage."""
    return RunStatus(
        f"{number}-9", RunState.RUNNING, "fine-tuning", step, 120, 0.4, 85.0, 40.0, updated_at=NOW, seconds={"reading": 1.2}
    )  # fmt: skip


def publish_board(store: ObjectStore, views: Sequence[ProjectView]) -> None:
    """Write board.json, serving.json and the status of each run, as the leader does."""
    registry, runs = Registry(store), Runs(store)
    for one in views:
        registry.write_project(one.project)
        if one.active:
            runs.write(one.active)
            lines = (f"epoch 2 step {step} loss {1 / step:.3f}" for step in range(1, 61))
            store.write(f"runs/{one.active.run}/log.txt", "\n".join(lines).encode())
    ServingTableFile(registry.store).write(Serving(1, 1, {one.project.key: one.served for one in views}))
    store.write(BOARD_KEY, documents.dump(BoardDocument(tuple(views), NOW, 1)))


def _version(
    key: str,
    name: str,
    number: int,
    texts: int,
    skill: float,
    labels: Sequence[str],
    before: BuiltVersion | None,
) -> BuiltVersion:
    dataset = _dataset(texts, labels)
    probabilities = _answers(dataset, skill)
    rows: NDArray[np.int64] = np.arange(texts, dtype=np.int64)
    found = estimate(probabilities, dataset.targets, "cross-fit", np.arange(texts) % 9 == 0)
    answers = OutOfSample(
        dataset.labels,
        "cross-fit",
        {key: tuple(row.tolist()) for key, row in zip(dataset.keys, probabilities, strict=True)},
    )
    truth = {example.key: example.label for example in dataset.examples}
    compared = pair_up(answers, before.answers, truth, None) if before else None
    decision = (
        decide(compared, same_method=True, labels_removed=(), compared_with=before.manifest.version)
        if compared and before
        else decide_first(answers, truth)
    )
    report = build_report(dataset, rows, probabilities, found, 1.2)
    named = {
        **report,
        "cut": documents.to_plain(CutTexts(4, 1, (1004, 1002))),
        "near_duplicates": documents.to_plain(list_near_duplicates(dataset, _neighbours(texts))),
        "changed": changed_texts(dataset, decision.compared_with, compared),
        "suspects": documents.to_plain(list_suspects(dataset, rows, probabilities, np.ones(texts, np.bool_))),
    }
    return BuiltVersion(_manifest(key, name, number, dataset, found, decision), answers, named)


def _manifest(
    key: str, name: str, number: int, dataset: Dataset, found: Estimate, decision: GateDecision
) -> Manifest:
    made = sample(name, key, dataset.labels)
    lineage = replace(made.lineage, run=f"{key.partition('-')[0]}-{number}", texts=len(dataset.examples), parent=decision.compared_with)  # fmt: skip
    expected = (
        ExpectedAccuracy(min(0.95, found.right / found.judged + 0.08), 0.05, 900) if number > 2 else None
    )
    truncation = Truncation(len(dataset.examples), 4, 190, 128, 512, 1.2)
    return replace(
        made,
        estimate=found,
        expected=expected,
        gate=decision,
        lineage=lineage,
        truncation=truncation,
        created_at=NOW + 3600 * number,
    )


def _dataset(texts: int, labels: Sequence[str]) -> Dataset:
    examples = tuple(
        Example(
            f"{number:064x}", f"text {number}", labels[number % len(labels)], 1000 + number, (), 5000 + number
        )
        for number in range(texts)
    )
    names = tuple(labels)
    return Dataset(
        examples,
        names,
        EMPTY_STATE,
        (Uncounted("cancelled", 2), Uncounted("no_text", 1)),
        (1003, 1010),
        left_out={"no_text": (1007,)},
        disagreement=Disagreement(
            40,
            31,
            2,
            (1003, 1010, 1005),
            (LabelDisagreement(labels[0], 9, 5), LabelDisagreement(labels[-1], 7, 4)),
        ),
    )


def _neighbours(texts: int) -> Neighbours:
    """Return every ninth text as a near-duplicate of the one after it."""
    rows = np.arange(texts)
    nearest = np.where(rows % 9 == 0, rows + 1, np.where(rows % 9 == 1, rows - 1, -1))
    nearest[nearest >= texts] = -1
    return Neighbours(nearest, np.where(nearest >= 0, 0.97, 0).astype(np.float32))


def _answers(dataset: Dataset, skill: float) -> NDArray[np.float32]:
    """Return (texts, labels): each text is right with the probability `skill`, reproducibly; right ones are more confident."""
    size = len(dataset.labels)
    rows = np.empty((len(dataset.targets), size), np.float32)
    for place, target in enumerate(dataset.targets):
        dice = random.Random(place)
        luck, other, sure = dice.random(), (target + 1 + dice.randrange(2)) % size, dice.random()
        top = 0.5 + (0.49 * sure**0.5 if luck < skill else 0.4 * sure**2)
        rows[place] = (1 - top) / max(1, size - 1)
        rows[place, target if luck < skill else other] = top
    return rows

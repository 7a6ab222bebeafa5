"""The gate of versions of a class of the operator's: a smoke test, and where labels came meanwhile, the usual comparison."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from services.core.domain import GateDecision, Manifest, Project
from services.core.errors import CorruptLabels, FitloopError, ModelClassError
from services.core.labels.index import EMPTY, LabelIndex
from services.core.labels.segments import LabelStore
from services.mlbackend.folders import write_folder
from services.mlbackend.model_class import ModelClass, WorkerSettings
from services.mlbackend.process import WorkerProcess
from services.trainer.evaluation.gate import Pairs, decide
from services.trainer.own_model.later_labels import LaterLabels, read_later_labels
from services.trainer.own_model.trial import TaskSource, Trial, Verdict, sample_tasks, try_out
from services.trainer.own_model.version import OwnVersion
from services.trainer.process import Run

KIND: Final = "not-evaluated"
"""`GateDecision.kind` of a version that was promoted for its smoke test alone."""
NOTHING_FITS: Final = "smoke-test"
"""Of one that was held: nothing that it answered fits the label config."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the version of one run."""

    run: Run
    project: Project
    source: TaskSource
    settings: WorkerSettings

    def judge(
        self, version: OwnVersion, current: Manifest | None, since: float, *, requested: bool
    ) -> Verdict:
        """Try the version, in a process that has nothing but its files. Raises ModelClassError if it does not answer."""
        with self.run.stop.interruptible(), ExitStack() as stack:
            worker = stack.enter_context(self._loaded(stack, version))
            trial = try_out(worker, sample_tasks(self.source, self.project.id))
            replaced = current.version if current else None
            if not trial.fits:
                return Verdict(
                    trial, GateDecision(False, NOTHING_FITS, (f"Held: {trial.in_words()}.",), replaced)
                )
            found = self._later_labels(since)
            if found is None:
                return Verdict(trial, not_evaluated(trial, replaced))
            chosen = found.chosen(worker.predict(found.tasks).predictions)
            pairs = self._compare(stack, found, chosen, current)
        return Verdict(trial, decided(trial, pairs, replaced, requested=requested), found.estimate(chosen))

    def _loaded(self, stack: ExitStack, version: OwnVersion) -> WorkerProcess:
        """Return a process with a copy of the version's files: what it writes there is not published."""
        folder = _temporary(stack)
        version.copy_to(folder)
        return self._process(version.model, folder)

    def _process(self, model: str, folder: Path) -> WorkerProcess:
        return WorkerProcess(
            ModelClass(model, self.project.id, self.project.label_config), folder, self.settings
        )

    def _later_labels(self, since: float) -> LaterLabels | None:
        state = self.run.request.labels
        if not since or state is None:
            return None
        try:
            index: LabelIndex = LabelStore(self.run.runs.store, self.project.key).load(state)
        except CorruptLabels:
            return None
        return read_later_labels(self.source, self.project.id, state.space, index or EMPTY, since)

    def _compare(
        self, stack: ExitStack, found: LaterLabels, chosen: list[int | None], current: Manifest | None
    ) -> Pairs | None:
        """Compare with the current version on these tasks; None if that is of another kind, or does not answer."""
        if current is None or current.own_model is None:
            return None
        folder = _temporary(stack)
        try:
            write_folder(self.run.registry, current, folder)
            worker = stack.enter_context(self._process(current.own_model.model, folder))
            before = found.chosen(worker.predict(found.tasks).predictions)
        except (ModelClassError, FitloopError) as error:
            log.warning("current_not_evaluated", version=current.version, error=str(error))
            return None
        return found.pairs(before, chosen)


def not_evaluated(trial: Trial, replaced: str | None) -> GateDecision:
    """Return the decision on a version of which only its smoke test is known."""
    return GateDecision(True, KIND, (f"Promoted: not evaluated; {trial.in_words()}.",), replaced)


def decided(trial: Trial, pairs: Pairs | None, replaced: str | None, *, requested: bool) -> GateDecision:
    """Return the usual decision on texts that were labelled since `fit` began, where both versions answered them."""
    if pairs is None or replaced is None:
        reason = f"Promoted: there was no version to compare it with; {trial.in_words()}."
        return GateDecision(True, "first", (reason,), replaced)
    return decide(pairs, same_method=True, labels_removed=(), compared_with=replaced, requested=requested)


def _temporary(stack: ExitStack) -> Path:
    name = tempfile.TemporaryDirectory(prefix="fitloop-version-", ignore_cleanup_errors=True)
    return Path(stack.enter_context(name))

"""Deletes encoders that nothing needs: a worker lists them, the leader's thread decides, workers delete.

What the manifests of connected projects name is known from their sweeps; only those of other projects are read here, at most once
a day, and only if an encoder might be deleted. The leader's thread, which alone launches runs, deletes the manifest of an encoder
itself, right after it has seen that no run has claimed it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import structlog

from services.adapter.leader.encoder_uses import KnownUses
from services.adapter.leader.workers import Finished, Workers
from services.adapter.state.documents import NotLeading
from services.adapter.state.gc_reports import ReportedLeftover
from services.adapter.state.project_state import EncoderReferences
from services.adapter.training.encoders import DAY_SECONDS, Decision, Fate, ProjectUse, decide
from services.adapter.training.retention import encoder_references
from services.core.encoder_listing import Alias, EncoderListing, StoredEncoder, list_encoders
from services.core.encoders import FOLDER, MANIFEST, RETIRED, Encoders
from services.core.errors import StoreError
from services.core.redaction import safe_reason
from services.core.registry import Registry
from services.core.store import ObjectStore

log = structlog.get_logger()
_WORK: Final = "encoders"
_PASS_SECONDS: Final = 60.0
"""Between two listings of encoders/."""


@dataclass(frozen=True, slots=True)
class EncoderSurvey:
    """What a worker has found."""

    listing: EncoderListing = field(default_factory=EncoderListing)
    others: Mapping[str, ProjectUse] = field(default_factory=dict)
    """Of projects in the bucket that are not connected, by key."""


def survey_encoders(store: ObjectStore, before: EncoderSurvey, known: KnownUses, now: float) -> EncoderSurvey:
    """List the encoders, and read what other projects need if one might be deleted. Changes nothing. Raises StoreError."""
    listing = list_encoders(store, before.listing)
    decisions = decide(listing, known.uses, known.unknown, known.default_base, now)
    if all(one.fate is Fate.KEPT for one in decisions):
        return EncoderSurvey(listing, before.others)
    connected = {use.project for use in known.uses}
    others = {
        key: _use_of_other(store, key, before.others.get(key), now)
        for key in store.folders("projects/")
        if key not in connected
    }
    return EncoderSurvey(listing, others)


def _use_of_other(store: ObjectStore, key: str, before: ProjectUse | None, now: float) -> ProjectUse:
    if before and before.references and now - before.references.read_at <= DAY_SECONDS:
        return before
    manifests, unreadable = Registry(store).all_manifests(key)
    return ProjectUse(key, encoder_references(manifests, unreadable, now))


@dataclass(slots=True)
class EncoderCollector:
    """Lists the encoders every few minutes, and deletes those that nothing needs. Only the leader's thread may call it."""

    store: ObjectStore
    workers: Workers
    known: Callable[[], KnownUses]
    clock: Callable[[], float]
    report: Callable[[Sequence[Decision], Sequence[ProjectUse]], None] = lambda *_: None
    """Called with what is known of all encoders, after each pass. May raise StoreError."""
    due_at: float = 0.0
    survey: EncoderSurvey = field(default_factory=EncoderSurvey)
    """The last one."""
    decisions: tuple[Decision, ...] = ()
    """Of the last pass."""
    problem: str = ""
    """Why the last pass could not end; "" if it did."""
    _learned: dict[str, EncoderReferences] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        """Whether a pass is in progress."""
        return self.workers.is_busy(_WORK)

    def step(self, now: float) -> None:
        """Begin a pass if one is due."""
        if now >= self.due_at:
            self.begin(now, dry_run=False)

    def begin(
        self, now: float, *, dry_run: bool, learned: Mapping[str, EncoderReferences] | None = None
    ) -> bool:
        """Begin a pass; return whether none was in progress.

        `learned`: which encoders the versions of each project name, by its key, if that was just read.
        """
        self._learned |= learned or {}
        work = partial(survey_encoders, self.store, self.survey, self._known(), now)
        if not self.workers.submit(_WORK, work, partial(self._surveyed, dry_run=dry_run)):
            return False
        self.due_at = now + _PASS_SECONDS
        return True

    def leftovers(self) -> list[ReportedLeftover]:
        """Return the encoders that nothing needs as the last pass has found them, and why some are still there."""
        return [
            ReportedLeftover(
                one.encoder.name, one.why, one.encoder.size, "" if one.fate is Fate.DELETED else one.why
            )
            for one in self.decisions
            if one.fate is not Fate.KEPT
        ]

    def _known(self) -> KnownUses:
        """Return what is known, from sweeps or from a `fitloop gc` after them."""
        known = self.known()
        return replace(known, uses=tuple(map(self._newest, known.uses)))

    def _newest(self, use: ProjectUse) -> ProjectUse:
        learned = self._learned.get(use.project)
        is_newer = learned and (use.references is None or learned.read_at > use.references.read_at)
        return replace(use, references=learned) if is_newer else use

    def _surveyed(self, finished: Finished[EncoderSurvey], *, dry_run: bool) -> None:
        if finished.error is not None:
            self._failed(finished.error)
            return
        self.survey, self.problem = finished.result(), ""
        known = self._known()
        uses = tuple({**self.survey.others, **{use.project: use for use in known.uses}}.values())
        listing = self.survey.listing
        self.decisions = tuple(decide(listing, uses, known.unknown, known.default_base, self.clock()))
        try:
            self.report(self.decisions, uses)
        except StoreError as error:
            self._failed(error)
        if not dry_run:
            self._carry_out()

    def _carry_out(self) -> None:
        """Delete manifests here, and have a worker do the rest. The next pass finds what is left. Raises NotLeading."""
        try:
            decided = [one for one in self.decisions if one.fate is not Fate.DELETED or self._unpublish(one)]
        except StoreError as error:
            self._failed(error)
            return
        work = partial(carry_out, self.store, decided, self.survey.listing.aliases, self.clock)
        if any(map(_is_change, decided)):
            self.workers.submit(_WORK, work, self._carried_out)

    def _unpublish(self, decision: Decision) -> bool:
        """Delete the manifest of an encoder unless a run has claimed it since it was listed; return whether it was deleted."""
        digest = decision.encoder.digest
        if Encoders(self.store).retired_at(digest) is None:
            return False
        self.store.delete(f"{FOLDER}{digest}/{MANIFEST}")
        return True

    def _carried_out(self, finished: Finished[None]) -> None:
        if finished.error is not None:
            self._failed(finished.error)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, NotLeading):
            raise error
        self.problem = safe_reason(error)
        log.warning("encoder_sweep_failed", reason=self.problem)


def carry_out(
    store: ObjectStore, decisions: Sequence[Decision], aliases: Sequence[Alias], clock: Callable[[], float]
) -> None:
    """Delete, retire and keep encoders as decided, in a worker. The manifests of those to be deleted are gone. Raises StoreError."""
    encoders = Encoders(store)
    for decision in decisions:
        digest = decision.encoder.digest
        if not _is_change(decision):
            continue
        if decision.fate is Fate.KEPT:
            encoders.keep(digest)
        elif decision.fate is Fate.RETIRED:
            for alias in (alias for alias in aliases if alias.digest == digest):
                store.delete(alias.key)
            encoders.retire(digest, clock())  # by now no run can find it by an alias
        else:
            _delete_files(store, decision.encoder)
        log.info("encoder_decided", encoder=digest[:12], fate=decision.fate, reason=decision.why)


def _is_change(decision: Decision) -> bool:
    is_retired = decision.encoder.retired_at is not None
    return decision.fate in {Fate.DELETED, Fate.RETIRED} or (decision.fate is Fate.KEPT and is_retired)


def _delete_files(store: ObjectStore, encoder: StoredEncoder) -> None:
    """Delete the files that were listed: a run may be publishing the encoder again. The mark goes last, so that a next pass continues."""
    for name in sorted(encoder.sizes.keys() - {MANIFEST}, key=lambda name: name == RETIRED):
        store.delete(f"{FOLDER}{encoder.digest}/{name}")

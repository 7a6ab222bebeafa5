"""Says which encoders there are, and which versions need one that is missing or damaged: in encoders.json and at each project."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from services.adapter.state.encoder_status import EncoderStatus, EncoderStatusWriter
from services.adapter.training.encoders import Decision, Fate, ProjectUse, needed_by
from services.core.encoder_listing import StoredEncoder, missing_encoder

if TYPE_CHECKING:  # which use this
    from services.adapter.leader.projects import ProjectSet
    from services.core.store import ObjectStore

_MAX_VERSIONS: Final = 20
_MAX_NAMED: Final = 3


def build_statuses(decisions: Sequence[Decision], uses: Sequence[ProjectUse]) -> tuple[EncoderStatus, ...]:
    """Return all encoders that are in the bucket or that a version needs, by digest. Pure."""
    decided = {one.encoder.digest: one for one in decisions}
    needed = {
        digest
        for use in uses
        for digest in (*use.served, *(use.references.versions.values() if use.references else ()))
    }
    return tuple(_status(digest, decided.get(digest), uses) for digest in sorted({*decided, *needed}))


def _status(digest: str, decision: Decision | None, uses: Sequence[ProjectUse]) -> EncoderStatus:
    versions = needed_by(digest, uses)
    found = decision.encoder if decision else StoredEncoder(digest, {}, 0.0, None, missing_encoder(digest))
    manifest = found.manifest
    return EncoderStatus(
        digest,
        manifest.base_model if manifest else "",
        manifest.engine if manifest else "",
        manifest.engine_reason if manifest else "",
        found.size,
        manifest.created_at if manifest else 0.0,
        found.problem,
        len(versions),
        tuple(versions[:_MAX_VERSIONS]),
        decision.fate.value if decision else Fate.KEPT.value,
        decision.why if decision else "",
    )


def project_problem(use: ProjectUse, problems: Mapping[str, str]) -> str:
    """Return which versions of a project cannot be loaded for want of their encoder; "" if all can. Pure.

    `problems`: what is wrong with encoders, by digest.
    """
    versions = use.references.versions if use.references else {}
    wrong = [digest for digest in dict.fromkeys((*versions.values(), *use.served)) if digest in problems]
    return " ".join(
        _problem([name for name in versions if versions[name] == one], problems[one]) for one in wrong
    )


def _problem(versions: Sequence[str], problem: str) -> str:
    more = len(versions) - _MAX_NAMED
    named = ", ".join(versions[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
    subject = f"Version{'s' if len(versions) > 1 else ''} {named}" if named else "The served version"
    return f"{subject} cannot be loaded: {problem}."


@dataclass(slots=True)
class EncoderReporter:
    """Reports what a pass has found. Only the leader's thread may call it."""

    store: ObjectStore
    projects: ProjectSet
    wake: Callable[[int], None]
    """Has a project's next step taken soon, which shows the problem."""
    _writer: EncoderStatusWriter = field(init=False)

    def __post_init__(self) -> None:
        self._writer = EncoderStatusWriter(self.store)

    def report(self, decisions: Sequence[Decision], uses: Sequence[ProjectUse]) -> None:
        """Show the problems at their projects, and write encoders.json. Raises StoreError."""
        statuses = build_statuses(decisions, uses)
        problems = {one.digest: one.problem for one in statuses if one.problem}
        by_project = {use.project: use for use in uses}
        for project_id, reconciler in self.projects.reconcilers.items():
            use = by_project.get(reconciler.project.key)
            problem = project_problem(use, problems) if use else ""
            if problem != reconciler.problems.get("encoders", ""):
                reconciler.problems["encoders"] = problem
                self.wake(project_id)
        self._writer.write(statuses)

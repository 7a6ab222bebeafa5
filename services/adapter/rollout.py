"""From a published version to the one that a project serves: load, warm and smoke-test it, then flip serving.json.

A version becomes `target` first and `current` only once it answers. One that cannot is refused and the old one stays.
The verdict is written last, so a crash anywhere is gone over again with the same end. Only the supervisor's thread
may call this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from services.adapter.notebook import Fate, Notebook, Verdict
from services.adapter.ports import Inference
from services.core.domain import Project, Published, Served, Serving
from services.core.errors import BadRequest, CorruptVersion, EngineError, NotFound
from services.core.registry import Registry

log = structlog.get_logger()
UNUSABLE = (EngineError, CorruptVersion, NotFound)
"""What says that a version is bad; any other error is trouble that passes."""


@dataclass(slots=True)
class Rollout:
    """Which version each project serves."""

    registry: Registry
    inference: Inference
    _table: Serving | None = None

    def served(self, project_key: str) -> Served:
        """What the project serves now."""
        return self._serving().projects.get(project_key, Served())

    def take_up(self, project: Project, published: Published, notebook: Notebook, now: float) -> Verdict:
        """Deal with a version that a run has published, once. Raises StoreError where that must be tried again."""
        fate, sentence = self._deal_with(project, published, now)
        verdict = Verdict(published.version, fate, sentence, now)
        notebook.write_verdict(verdict)
        log.info(
            "a version was taken up",
            project=project.id,
            version=published.version,
            fate=fate,
            reason=sentence,
        )
        return verdict

    def force(self, project: Project, version: str, why: str, now: float) -> None:
        """Serve a version because a person says so, and pin it. Raises BadRequest, EngineError or StoreError."""
        try:
            self.registry.manifest(project.key, version)
        except NotFound as error:
            raise BadRequest(
                f"Project {project.id} has no version {version!r}: `fitloop versions {project.id}` lists them."
            ) from error
        served = self.served(project.key)
        if served.current != version:
            self._flip(project.key, version, why, now, pinned=True)
        elif not served.pinned:
            self._write(project.key, lambda known: replace(known, pinned=True, why=why, since=now))
        log.info("a version was forced", project=project.id, version=version, reason=why)

    def unpin(self, project_key: str) -> None:
        """Let the gate decide again."""
        if self.served(project_key).pinned:
            self._write(project_key, lambda known: replace(known, pinned=False))

    def restore(self, project: Project, now: float) -> str:
        """After a start: hold what is served. Where it is broken the previous one serves; the sentence that says so, or ""."""
        served = self.served(project.key)
        if served.current is None:
            return ""
        try:
            self.inference.prepare(project.key, served.current)
        except UNUSABLE as error:
            log.error(
                "the served version is broken", project=project.id, version=served.current, reason=str(error)
            )
            return self._fall_back(project, served, f"{served.current} cannot be served: {error}", now)
        return ""

    def _fall_back(self, project: Project, served: Served, problem: str, now: float) -> str:
        if served.previous is None:
            return f"{problem} There is no version before it: train again."
        try:
            self._flip(project.key, served.previous, problem, now, pinned=served.pinned)
        except UNUSABLE as error:
            return f"{problem} Nor can {served.previous}: {error}"
        return f"{problem} {served.previous} serves instead."

    def _deal_with(self, project: Project, published: Published, now: float) -> tuple[Fate, str]:
        served = self.served(project.key)
        version, sentence = published.version, published.sentence
        if version == served.current:
            return Fate.PROMOTED, sentence
        if not published.promote:
            return Fate.HELD, sentence
        if served.pinned:
            return (
                Fate.HELD,
                f"held because pinned: {served.current} stays until `fitloop unpin {project.id}`",
            )
        try:
            compared_with = self.registry.manifest(project.key, version).gate.compared_with
            if compared_with != served.current and not self._is_excused(project, compared_with, served):
                return Fate.STALE, _stale(version, compared_with, served.current)
            self._flip(project.key, version, sentence, now, pinned=False)
        except UNUSABLE as error:
            stays = f"{served.current} serves on" if served.current else "nothing is served yet"
            return Fate.REFUSED, f"{version} was refused: {error} {stays}."
        return Fate.PROMOTED, sentence

    def _is_excused(self, project: Project, compared_with: str | None, served: Served) -> bool:
        """Compared with nothing, because what is served is broken: then nothing else can ever take its place."""
        if compared_with is not None or served.current is None:
            return False
        try:
            self.inference.prepare(project.key, served.current)
        except UNUSABLE:
            return True
        return False

    def _flip(self, project_key: str, version: str, why: str, now: float, *, pinned: bool) -> None:
        """`target`, then load, warm and smoke-test, then `current`. Raises what `prepare` raises; `target` is empty then."""
        self._write(project_key, lambda known: replace(known, target=version))
        try:
            self.inference.prepare(project_key, version)
        except UNUSABLE:
            self._write(project_key, lambda known: replace(known, target=None))
            raise
        self._write(
            project_key,
            lambda known: Served(current=version, previous=known.current, since=now, why=why, pinned=pinned),
        )

    def _write(self, project_key: str, change: Callable[[Served], Served]) -> None:
        table = self._serving()
        projects = {**table.projects, project_key: change(table.projects.get(project_key, Served()))}
        changed = replace(table, generation=table.generation + 1, projects=projects)
        self._table = (
            None  # a write that fails half-way may still have made a generation: then it is read again
        )
        self.registry.write_serving(changed)
        self._table = changed

    def _serving(self) -> Serving:
        if self._table is None:
            self._table = self.registry.serving()
        return self._table


def _stale(version: str, compared_with: str | None, current: str | None) -> str:
    return (
        f"held: {version} was compared with {compared_with or 'no version'}, and {current or 'none'} serves now; "
        "it is judged afresh"
    )

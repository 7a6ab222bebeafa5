"""What joins a project to its Label Studio: connection.json, and the refresh that keeps suggestions and title up.

A refresh is due when another version serves, when tasks came (Label Studio counts more of them, or said so), and when
we were reached by another address, for then another backend's title may have to be set. Only the supervisor's thread
may call this, but for `remember`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from services.adapter.notebook import Connection, ProjectDocuments
from services.adapter.serving.job import Job, Progress
from services.adapter.serving.refresh import Refresher
from services.core.domain import LabelSpace, Project

_ADDRESSES: Final = 16


@dataclass(slots=True)
class Link:
    """One project's."""

    notebook: ProjectDocuments
    refresher: Refresher
    new_tasks: bool = False
    """There may be tasks without predictions."""
    connection: Connection = field(default_factory=Connection)
    _remembered: tuple[Mapping[str, str] | None, str] | None = None
    _addresses: set[str] = field(default_factory=set)
    _retitle: bool = False
    _counted: int = 0

    def read(self) -> None:
        """From the store. Raises StoreError."""
        self.connection = self.notebook.connection()
        self._addresses.add(self.connection.seen_url)

    def remember(self, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        """What /setup said, to be kept by `keep`; None: nothing about parameters. From any thread."""
        self._remembered = (overrides, seen_url)

    def keep(self) -> None:
        """Write down what /setup said. An address that was seen before is another name of the same backend. Raises StoreError."""
        remembered, self._remembered = self._remembered, None
        if remembered is None:
            return
        known, (overrides, url) = self.connection, remembered
        is_new = bool(url) and url not in self._addresses
        wanted = replace(
            known,
            overrides=known.overrides if overrides is None else dict(overrides),
            seen_url=url if is_new else known.seen_url,
        )
        if wanted != known:
            self._write(wanted)
        if is_new:
            self._retitle = True
            self._addresses = {url} if len(self._addresses) >= _ADDRESSES else {*self._addresses, url}

    def count(self, tasks: int) -> None:
        """Label Studio has so many tasks; the first count after a start finds what came while nobody looked."""
        self.new_tasks = self.new_tasks or tasks > self._counted
        self._counted = tasks

    def progress(self, project_id: int) -> Progress | None:
        """Of the refresh."""
        return self.refresher.progress(project_id)

    def follow(self, project: Project, space: LabelSpace, current: str, *, is_quiet: bool) -> None:
        """Have suggestions and title follow the version that is served. Raises StoreError."""
        progress = self.progress(project.id)
        refreshed = self.connection.refreshed
        if progress and progress.done and progress.job.version == current != refreshed:
            self._write(replace(self.connection, refreshed=current))
        elif refreshed not in {None, current}:
            # Before anything of the new one is done: should the old one serve again, its title is no longer sure.
            self._write(replace(self.connection, refreshed=None))
        is_other = self.connection.refreshed != current
        again = self.new_tasks and is_quiet
        if is_other or again or self._retitle:
            # A push that is not through yet is done again rather than given up for a title.
            title_only = self._retitle and not (is_other or again) and (progress is None or progress.done)
            # From what the refresher knows, which outlives this object: a round that it has had would be no job at all.
            number = (progress.job.round if progress else 0) + (again or self._retitle)
            self.new_tasks, self._retitle = self.new_tasks and not again, False
            url = self.connection.seen_url
            job = Job(project.id, project.key, current, space, url, number, title_only)
            self.refresher.want(job)

    def _write(self, connection: Connection) -> None:
        self.notebook.write_connection(connection)
        self.connection = connection

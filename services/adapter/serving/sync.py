"""What joins a project to its Label Studio: connection.json, and the refresh that keeps suggestions and title up.

A refresh is due when another version serves, when tasks came (Label Studio counts more of them, or said so), and when
we were reached by another address, for then another backend's title may have to be set. Only the supervisor's thread
may call this, but for `remember`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from services.adapter.serving.label_studio import RefreshJob, RefreshProgress
from services.adapter.serving.refresh import Refresher
from services.adapter.state.documents import Connection, ProjectDocuments
from services.core.domain import LabelSpace, Project

_MAX_URLS: Final = 16


@dataclass(slots=True)
class LabelStudioSync:
    """One project's."""

    documents: ProjectDocuments
    refresher: Refresher
    new_tasks: bool = False
    """There may be tasks without predictions."""
    connection: Connection = field(default_factory=Connection)
    _setup: tuple[Mapping[str, str] | None, str] | None = None
    _known_urls: set[str] = field(default_factory=set)
    _title_due: bool = False
    _task_count: int = 0

    def load(self) -> None:
        """From the store. Raises StoreError."""
        self.connection = self.documents.connection()
        self._known_urls.add(self.connection.seen_url)

    def remember_setup(self, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        """What /setup said, to be kept by `keep`; None: nothing about parameters. From any thread."""
        self._setup = (overrides, seen_url)

    def save_setup(self) -> None:
        """Write down what /setup said. An address that was seen before is another name of the same backend. Raises StoreError."""
        remembered, self._setup = self._setup, None
        if remembered is None:
            return
        known, (overrides, url) = self.connection, remembered
        is_new = bool(url) and url not in self._known_urls
        wanted = replace(
            known,
            overrides=known.overrides if overrides is None else dict(overrides),
            seen_url=url if is_new else known.seen_url,
        )
        if wanted != known:
            self._write(wanted)
        if is_new:
            self._title_due = True
            self._known_urls = {url} if len(self._known_urls) >= _MAX_URLS else {*self._known_urls, url}

    def note_task_count(self, tasks: int) -> None:
        """Label Studio has so many tasks; the first count after a start finds what came while nobody looked."""
        self.new_tasks = self.new_tasks or tasks > self._task_count
        self._task_count = tasks

    def progress(self, project_id: int) -> RefreshProgress | None:
        """Of the refresh."""
        return self.refresher.progress(project_id)

    def follow_served(self, project: Project, space: LabelSpace, current: str, *, is_quiet: bool) -> None:
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
        if is_other or again or self._title_due:
            # A push that is not through yet is done again rather than given up for a title.
            title_only = self._title_due and not (is_other or again) and (progress is None or progress.done)
            # From what the refresher knows, which outlives this object: a round that it has had would be no job at all.
            number = (progress.job.round if progress else 0) + (again or self._title_due)
            self.new_tasks, self._title_due = self.new_tasks and not again, False
            url = self.connection.seen_url
            job = RefreshJob(project.id, project.key, current, space, url, number, title_only)
            self.refresher.submit(job)

    def _write(self, connection: Connection) -> None:
        self.documents.write_connection(connection)
        self.connection = connection

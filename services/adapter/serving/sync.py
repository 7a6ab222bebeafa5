"""Keeps a project's Label Studio in sync with the served version: connection.json, and when a refresh is due.

A refresh is due when another version is in effect, when tasks were added (Label Studio counts more of them, or sent an event),
and when Label Studio reached us by another URL, for then another backend's title may have to be set. Only the controller's
thread may call this, except for `remember_setup`.
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
    """The sync of one project."""

    documents: ProjectDocuments
    refresher: Refresher
    new_tasks: bool = False
    """There may be tasks without predictions."""
    connection: Connection = field(default_factory=Connection)
    _setup: tuple[Mapping[str, str] | None, str] | None = None
    _known_urls: set[str] = field(default_factory=set)
    _title_due: bool = False
    _task_count: int = 0

    def begin(self, connection: Connection) -> None:
        """Continue from connection.json."""
        self.connection = connection
        self._known_urls.add(connection.seen_url)

    def load(self) -> None:
        """Read connection.json, which a command has changed. Raises StoreError."""
        self.begin(self.documents.connection())

    def remember_setup(self, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        """Keep the data of /setup for `save_setup`; `overrides` None: nothing about parameters. From any thread."""
        self._setup = (overrides, seen_url)

    def save_setup(self) -> None:
        """Store the data of /setup. A URL that was seen before is another name of the same backend. Raises StoreError."""
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
        """Note the number of tasks; the first count after a start also finds tasks added in the meantime."""
        self.new_tasks = self.new_tasks or tasks > self._task_count
        self._task_count = tasks

    def progress(self, project_id: int) -> RefreshProgress | None:
        """Return the progress of the project's refresh."""
        return self.refresher.progress(project_id)

    def follow_served(
        self,
        project: Project,
        space: LabelSpace | None,
        current: str,
        *,
        is_quiet: bool,
        own_model: bool = False,
    ) -> None:
        """Submit a refresh to the version in effect, if it is due; `own_model`: a class computes its answers. Raises StoreError."""
        progress = self.progress(project.id)
        refreshed = self.connection.refreshed
        if progress and progress.done and progress.job.version == current != refreshed:
            self._write(replace(self.connection, refreshed=current))
        elif refreshed not in {None, current}:
            # Before the new one is refreshed: should the old one be served again, its title is no longer certain.
            self._write(replace(self.connection, refreshed=None))
        is_other = self.connection.refreshed != current
        again = self.new_tasks and is_quiet
        if is_other or again or self._title_due:
            # An unfinished push is repeated rather than abandoned for a title.
            title_only = self._title_due and not (is_other or again) and (progress is None or progress.done)
            # The refresher outlives this object, and ignores a round that it already had.
            number = (progress.job.round if progress else 0) + (again or self._title_due)
            self.new_tasks, self._title_due = self.new_tasks and not again, False
            url, config = self.connection.seen_url, project.label_config if own_model else ""
            job = RefreshJob(project.id, project.key, current, space, url, number, title_only, config)
            self.refresher.submit(job)

    def _write(self, connection: Connection) -> None:
        self.documents.write_connection(connection)
        self.connection = connection

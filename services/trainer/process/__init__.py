"""One process of a run: its request, its store, its Label Studio, its process group, and what the run has published."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

from services.core.domain import Counts, Manifest, Method, Project, Published, RunRequest
from services.core.errors import BadRequest, NotFound
from services.core.registry import Registry
from services.core.runs import Runs, version_name
from services.core.store import ObjectStore, open_store
from services.core.store.wrapped import CHANGES, WrappedStore
from services.core.telemetry.metrics import StoreOperation
from services.trainer.process.distributed import SINGLE, Group
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress

RETRY_SECONDS: Final = 600.0
T = TypeVar("T")


class LabelSource(Protocol):
    """What a run reads from Label Studio."""

    def project(self, project_id: int) -> tuple[Project, Counts]:
        """Return the project as it is now, and its counts."""
        ...

    def texts(self, project_id: int, tasks: Collection[int]) -> Iterator[dict[str, Any]]:
        """Yield these tasks without annotations; deleted ones are omitted."""
        ...

    def annotated_tasks(self, project_id: int) -> Iterator[dict[str, Any]]:
        """Yield tasks with annotations, ordered by id."""
        ...

    def unlabelled_pages(
        self, project_id: int, since: str = "", below: int = 0
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the tasks without annotations that changed since then, with ids below that one, the newest first."""
        ...

    def unlabelled_texts(self, project_id: int, tasks: Sequence[int]) -> list[dict[str, Any]]:
        """Return those of these tasks that have no annotation, in this order."""
        ...

    def all_unlabelled_ids(self, project_id: int) -> Iterator[list[int]]:
        """Yield the ids of all tasks without annotations."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """One process's work on one run."""

    request: RunRequest
    runs: Runs
    registry: Registry
    labels: LabelSource
    progress: Progress
    stop: Stop
    checkpoint_seconds: float = 60.0
    group: Group = SINGLE
    pool_seconds: float = 1.0
    """FITLOOP_POOL_SECONDS."""

    @property
    def name(self) -> str:
        """`<project id>-<n>`."""
        return self.request.run


def parse_run_url(url: str) -> tuple[ObjectStore, str]:
    """Return the store and the run's name in `<store>/runs/<run>`. Raises BadRequest, BadConfig."""
    store_url, found, name = url.rstrip("/").rpartition("/runs/")
    if not found or not name or "/" in name:
        raise BadRequest(
            f"--run {url!r} does not name a run: give a store's URL that ends in /runs/<project>-<n>."
        )
    return open_store(store_url), name


def read_request(runs: Runs, name: str) -> RunRequest:
    """Return the run's request. Raises BadRequest if there is none."""
    request = runs.request(name)
    if request is None:
        raise BadRequest(
            f"{runs.store.url}/runs/{name}/request.json is missing: a run is requested before it is started."
        )
    return request


def methods_of(method: Method) -> tuple[Method, ...]:
    """Return the methods that a run tries, in order: at most one version each."""
    return (Method.LINEAR_PROBE, Method.LP_FT) if method is Method.AUTO else (method,)


def version_names(run: Run, project: Project) -> tuple[str, ...]:
    """Return a version's name for each method of the run; the second gets a letter."""
    parameters = run.request.parameters
    letters = ("", "b")[: len(methods_of(parameters.method))]
    return tuple(version_name(project, parameters.model_name, run.name, letter) for letter in letters)


def published_before(run: Run, project: Project) -> tuple[Manifest, ...]:
    """Return the versions that earlier attempts of this run have published: one may have crashed right after."""
    found = []
    for name in version_names(run, project):
        try:
            found.append(run.registry.manifest(project.key, name))
        except NotFound:
            break
    return tuple(manifest for manifest in found if manifest.lineage.run == run.name)


def published_from(manifest: Manifest, pinned_to: str | None = None) -> Published:
    """Return what the run's status says of a version; a pinned project keeps serving what it is pinned to."""
    reason = " ".join(manifest.gate.reasons)
    if pinned_to is not None:
        reason += f" Not served: the project is pinned to {pinned_to}. Run `fitloop unpin` to serve new versions again."
    return Published(manifest.version, manifest.gate.promote, reason)


class RetryingStore(WrappedStore):
    """An ObjectStore that retries transient errors for ten minutes, until the process is interrupted.

    For what the run cannot continue without: labels, manifests, versions. Status, log and checkpoints are written without
    retries, so that training goes on; `changes=False` passes writes and deletions on without them.
    """

    def __init__(
        self,
        store: ObjectStore,
        stop: Stop,
        seconds: float = RETRY_SECONDS,
        pause: float = 0.5,
        *,
        changes: bool = True,
    ) -> None:
        super().__init__(store)
        self.stop, self.seconds, self.pause, self.changes = stop, seconds, pause, changes

    def around(self, operation: StoreOperation, call: Callable[[], T]) -> T:
        if operation in CHANGES and not self.changes:
            return call()
        return self.stop.retry(call, self.seconds, self.pause)


class ReadOnlyStore(WrappedStore):
    """An ObjectStore that drops writes, for processes other than rank 0."""

    def around(self, operation: StoreOperation, call: Callable[[], T]) -> T:
        return cast("T", None) if operation in CHANGES else call()

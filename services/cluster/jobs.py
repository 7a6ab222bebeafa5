"""The Launcher port over `batch/v1` Jobs, made from the manifest that the chart renders.

A run's Job has a name of its own, so whoever launches it twice finds it there. What is known of Jobs and pods is kept by a
watch, and read whole once a minute; while the API is away, what was known stays true. launch.json remembers it when the
Job's time to live is over. Jobs outlive this process: they are the cluster's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.cluster.client import ClusterError, Document, Kube
from services.cluster.events import Events
from services.cluster.reading import launch_of
from services.cluster.template import RELEASE, REQUESTED, RUN, fill, mark_of, name_of
from services.core.domain import Launch, RunRequest, RunState
from services.core.errors import StoreError
from services.core.runs import FINAL, Runs
from services.core.store import ObjectStore

log = structlog.get_logger()
RECONCILE_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 2.0
_PODS_SECONDS: Final = 2.0
"""Pods are listed while a Job is going on: their watch would be a second one, for figures that a person reads."""


@dataclass
class JobLauncher:
    """Runs trainers as Jobs. `start` begins to watch."""

    kube: Kube
    store: ObjectStore
    template: Document
    release: str
    lease: str
    on_change: Callable[[], None]
    events: Events
    _jobs: dict[str, Document] = field(default_factory=dict)
    _pods: dict[str, list[Document]] = field(default_factory=dict)
    _known: bool = False
    _ended: dict[str, Launch] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Nothing is asked yet."""
        self.runs = Runs(self.store)

    @property
    def selector(self) -> str:
        """Labels of this release's Jobs and their pods."""
        return f"{RELEASE}={self.release},{RUN}"

    def start(self) -> None:
        """Watch in a thread; returns at once."""
        threading.Thread(target=self._loop, name="jobs", daemon=True).start()

    def close(self) -> None:
        """Stop watching; Jobs go on."""
        self._over.set()

    def launch(self, request: RunRequest) -> None:
        """Create the run's Job, unless it is there or the run has ended. Raises ClusterError."""
        if request.run in self._jobs or not self._known or self._has_ended(request.run):
            return
        job = fill(self.template, request, self.release, self.store.url, self._owner())
        try:
            made = self.kube.create("job", job)
        except ClusterError as error:
            if error.status != 409:
                raise
            made = self._attach(request)
        with self._lock:
            self._jobs[request.run] = made
        log.info("a Job", run=request.run, job=made["metadata"]["name"])

    def cancel(self, run: str) -> None:
        """Delete the Job; the run is CANCELLED."""
        known = self.observe(run) or Launch(run)
        if known.outcome is None:
            self._write(replace(known, outcome=RunState.CANCELLED, waiting=""))
        self.kube.delete("job", name_of(self.release, run))

    def observe(self, run: str) -> Launch | None:
        """The run's attempts and outcome, as far as they are known."""
        if run in self._ended:
            return self._ended[run]
        written = self.runs.launch(run)
        if written and written.outcome:
            self._ended[run] = written
            return written
        with self._lock:
            job, pods = self._jobs.get(run), self._pods.get(run, [])
        seen = launch_of(run, job, pods, written) if job else self._gone(run, written)
        if seen is not None and seen != written:
            self._write(seen)
        return seen

    def _gone(self, run: str, written: Launch | None) -> Launch | None:
        """The run has no Job, or nobody knows: what its own last words say."""
        status = self.runs.status(run) if self._known and written else None
        if written and status and status.state in FINAL:
            return replace(written, outcome=status.state, waiting="")
        return written

    def _has_ended(self, run: str) -> bool:
        seen = self.observe(run)
        return seen is not None and seen.outcome is not None

    def _write(self, launch: Launch) -> None:
        self.runs.write(launch)
        if launch.outcome:
            self._ended[launch.run] = launch
            self.events.tell(
                f"Run{launch.outcome.value.capitalize()}", f"Run {launch.run} is {launch.outcome.value}."
            )

    def _attach(self, request: RunRequest) -> Document:
        """The Job that has the name already, where it is this request's. Raises ClusterError."""
        name = name_of(self.release, request.run)
        found = self.kube.get("job", name)
        if found is None:
            raise ClusterError(
                f"Job {name} was there a moment ago, and is gone: it is created in the next step."
            )
        meta = found["metadata"]
        ours = (meta.get("labels") or {}).get(RUN), (meta.get("annotations") or {}).get(REQUESTED)
        if ours != (request.run, mark_of(request)):
            raise ClusterError(
                f"Job {name} exists and belongs to another run (of an earlier bucket, or made by hand): delete it with "
                f"`kubectl delete job {name}`, and run {request.run} starts."
            )
        return found

    def _owner(self) -> Document | None:
        """The Lease, which goes with the release: then so do its Jobs."""
        lease = self.kube.get("lease", self.lease)
        if lease is None:
            return None
        meta = lease["metadata"]
        reference = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "name": meta["name"],
            "uid": meta["uid"],
        }
        return {**reference, "controller": False, "blockOwnerDeletion": False}

    # ------------------------------------------------------------------------------------------------------ watching
    def _loop(self) -> None:
        while not self._over.is_set():
            try:
                version = self._read()
                self._follow(version)
            except (ClusterError, StoreError) as error:
                log.warning("Jobs cannot be watched", reason=str(error))
            except Exception as error:  # noqa: BLE001  # the thread that watches must outlive any slip
                log.error("watching Jobs failed unexpectedly", kind=type(error).__name__, reason=str(error))
            self._over.wait(_PAUSE_SECONDS)

    def _read(self) -> str:
        jobs, version = self.kube.items("job", self.selector)
        with self._lock:
            self._jobs = {job["metadata"]["labels"][RUN]: job for job in jobs}
        self._read_pods()
        self._known = True
        self.on_change()
        return version

    def _follow(self, version: str) -> None:
        """Until the list is to be read whole again."""
        pods = threading.Event()
        threading.Thread(target=self._follow_pods, args=(pods,), name="pods", daemon=True).start()
        end = time.monotonic() + RECONCILE_SECONDS
        try:
            for event in self.kube.watch("job", self.selector, version):
                self._take(event)
                if self._over.is_set() or time.monotonic() > end:
                    return
        finally:
            pods.set()

    def _take(self, event: Document) -> None:
        if event["type"] == "BOOKMARK":
            return
        job = event["object"]
        run = job["metadata"]["labels"][RUN]
        with self._lock:
            if event["type"] == "DELETED":
                self._jobs.pop(run, None)
            else:
                self._jobs[run] = job
        if job.get("status", {}).get("conditions"):
            self._read_pods()
        self.on_change()

    def _follow_pods(self, over: threading.Event) -> None:
        while not over.wait(_PODS_SECONDS) and not self._over.is_set():
            try:
                if any(not _is_over(job) for job in self._jobs.values()):
                    self._read_pods()
            except ClusterError as error:
                log.warning("pods cannot be listed", reason=str(error))

    def _read_pods(self) -> None:
        found: dict[str, list[Document]] = {}
        for pod in self.kube.pods(self.selector):
            found.setdefault(pod["metadata"]["labels"][RUN], []).append(pod)
        changed = found.keys() != self._pods.keys() or any(
            [pod["status"] for pod in found[run]] != [pod["status"] for pod in self._pods[run]]
            for run in found
        )
        with self._lock:
            self._pods = found
        if changed:
            self.on_change()


def _is_over(job: Document) -> bool:
    conditions = job.get("status", {}).get("conditions") or ()
    return any(one["type"] in {"Complete", "Failed"} and one["status"] == "True" for one in conditions)

"""Choose the implementations of the ports and wire an adapter: embedded in `fitloop local`, or for a cluster.

Nothing runs until `Adapter.start`, except the watches of a cluster.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from services.core.errors import BadConfig
from services.core.settings import Settings

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from services.adapter.ports import Inference, Launcher, Leadership, Rollout
    from services.adapter.replica import Replica
    from services.adapter.state.board import Board
    from services.adapter.state.changed_projects import ChangedProjects
    from services.adapter.state.documents import FencedStore
    from services.cluster.client import Document, Kube
    from services.core.store import ObjectStore

log = structlog.get_logger()
_SWITCH_SECONDS = 0.0005
"""A tenth of Python's default: a request to the bucket took ten times as long while workers read labels."""
_WRITE_SECONDS = 60.0
"""Assumed for a write into a folder, which has no timeout; the folder's lock is never lost."""
_JOB_WORKERS = 8
"""Threads that send requests about Jobs to the Kubernetes API, which may hang."""
_OBSERVERS = 16
"""Threads of the leader that wait for Label Studio and the bucket."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """One adapter process."""

    launcher: Launcher
    board: Board
    replica: Replica
    app: Starlette
    close_inference: Callable[[], None]

    def start(self) -> None:
        """Start to lead or follow in a thread. Raises Locked if another process leads and must be the only one."""
        sys.setswitchinterval(_SWITCH_SECONDS)
        self.replica.start()

    def resign(self) -> None:
        """Stop leading, so that another adapter takes over at once; requests are still answered."""
        self.replica.stop()

    def stop(self) -> None:
        """Stop everything: trainers first, as they need up to 15 s for a checkpoint."""
        self.launcher.close()
        self.replica.stop()
        self.close_inference()


def build_embedded(settings: Settings, leadership: Leadership) -> Adapter:
    """Build the adapter of `fitloop local`, which stores in `settings.storage.model_dir` unless a store is set."""
    from services.adapter.leader.workers import ThreadWorkers
    from services.adapter.state.changed_projects import ChangedProjects
    from services.adapter.state.documents import FencedStore
    from services.core.registry import Registry
    from services.core.store import open_store
    from services.embedded.in_process import LocalRollout, export_versions
    from services.embedded.launcher import ChildLauncher
    from services.predictor.inference import build_inference
    from services.predictor.metrics import observe_request

    folder = settings.storage.model_dir.expanduser().resolve()
    store = open_store(settings.storage.store or folder.as_uri(), settings.s3, settings.storage)
    wakeup = threading.Event()
    changed = ChangedProjects(wakeup.set)
    fenced = FencedStore(store, leadership, _WRITE_SECONDS)
    inference = build_inference(Registry(store), settings)
    export_versions(inference)
    loading_workers = ThreadWorkers(
        4, "load", wakeup.set
    )  # a head does not wait for another project's encoder
    return _build_adapter(
        settings,
        store,
        fenced,
        wakeup,
        changed,
        launcher=ChildLauncher(fenced, folder / "locks", on_change=changed.add_run),
        inference=inference,
        observers=[observe_request],
        rollout=lambda: LocalRollout(inference, loading_workers),
        leadership=leadership,
        close_inference=inference.close,
        is_alone=True,
    )


def build_cluster(settings: Settings) -> Adapter:
    """Build one of several adapters, over a bucket, Kubernetes and the predictors. Raises BadConfig."""
    from services.adapter.leader.workers import ThreadWorkers
    from services.adapter.state.changed_projects import ChangedProjects
    from services.adapter.state.documents import FencedStore
    from services.cluster.client import connect
    from services.cluster.events import EventRecorder
    from services.cluster.inference import RemoteInference
    from services.cluster.job_template import load_template
    from services.cluster.jobs import JobLauncher
    from services.cluster.lease import LeaseLeadership
    from services.cluster.pods import PredictorPods, ReadyPredictors
    from services.cluster.rollout import ClusterRollout
    from services.cluster.workload import PredictorWorkload
    from services.core.store import open_store, unavailable_reason

    known, pod = settings.cluster, settings.cluster.pod_name or socket.gethostname()
    template = load_template(known.job_template)
    if not settings.storage.store:
        raise BadConfig("FITLOOP_STORE is not set: name the bucket, such as s3://bucket/prefix/.")
    store = open_store(settings.storage.store, settings.s3, settings.storage)
    if why := unavailable_reason(store, write=True):
        log.warning("bucket_unavailable", reason=why)
    kube, wakeup = connect(known.namespace), threading.Event()
    changed = ChangedProjects(wakeup.set)
    _dry_run_template(kube, template, known.release, store.url)
    leadership = LeaseLeadership(kube, known.lease, pod)
    fenced = FencedStore(store, leadership, settings.s3.write_seconds)
    recorder = EventRecorder(kube, known.predictor_workload, pod)
    inference = RemoteInference(known)
    job_workers = ThreadWorkers(_JOB_WORKERS, "jobs", wakeup.set)
    launcher = JobLauncher(
        kube,
        fenced,
        template,
        known.release,
        known.lease,
        changed.add_run,
        recorder,
        job_workers,
        is_leading=leadership.leads,
    )
    predictors = PredictorPods(
        kube, known.predictor_selector, known.predictor_state_port, known.predictor_token
    )
    workload = PredictorWorkload(kube, known.predictor_workload)
    rollout_workers = ThreadWorkers(2, "predictors", wakeup.set)
    ready_predictors = ReadyPredictors(kube, known.predictor_selector)
    ready_predictors.start()
    recorder.start()
    launcher.start()
    return _build_adapter(
        settings,
        store,
        fenced,
        wakeup,
        changed,
        launcher=launcher,
        inference=inference,
        observers=[],
        rollout=lambda: ClusterRollout(
            workload, predictors, settings.rollout, recorder, rollout_workers, is_leading=leadership.leads
        ),
        leadership=leadership,
        close_inference=inference.close,
        is_alone=False,
    )


def _dry_run_template(kube: Kube, template: Document, release: str, store_url: str) -> None:
    """Raise BadConfig if Kubernetes would reject the manifest; an unreachable API does not prevent the start."""
    from services.cluster.client import ClusterError
    from services.cluster.job_template import dry_run

    try:
        dry_run(kube, template, release, store_url)
    except ClusterError as error:
        log.warning("job_dry_run_failed", reason=str(error))


def _build_adapter(
    settings: Settings,
    store: ObjectStore,
    fenced: FencedStore,
    wakeup: threading.Event,
    changed: ChangedProjects,
    *,
    launcher: Launcher,
    inference: Inference,
    observers: Sequence[Callable[[BaseException | None, float], None]],
    rollout: Callable[[], Rollout],
    leadership: Leadership,
    close_inference: Callable[[], None],
    is_alone: bool,
) -> Adapter:
    """Build what both kinds share. `observers` are called with each request for scores; `rollout` builds that of a new term;
    `is_alone`: no other adapter uses the store, and there is one port for all.
    """
    from services.adapter.app import create_app
    from services.adapter.follower import Follower
    from services.adapter.leader.controller import Controller
    from services.adapter.leader.workers import ThreadWorkers
    from services.adapter.metrics import CountedInference, leader_metrics, observe_inference
    from services.adapter.replica import Replica
    from services.adapter.state.board import Board
    from services.adapter.state.events import EventBuffer
    from services.core.labelstudio import LabelStudio
    from services.core.registry import Registry
    from services.core.runs import Runs
    from services.core.telemetry.metrics import Component, set_build_info

    leader_metrics.project_names.max_named = settings.metrics.projects
    set_build_info(Component.LOCAL if is_alone else Component.ADAPTER)
    inference, board = CountedInference(inference, observe_inference, *observers), Board()
    events = EventBuffer(store, wakeup.set)
    label_studio = LabelStudio(settings.label_studio)

    def build_controller() -> Controller:
        events.requeue_collected()
        return Controller(
            settings,
            fenced,
            label_studio,
            launcher,
            inference,
            rollout(),
            board,
            events.collect,
            ThreadWorkers(_OBSERVERS, "observe", wakeup.set),
            alone=is_alone,
            is_leading=leadership.leads,
            take_changed=changed.take,
        )

    follower = Follower(store, board, events, settings.trigger.control_of, wake=wakeup.set)
    replica = Replica(
        leadership,
        build_controller,
        follower,
        wakeup,
        write_seconds=fenced.write_seconds,
        heartbeat=fenced.heartbeat,
    )
    app = create_app(settings, board, events, inference, Registry(store), Runs(store), management=is_alone)
    return Adapter(launcher, board, replica, app, close_inference)

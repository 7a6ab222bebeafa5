"""The one place that chooses: which store, launcher and inference stand behind the ports, and what knows what.

`embedded(settings)` builds the whole of `fitloop local`, `cluster(settings)` an adapter's pod; nothing runs until `Parts.start()`.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
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
    from services.adapter.state.documents import FencedStore
    from services.cluster.client import Document, Kube
    from services.core.store import ObjectStore

log = structlog.get_logger()
_WRITE_SECONDS = 60.0
"""For a change of a store in a folder, which no deadline cuts off; the lock that leads there is never lost."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """What an adapter consists of."""

    launcher: Launcher
    board: Board
    member: Replica
    app: Starlette
    close_inference: Callable[[], None]

    def start(self) -> None:
        """Begin to lead or to follow; returns at once. Raises Locked where another process must not lead beside this one."""
        self.member.start()

    def resign(self) -> None:
        """Decide nothing more, so that another adapter does at once; requests are answered on."""
        self.member.stop()

    def stop(self) -> None:
        """End what runs: trainers first, which keep what they have (up to 15 s), whatever the supervisor waits for."""
        self.launcher.close()
        self.member.stop()
        self.close_inference()


def build_embedded(settings: Settings, leadership: Leadership) -> Adapter:
    """Everything in this process; models and runs in the folder `settings.storage.model_dir`, or in the store that is named."""
    from services.adapter.state.documents import FencedStore
    from services.core.registry import Registry
    from services.core.store import open_store
    from services.embedded.in_process import LocalRollout
    from services.embedded.inference import CountedInference
    from services.embedded.launcher import ChildLauncher
    from services.engine.inference import LocalInference

    folder = settings.storage.model_dir.expanduser().resolve()
    store = open_store(settings.storage.store or folder.as_uri(), settings.s3, settings.storage)
    bell = threading.Event()
    guarded = FencedStore(store, leadership, _WRITE_SECONDS)
    inference = LocalInference(Registry(store), settings.serving)
    return _build_adapter(
        settings,
        store,
        guarded,
        bell,
        launcher=ChildLauncher(guarded, folder / "locks", on_change=bell.set),
        inference=CountedInference(inference),
        rollout=lambda: LocalRollout(inference),
        leadership=leadership,
        close_inference=inference.close,
        alone=True,
    )


def build_cluster(settings: Settings) -> Adapter:
    """An adapter among others, over a bucket, Kubernetes and the predictors. Raises BadConfig."""
    from services.adapter.state.documents import FencedStore
    from services.cluster.client import connect
    from services.cluster.events import EventRecorder
    from services.cluster.inference import RemoteInference
    from services.cluster.job_template import load_template
    from services.cluster.jobs import JobLauncher
    from services.cluster.lease import LeaseLeadership
    from services.cluster.pods import PredictorPods, ReadyPredictors
    from services.cluster.rollout import ClusterRollout
    from services.core.store import open_store, unavailable_reason

    known, pod = settings.cluster, settings.cluster.pod_name or socket.gethostname()
    template = load_template(known.job_template)
    if not settings.storage.store:
        raise BadConfig("FITLOOP_STORE is not set: name the bucket, as s3://bucket/prefix/.")
    store = open_store(settings.storage.store, settings.s3, settings.storage)
    if why := unavailable_reason(store, write=True):
        log.warning("the bucket does not answer: this adapter is not ready until it does", reason=why)
    kube, bell = connect(known.namespace), threading.Event()
    _dry_run_template(kube, template, known.release, store.url)
    leadership = LeaseLeadership(kube, known.lease, pod)
    guarded = FencedStore(store, leadership, settings.s3.write_seconds)
    events = EventRecorder(kube, known.predictor_workload, pod)
    inference = RemoteInference(known)
    launcher = JobLauncher(kube, guarded, template, known.release, known.lease, bell.set, events)
    fleet = PredictorPods(kube, known.predictor_selector, known.predictor_state_port, known.predictor_token)
    ready_predictors = ReadyPredictors(kube, known.predictor_selector)
    ready_predictors.start()
    events.start()
    launcher.start()
    return _build_adapter(
        settings,
        store,
        guarded,
        bell,
        launcher=launcher,
        inference=inference,
        rollout=lambda: ClusterRollout(kube, fleet, known.predictor_workload, settings.rollout, events),
        leadership=leadership,
        close_inference=inference.close,
        alone=False,
    )


def _dry_run_template(kube: Kube, template: Document, release: str, store_url: str) -> None:
    """A manifest that Kubernetes would refuse is known at start; an API that is away holds up no start. Raises BadConfig."""
    from services.cluster.client import ClusterError
    from services.cluster.job_template import dry_run

    try:
        dry_run(kube, template, release, store_url)
    except ClusterError as error:
        log.warning("the manifest of a run's Job could not be tried out", reason=str(error))


def _build_adapter(
    settings: Settings,
    store: ObjectStore,
    guarded: FencedStore,
    bell: threading.Event,
    *,
    launcher: Launcher,
    inference: Inference,
    rollout: Callable[[], Rollout],
    leadership: Leadership,
    close_inference: Callable[[], None],
    alone: bool,
) -> Adapter:
    """What both have in common: a desk, a member that leads or follows, and the routes.

    `rollout` makes the one of a new term. `alone`: no other adapter works on the store, and probes answer at the one port that there is.
    """
    from services.adapter.app import create_app
    from services.adapter.follower import Follower
    from services.adapter.leader.controller import Controller
    from services.adapter.metrics import names
    from services.adapter.replica import Replica
    from services.adapter.state.board import Board
    from services.adapter.state.events import EventBuffer
    from services.adapter.timed import TimedInference
    from services.core.labelstudio import LabelStudio
    from services.core.registry import Registry
    from services.core.runs import Runs
    from services.core.telemetry.metrics import Component, set_build_info

    names.projects.most = settings.metrics.projects
    set_build_info(Component.LOCAL if alone else Component.ADAPTER)
    inference = TimedInference(inference)
    board, desk = Board(), EventBuffer(store, bell.set)
    label_studio = LabelStudio(settings.label_studio)

    def supervise() -> Controller:
        desk.requeue_taken()
        return Controller(
            settings,
            guarded,
            label_studio,
            launcher,
            inference,
            rollout(),
            board,
            desk.collect,
            alone=alone,
            is_leading=leadership.leads,
        )

    follower = Follower(store, board, desk.collect, settings.trigger.control_of)
    member = Replica(leadership, supervise, follower, bell, write_seconds=guarded.write_seconds)
    app = create_app(settings, board, desk, inference, Registry(store), Runs(store), management=alone)
    return Adapter(launcher, board, member, app, close_inference)

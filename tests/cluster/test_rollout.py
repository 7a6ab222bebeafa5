"""The rollout over fake pods that follow the annotation, as a Deployment's do, with a fake clock and API."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.ports import RolloutStatus
from services.cluster.client import ClusterError, Document
from services.cluster.pods import PredictorPod
from services.cluster.rolling_update import loads_in_place
from services.cluster.rollout import ClusterRollout
from services.cluster.workload import PredictorWorkload
from services.core.errors import EngineError
from services.core.settings import RolloutSettings
from services.engine.compute import VersionKey
from tests.support.workers import InlineWorkers


@dataclass
class RolloutWorld:
    """A workload, its pods and a clock. New pods are ready `start_seconds` after the annotation, with `targets` loaded."""

    kind: str = "inferenceservice"
    mode: Literal["rolling", "reload"] = "rolling"
    replicas: int = 2
    start_seconds: float = 12.0
    now: float = 1_000_000.0
    targets: set[VersionKey] = field(default_factory=set)
    patches: list[tuple[float, str | None]] = field(default_factory=list)
    recorded: list[tuple[str, str]] = field(default_factory=list)
    pods_now: list[PredictorPod] = field(default_factory=list)
    waits: str = ""
    spec: Document = field(default_factory=dict)
    workers: InlineWorkers = field(default_factory=InlineWorkers)
    _born: float = 0.0

    def __post_init__(self) -> None:
        template: Document = {"predictor": {"minReplicas": self.replicas}}
        if self.kind == "deployment":
            template = {"replicas": self.replicas, "template": {"metadata": {}}}
        self.spec = template
        self.pods_now = [
            PredictorPod(f"old-{number}", True, responds=True) for number in range(self.replicas)
        ]

    def settings(self) -> RolloutSettings:
        return RolloutSettings(mode=self.mode)

    def rollout(self) -> ClusterRollout:
        """Return the rollout of a new leader."""
        this: Any = self
        workload = PredictorWorkload(this, f"{self.kind}/fitloop")
        return ClusterRollout(workload, this, self.settings(), this, self.workers, lambda: self.now)

    # As Kube.
    def get(self, kind: str, name: str) -> Document | None:
        assert (kind, name) == (self.kind, "fitloop")
        return {"spec": copy.deepcopy(self.spec)} if self.spec else None

    def patch(self, kind: str, name: str, body: Document) -> None:
        assert (kind, name) == (self.kind, "fitloop")
        found = (
            body["spec"]["predictor"] if kind == "inferenceservice" else body["spec"]["template"]["metadata"]
        )
        (generation,) = found["annotations"].values()
        assert list(found["annotations"]) == ["fitloop.io/generation"]
        place = self.spec["predictor"] if kind == "inferenceservice" else self.spec["template"]["metadata"]
        place["annotations"] = {"fitloop.io/generation": generation} if generation else {}
        self.patches.append((self.now, generation))
        self._born = self.now
        generation = generation or ""
        old = [pod for pod in self.pods_now if pod.generation == generation] or [
            pod for pod in self.pods_now if pod.ready
        ]
        self.pods_now = old
        if any(pod.generation != generation for pod in old):
            self.pods_now = [*old, PredictorPod("new", False, generation, waiting_reason=self.waits)]

    # As PredictorPods.
    def read(self) -> list[PredictorPod]:
        new = [pod for pod in self.pods_now if not pod.ready]
        if new and not self.waits and self.now - self._born >= self.start_seconds:
            generation = new[0].generation
            self.pods_now = [
                PredictorPod(
                    f"{generation}-{number}", True, generation, frozenset(self.targets), responds=True
                )
                for number in range(self.replicas)
            ]
        return self.pods_now

    # As EventRecorder.
    def record(self, reason: str, note: str, *, warning: bool = False) -> None:
        del warning
        self.recorded.append((reason, note))

    def until_done(self, rollout: ClusterRollout, key: VersionKey, seconds: float) -> RolloutStatus:
        """Advance every second, as the leader does."""
        self.targets.add(key)
        end = self.now + seconds
        while not (status := rollout.advance(*key, self.now)).done and self.now < end:
            self.now += 1
        return status


V2, V3 = VersionKey("5-1", "v-2"), VersionKey("5-1", "v-3")


@pytest.mark.parametrize("kind", ["inferenceservice", "deployment"])
def test_update_loads_the_version_in_all_pods(kind: str) -> None:
    world = RolloutWorld(kind)
    rollout, began = world.rollout(), world.now
    assert world.until_done(rollout, V2, 60) == RolloutStatus(done=True)
    assert 12 <= world.now - began <= 15
    assert len(world.patches) == 1
    assert [reason for reason, _ in world.recorded] == ["RolloutStarted", "VersionHeld"]
    assert rollout.flip_seconds == 0.5


def test_no_update_where_all_pods_have_the_version() -> None:
    world = RolloutWorld()
    world.pods_now = [replace(pod, loaded=frozenset({V2})) for pod in world.pods_now]
    assert world.rollout().advance(*V2, world.now).done
    assert world.patches == []


def test_reload_is_blocked_only_after_its_deadline() -> None:
    world = RolloutWorld(mode="reload")
    rollout = world.rollout()
    assert rollout.advance(*V2, world.now) == RolloutStatus(
        done=False, reason="0 of 2 predictors have loaded it"
    )
    world.now += 601
    assert rollout.advance(*V2, world.now).blocked
    assert world.recorded[-1] == ("RolloutBlocked", "0 of 2 predictors have loaded it")
    world.pods_now = [replace(pod, loaded=frozenset({V2})) for pod in world.pods_now]
    world.now += 1
    assert rollout.advance(*V2, world.now).done
    assert world.patches == []


@pytest.mark.parametrize("mode", ["rolling", "reload"])
def test_refusal_by_a_pod_raises_its_reason(mode: Literal["rolling", "reload"]) -> None:
    world = RolloutWorld(mode=mode)
    world.pods_now[1] = replace(world.pods_now[1], refused={V2: "its sha256 differs"})
    with pytest.raises(EngineError, match="its sha256 differs"):
        world.rollout().advance(*V2, world.now)
    assert world.recorded == [("VersionRefused", "v-2: its sha256 differs")]


def test_update_completes_after_a_refusal() -> None:
    world = RolloutWorld()
    rollout = world.rollout()
    rollout.advance(*V2, world.now)
    world.pods_now[-1] = replace(world.pods_now[-1], refused={V2: "broken"})
    world.now += 1
    with pytest.raises(EngineError):
        rollout.advance(*V2, world.now)
    rollout.withdraw(*V2)
    assert not rollout.advance(*V3, world.now).done
    world.now += 20
    assert "next rolling update" in rollout.advance(*V3, world.now).reason
    assert world.until_done(rollout, V3, 120).done
    assert len(world.patches) == 2


def test_stuck_update_is_rolled_back_and_retried() -> None:
    world = RolloutWorld(waits="no node has room for it")
    rollout = world.rollout()
    assert not world.until_done(rollout, V2, 610).done
    assert [generation is None for _, generation in world.patches] == [False, True]
    blocked = rollout.advance(*V2, world.now)
    assert blocked.blocked
    assert "no node has room for it; retried in" in blocked.reason
    world.waits = ""
    assert world.until_done(rollout, V2, 300).done
    assert len(world.patches) == 3


def test_no_immediate_update_for_missing_version() -> None:
    world = RolloutWorld()
    rollout = world.rollout()
    rollout.advance(*V2, world.now)
    status = RolloutStatus(done=False)
    for _ in range(100):
        world.now += 1
        status = rollout.advance(*V2, world.now)
    assert len(world.patches) == 1
    assert status.blocked
    assert "all predictors are new, and 0 of 2 predictors have loaded it" in status.reason


def test_new_leader_continues_the_update() -> None:
    world = RolloutWorld()
    world.targets.add(V2)
    world.rollout().advance(*V2, world.now)
    world.now += 5
    assert world.until_done(world.rollout(), V2, 60).done
    assert len(world.patches) == 1


def test_new_leader_rolls_back_after_the_old_deadline() -> None:
    world = RolloutWorld(waits="image pull failed")
    world.rollout().advance(*V2, world.now)
    began = world.now
    while len(world.patches) == 1 and world.now < began + 1000:
        world.now += 100
        world.rollout().advance(*V2, world.now)
    assert world.patches[1:] == [(began + 700, None)]


def test_check_changes_nothing() -> None:
    world = RolloutWorld()
    rollout = world.rollout()
    assert rollout.check(*V2) == RolloutStatus(done=True), "a ready pod loads it on demand"
    world.now += 1
    world.pods_now[0] = replace(world.pods_now[0], refused={V2: "broken"})
    with pytest.raises(EngineError, match="broken"):
        rollout.check(*V2)
    world.now += 1
    world.pods_now[1] = replace(world.pods_now[1], loaded=frozenset({V2}))
    assert rollout.check(*V2).done, "what another one holds is not bad"
    world.now += 1
    world.pods_now = []
    assert rollout.check(*V2) == RolloutStatus(done=False, reason="no predictor is ready", blocked=True)
    assert world.patches == []


def test_missing_workload_is_a_cluster_error() -> None:
    world = RolloutWorld()
    world.spec = {}
    with pytest.raises(ClusterError, match="inferenceservice/fitloop does not exist"):
        world.rollout().advance(*V2, world.now)


STUCK, OTHER = VersionKey("5-1", "v-2"), VersionKey("6-1", "w-1")


@dataclass
class StuckRolloutWorld(RolloutWorld):
    """New pods never become ready while `STUCK` is a target, and answer meanwhile."""

    def read(self) -> list[PredictorPod]:
        if STUCK in self.targets:
            loaded = frozenset(self.targets - {STUCK})
            return [pod if pod.ready else replace(pod, responds=True, loaded=loaded) for pod in self.pods_now]
        return super().read()

    def ask(self, rollout: ClusterRollout, key: VersionKey) -> RolloutStatus:
        """Advance as the leader does: a deferred version is no target."""
        status = rollout.advance(*key, self.now)
        (self.targets.discard if status.deferred else self.targets.add)(key)
        return status


@pytest.mark.parametrize("late", [0, 30])
def test_version_that_never_fits_does_not_block_others(late: int) -> None:
    world, done_at = StuckRolloutWorld(targets={STUCK}), 0.0
    rollout, zero = world.rollout(), world.now
    while world.now < zero + 3000:
        assert not world.ask(rollout, STUCK).done
        if world.now >= zero + late and not done_at and world.ask(rollout, OTHER).done:
            done_at = world.now - zero
        world.now += 1
    assert 600 < done_at < 700, "as soon as the first update was rolled back"
    began = [moment - zero for moment, generation in world.patches if generation == f"{int(moment * 1000)}"]
    assert began == [0, 602, 721, 1562, 2643], "the second is the other one's"


def test_versions_that_fail_together_are_retried_alone() -> None:
    world = StuckRolloutWorld(targets={STUCK, OTHER})
    world.waits = "its process ends"
    rollout, zero, done_at = world.rollout(), world.now, 0.0
    while not done_at and world.now < zero + 3000:
        world.ask(rollout, STUCK)
        world.waits = "its process ends" if STUCK in world.targets else ""
        done_at = world.now - zero if world.ask(rollout, OTHER).done else 0.0
        world.now += 1
    assert 0 < done_at < 1500


def test_update_after_a_failed_one_rolls_back_to_what_ran() -> None:
    world = StuckRolloutWorld(targets={STUCK})
    rollout = world.rollout()
    while not world.ask(rollout, STUCK).deferred:
        world.now += 1
    world.targets.add(STUCK)  # so that the next update fails as well
    while len(world.patches) < 4:
        rollout.advance(*OTHER, world.now)
        world.now += 1
    assert [generation for _, generation in world.patches[1::2]] == [None, None]


@pytest.mark.parametrize("mode", ["reload", "rolling"])
def test_predictors_that_hang_delay_nothing(mode: Literal["rolling", "reload"]) -> None:
    world = RolloutWorld(mode=mode)
    world.workers.held.add("predictors")
    rollout = world.rollout()
    asking = RolloutStatus(done=False, reason="the predictors are being asked")
    for _ in range(3):
        assert rollout.advance(*V2, world.now) == rollout.check(*V2) == asking
        rollout.poll(world.now)
        world.now += 1
    assert len(world.workers.submitted) == 1
    world.pods_now = [replace(pod, loaded=frozenset({V2})) for pod in world.pods_now]
    world.workers.release()
    assert rollout.check(*V2).done
    assert rollout.advance(*V2, world.now).done


def test_only_what_was_seen_since_counts() -> None:
    world = RolloutWorld(mode="reload")
    rollout = world.rollout()
    world.pods_now = [replace(pod, loaded=frozenset({V2}), refused={V3: "broken"}) for pod in world.pods_now]
    assert rollout.check(*V2).done
    world.workers.held.add("predictors")
    world.now += 1
    assert not rollout.advance(*V2, world.now).done
    assert not rollout.advance(*V3, world.now).done, "a refusal may be an earlier one's"
    world.workers.release()
    with pytest.raises(EngineError, match="broken"):
        rollout.advance(*V3, world.now)


def test_old_observations_are_not_decided_on() -> None:
    world = RolloutWorld(mode="reload")
    world.pods_now = [replace(pod, loaded=frozenset({V2})) for pod in world.pods_now]
    rollout = world.rollout()
    assert rollout.advance(*V2, world.now).done
    world.workers.held.add("predictors")
    world.now += 19
    assert rollout.check(*V2).done
    world.now += 2
    assert not rollout.check(*V2).done


@pytest.mark.parametrize("waits", ["", "no node has room for it"])
def test_poll_finishes_or_rolls_back_unwanted_update(waits: str) -> None:
    world = RolloutWorld(waits=waits)
    rollout = world.rollout()
    rollout.advance(*V2, world.now)
    rollout.withdraw(*V2)
    for _ in range(700):
        world.now += 1
        rollout.poll(world.now)
    assert rollout.plan is not None
    assert rollout.plan.update is None
    assert [generation for _, generation in world.patches[1:]] == ([None] if waits else [])


def test_new_leader_polls_an_unwanted_update() -> None:
    world = RolloutWorld(waits="image pull failed")
    world.rollout().advance(*V2, world.now)
    world.now += 700
    world.rollout().poll(world.now)
    assert world.patches[-1] == (world.now, None)


def test_poll_does_nothing_with_reload() -> None:
    world = RolloutWorld(mode="reload")
    world.spec = {}  # reading the workload would raise
    world.rollout().poll(world.now)
    assert world.patches == []


@given(
    moments=st.lists(st.floats(0, 10), min_size=5, max_size=5),
    start_seconds=st.floats(1, 50),
    new_leader_at=st.none() | st.floats(0, 100),
)
def test_five_promotions_share_two_updates(
    moments: list[float], start_seconds: float, new_leader_at: float | None
) -> None:
    world = RolloutWorld(start_seconds=start_seconds)
    rollout, zero = world.rollout(), world.now
    waiting = {VersionKey(f"{number}-1", "v-1"): zero + moment for number, moment in enumerate(moments)}
    left = set(waiting)
    while left and world.now < zero + 400:
        if new_leader_at is not None and world.now - zero >= new_leader_at:
            rollout, new_leader_at = world.rollout(), None
        due = {name for name in left if waiting[name] <= world.now}
        world.targets |= due
        left -= {key for key in sorted(due) if rollout.advance(*key, world.now).done}
        world.now += 1
    assert not left
    assert len(world.patches) <= 2


def test_finished_update_serves_all_waiting_versions() -> None:
    world, done = RolloutWorld(), list[VersionKey]()
    rollout = world.rollout()
    advance: Callable[[VersionKey], bool] = lambda key: rollout.advance(*key, world.now).done  # noqa: E731
    world.targets |= {V2, VersionKey("6-1", "w-1")}
    for _ in range(20):
        done += [name for name in sorted(world.targets) if name not in done and advance(name)]
        world.now += 1
    assert done == sorted(world.targets)
    assert len(world.patches) == 1


def test_annotation_that_hangs_delays_no_call_and_is_sent_once() -> None:
    world = RolloutWorld()
    rollout, key = world.rollout(), VersionKey("1-x", "v")
    world.workers.held = {"annotate"}
    world.targets.add(key)
    for _ in range(5):
        assert not rollout.advance(*key, world.now).done
        rollout.poll(world.now)
        world.now += 1
    assert world.patches == []
    assert world.workers.submitted.count("annotate") == 1
    world.workers.release()
    assert world.until_done(rollout, key, 60.0).done
    assert len(world.patches) == 1


def test_annotation_is_not_changed_after_the_lead_was_lost() -> None:
    world = RolloutWorld()
    rollout, key = world.rollout(), VersionKey("1-x", "v")
    rollout.annotation.is_leading = lambda: False
    with pytest.raises(ClusterError, match="leads no more"):
        rollout.advance(*key, world.now)
    assert (world.patches, rollout.plan and rollout.plan.update) == ([], None)


ENCODER = "e" * 64


@dataclass
class HeadRolloutWorld(RolloutWorld):
    """Ready pods that hold the encoder load its versions after `load_seconds`, whatever the mode."""

    load_seconds: float = 1.0
    silent: set[str] = field(default_factory=set)
    """Names of pods that do not answer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pods_now = [replace(pod, encoders=frozenset({ENCODER})) for pod in self.pods_now]
        self.wanted_at = self.now

    def read(self) -> list[PredictorPod]:
        found = super().read()
        if self.now >= self.wanted_at + self.load_seconds:
            found = [
                replace(pod, loaded=frozenset(self.targets)) if ENCODER in (pod.encoders or ()) else pod
                for pod in found
            ]
        self.pods_now = found
        return [
            replace(pod, responds=False, loaded=frozenset(), encoders=None)
            if pod.name in self.silent
            else pod
            for pod in found
        ]

    def until(self, rollout: ClusterRollout, seconds: float, encoder: str = ENCODER) -> RolloutStatus:
        """Advance V2 every second."""
        self.targets.add(V2)
        end = self.now + seconds
        while not (status := rollout.advance(*V2, self.now, encoder)).done and self.now < end:
            self.now += 1
        return status


@pytest.mark.parametrize("mode", ["rolling", "reload"])
def test_head_is_loaded_by_running_pods_in_each_mode(mode: Literal["rolling", "reload"]) -> None:
    world = HeadRolloutWorld(mode=mode)
    began = world.now
    assert world.until(world.rollout(), 10).done
    assert (world.now - began, world.patches) == (1.0, [])
    assert [reason for reason, _ in world.recorded] == ["VersionHeld"]


@pytest.mark.parametrize("encoder", ["", "f" * 64])
def test_whole_model_and_new_encoder_follow_the_mode(encoder: str) -> None:
    world = HeadRolloutWorld(load_seconds=1e9)
    assert world.until(world.rollout(), 60, encoder).done
    assert len(world.patches) == 1


@pytest.mark.parametrize("encoders", [None, frozenset[str]()])
def test_one_pod_without_the_encoder_requires_an_update(encoders: frozenset[str] | None) -> None:
    """None: a predictor of an earlier release, which does not say."""
    world = HeadRolloutWorld()
    world.pods_now[1] = replace(world.pods_now[1], encoders=encoders)
    assert world.until(world.rollout(), 60).done
    assert len(world.patches) == 1


def test_silent_pod_is_waited_for_and_not_replaced() -> None:
    world = HeadRolloutWorld(silent={"old-1"})
    rollout = world.rollout()
    status = world.until(rollout, 30)
    assert status.reason == "1 of 2 predictors have loaded it (old-1 does not answer)"
    assert world.patches == []
    world.silent.clear()
    assert world.until(rollout, 5).done
    assert world.patches == []


def test_silent_pods_alone_follow_the_mode() -> None:
    world = HeadRolloutWorld(silent={"old-0", "old-1"})
    world.until(world.rollout(), 1)
    assert len(world.patches) == 1


def test_head_that_is_not_loaded_in_time_follows_the_mode() -> None:
    world = HeadRolloutWorld(load_seconds=1e9)
    rollout, began = world.rollout(), world.now
    world.until(rollout, 599)
    assert world.patches == []
    assert world.until(rollout, 60).done
    assert 600 <= world.patches[0][0] - began <= 602


def test_head_refused_by_one_pod_is_withdrawn() -> None:
    world = HeadRolloutWorld()
    world.pods_now[0] = replace(world.pods_now[0], refused={V2: "its sha256 differs"})
    with pytest.raises(EngineError, match="its sha256 differs"):
        world.until(world.rollout(), 10)
    assert world.patches == []


def test_pod_that_becomes_ready_meanwhile_must_load_it_too() -> None:
    world = HeadRolloutWorld(load_seconds=3.0)
    rollout = world.rollout()
    world.until(rollout, 1)
    joined = PredictorPod("joined", True, responds=True, encoders=frozenset({ENCODER}))
    world.pods_now.append(joined)
    world.load_seconds = 1e9
    world.pods_now[:2] = [replace(pod, loaded=frozenset({V2})) for pod in world.pods_now[:2]]
    world.now += 1
    assert rollout.advance(*V2, world.now, ENCODER).reason == "2 of 3 predictors have loaded it"
    world.load_seconds = 0.0
    world.now += 1
    assert rollout.advance(*V2, world.now, ENCODER).done
    assert world.patches == []


def test_head_does_not_wait_for_the_update_of_another_version() -> None:
    world = HeadRolloutWorld(waits="no node has room for it")
    rollout = world.rollout()
    rollout.advance(*OTHER, world.now)
    world.now += 1
    assert not rollout.advance(*OTHER, world.now).done
    assert len(world.patches) == 1
    assert world.until(rollout, 5).done
    assert len(world.patches) == 1


@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.none() | st.frozensets(st.sampled_from(["e", "f"]))),
        max_size=4,
    ),
    st.sampled_from(["", "e"]),
)
def test_update_is_spared_only_if_no_answering_pod_lacks_the_encoder(
    given_pods: list[tuple[bool, bool, frozenset[str] | None]], encoder: str
) -> None:
    pods = [
        PredictorPod(f"pod-{number}", ready, responds=responds, encoders=encoders)
        for number, (ready, responds, encoders) in enumerate(given_pods)
    ]
    answering = [pod for pod in pods if pod.ready and pod.responds]
    holds = [pod.encoders is not None and encoder in pod.encoders for pod in answering]
    assert loads_in_place(pods, encoder) == (encoder != "" and bool(answering) and all(holds))

"""What every Launcher does. Trainers are small scripts, and a run's name is their behaviour."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from services.adapter.ports import Launcher
from services.cluster.events import EventRecorder
from services.cluster.jobs import JobLauncher
from services.core.domain import LaunchState, Parameters, RunRequest, RunState
from services.core.runs import Runs
from services.core.store.files import FileStore
from services.embedded.launcher import ChildLauncher
from tests.support.cluster import Namespace, build_manifest, needs_cluster, temporary_namespace
from tests.support.waiting import eventually
from tests.support.workers import InlineWorkers

SCRIPT = Path(__file__).with_name("trainer_script.py")
Make = Callable[[], Launcher]
_numbers = count(1)


def build_request(runs: Runs, run: str, behaviour: str) -> RunRequest:
    found = RunRequest(run, "1-x", 1, behaviour, Parameters(), 0.0)
    runs.write(found)
    return found


def exit_codes(launch: LaunchState | None) -> list[int | None]:
    assert launch is not None
    return [attempt.exit_code for attempt in launch.attempts]


class LauncherContract:
    """Subclasses set `runs` and `make`: each call builds a launcher over the same state, as a new leader does.

    A behaviour is "exit <code>", "wait" (until SIGTERM), or "stubborn" (ignores SIGTERM).
    """

    runs: Runs
    make: Make

    def _outcome(self, launcher: Launcher, run: str) -> RunState:
        def outcome() -> RunState | None:
            seen = launcher.observe(run)
            return seen.outcome if seen else None

        eventually(outcome, 90)
        found = outcome()
        assert found is not None
        return found

    def _works(self, launcher: Launcher, run: str) -> bool:
        """Return whether a process of the run is running."""
        seen = launcher.observe(run)
        return seen is not None and any(attempt.ended_at is None for attempt in seen.attempts)

    def test_unlaunched_run_is_unknown(self) -> None:
        assert self.make().observe("1-1") is None

    def test_exit_0_is_done(self) -> None:
        launcher = self.make()
        launcher.launch(build_request(self.runs, "1-1", "exit 0"))
        assert self._outcome(launcher, "1-1") is RunState.DONE
        written = self.runs.launch_state("1-1")
        assert exit_codes(written) == [0]
        assert written is not None
        assert written.outcome is RunState.DONE

    @pytest.mark.parametrize("code", [64, 65, 78])
    def test_bad_data_fails_at_once(self, code: int) -> None:
        launcher = self.make()
        launcher.launch(build_request(self.runs, "1-1", f"exit {code}"))
        assert self._outcome(launcher, "1-1") is RunState.FAILED
        assert exit_codes(launcher.observe("1-1")) == [code]

    def test_launch_is_idempotent(self) -> None:
        launcher = self.make()
        wanted = build_request(self.runs, "1-1", "wait")
        launcher.launch(wanted)
        launcher.launch(wanted)
        eventually(lambda: self._works(launcher, "1-1"))
        launcher.cancel("1-1")
        assert self._outcome(launcher, "1-1") is RunState.CANCELLED
        launcher.launch(wanted)
        self.make().launch(wanted)
        assert len(exit_codes(launcher.observe("1-1"))) == 1

    def test_cancel_kills_a_stubborn_process(self) -> None:
        launcher = self.make()
        launcher.launch(build_request(self.runs, "1-1", "stubborn"))
        eventually(lambda: self._works(launcher, "1-1"))
        launcher.cancel("1-1")
        assert self._outcome(launcher, "1-1") is RunState.CANCELLED

    def test_cancel_of_an_inactive_run_is_final(self) -> None:
        launcher = self.make()
        wanted = build_request(self.runs, "1-1", "exit 0")
        launcher.cancel("1-1")
        launcher.launch(wanted)
        launch = launcher.observe("1-1")
        assert launch == LaunchState("1-1", (), RunState.CANCELLED)

    def test_cancel_after_the_end_changes_nothing(self) -> None:
        launcher = self.make()
        launcher.launch(build_request(self.runs, "1-1", "exit 0"))
        assert self._outcome(launcher, "1-1") is RunState.DONE
        launcher.cancel("1-1")
        assert self._outcome(launcher, "1-1") is RunState.DONE

    def test_next_launcher_resumes_the_run(self) -> None:
        """No outcome is written, and the next leader takes the run over, whether its process continued or ended."""
        first = self.make()
        wanted = build_request(self.runs, "1-1", "wait")
        first.launch(wanted)
        eventually(lambda: self._works(first, "1-1"))
        first.close()
        left = self.runs.launch_state("1-1")
        assert left is not None
        assert left.outcome is None
        second = self.make()
        second.launch(wanted)
        eventually(lambda: self._works(second, "1-1"))
        second.cancel("1-1")
        assert self._outcome(second, "1-1") is RunState.CANCELLED

    def test_two_runs_in_parallel(self) -> None:
        launcher = self.make()
        for run in ("1-1", "2-1"):
            launcher.launch(build_request(self.runs, run, "wait"))
        eventually(lambda: self._works(launcher, "1-1") and self._works(launcher, "2-1"))
        launcher.cancel("1-1")
        assert self._outcome(launcher, "1-1") is RunState.CANCELLED
        other = launcher.observe("2-1")
        assert other is not None
        assert other.outcome is None
        launcher.cancel("2-1")


class TestChildLauncher(LauncherContract):
    @pytest.fixture(autouse=True)
    def _launchers(self, tmp_path: Path) -> Iterator[None]:
        store = FileStore(tmp_path / "data")
        self.runs = Runs(store)
        made: list[ChildLauncher] = []

        def make() -> Launcher:
            made.append(
                ChildLauncher(
                    store,
                    tmp_path / "data" / "locks",
                    lambda _: None,
                    program=str(SCRIPT),
                    delays=(0.0, 0.0, 0.0),
                    cancel_seconds=0.5,
                    close_seconds=10.0,
                )
            )
            return made[-1]

        self.make = make
        yield
        for launcher in made:
            launcher.close()

    def _marks(self, run: str, number: int) -> bool:
        return self.runs.log(run).count("started") >= number

    def _works(self, launcher: Launcher, run: str) -> bool:
        return super()._works(launcher, run) and self._marks(run, 1)  # and listens to signals

    def test_log_is_stored(self) -> None:
        launcher = self.make()
        launcher.launch(build_request(self.runs, "1-1", "exit 0"))
        assert self._outcome(launcher, "1-1") is RunState.DONE
        assert "started" in self.runs.log("1-1")

    def test_a_bug_fails_at_once(self) -> None:
        launcher = self.make()
        launcher.launch(build_request(self.runs, "1-1", "exit 1"))
        assert self._outcome(launcher, "1-1") is RunState.FAILED
        assert exit_codes(launcher.observe("1-1")) == [1]

    @pytest.mark.parametrize("behaviour", ["exit 75", "die"])
    def test_preemption_and_signals_are_retried_three_times(self, behaviour: str) -> None:
        launcher = self.make()
        launcher.launch(build_request(self.runs, "1-1", behaviour))
        assert self._outcome(launcher, "1-1") is RunState.FAILED
        launch = launcher.observe("1-1")
        assert exit_codes(launch) == [75 if behaviour == "exit 75" else -signal.SIGKILL] * 4
        assert launch is not None
        assert [attempt.number for attempt in launch.attempts] == [1, 2, 3, 4]

    def test_retry_may_succeed(self) -> None:
        launcher = self.make()
        launcher.launch(build_request(self.runs, "1-1", "exit 75 then 0"))
        assert self._outcome(launcher, "1-1") is RunState.DONE
        assert exit_codes(launcher.observe("1-1")) == [75, 0]

    def test_cancel_lets_the_trainer_checkpoint(self) -> None:
        launcher = self.make()
        launcher.launch(build_request(self.runs, "1-1", "wait"))
        eventually(lambda: self._marks("1-1", 1))
        launcher.cancel("1-1")
        assert self._outcome(launcher, "1-1") is RunState.CANCELLED
        assert "kept" in self.runs.log("1-1")

    def test_interrupted_run_resumes_with_the_next_attempt(self) -> None:
        """An interruption is no failure: the next leader uses the next attempt number, and no outcome was written."""
        first = self.make()
        wanted = build_request(self.runs, "1-1", "wait then 0")
        first.launch(wanted)
        eventually(lambda: self._marks("1-1", 1))
        first.close()
        left = self.runs.launch_state("1-1")
        assert left is not None
        assert left.outcome is None
        assert exit_codes(left) == [None]
        first.launch(wanted)
        second = self.make()
        assert second.observe("1-1") == left
        second.launch(wanted)
        assert self._outcome(second, "1-1") is RunState.DONE
        assert exit_codes(second.observe("1-1")) == [None, 0]

    def test_interruptions_are_not_counted_as_failures(self) -> None:
        for number in range(1, 6):
            launcher = self.make()
            launcher.launch(build_request(self.runs, "1-1", "wait"))
            eventually(partial(self._marks, "1-1", number))
            launcher.close()
        launcher = self.make()
        launcher.launch(build_request(self.runs, "1-1", "exit 75"))
        assert self._outcome(launcher, "1-1") is RunState.FAILED
        assert exit_codes(launcher.observe("1-1")) == [None] * 5 + [75] * 4


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with temporary_namespace() as made:
        yield made


class ScriptedJobLauncher(JobLauncher):
    """Its trainers behave as their requests' causes say."""

    def launch(self, request: RunRequest) -> None:
        self.requests = replace(self.requests, template=build_manifest(request.cause))
        super().launch(request)


@needs_cluster
@pytest.mark.slow
class TestJobLauncher(LauncherContract):
    @pytest.fixture(autouse=True)
    def _launchers(self, namespace: Namespace, tmp_path: Path) -> Iterator[None]:
        store, release = FileStore(tmp_path), f"r{next(_numbers)}"
        self.runs = Runs(store)
        made: list[JobLauncher] = []

        def make() -> Launcher:
            kube = namespace.kube
            events = EventRecorder(kube, "deployment/none", "test")
            made.append(
                ScriptedJobLauncher(kube, store, {}, release, "none", lambda _: None, events, InlineWorkers())
            )
            made[-1].start()
            assert made[-1].jobs.listed.wait(30)
            return made[-1]

        self.make = make
        yield
        for launcher in made:
            launcher.close()

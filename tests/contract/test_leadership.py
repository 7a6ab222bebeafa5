"""What every Leadership does. Two candidates stand for two processes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from services.adapter.ports import Leadership
from services.cluster import lease
from services.cluster.lease import LeaseLeadership
from services.core.errors import Locked
from services.embedded.in_process import FileLeadership
from tests.support.api_server import FakeApiServer, serve_api
from tests.support.cluster import Namespace, needs_cluster, temporary_namespace
from tests.support.waiting import eventually


class LeadershipContract:
    """Subclasses set `make`: each call builds another candidate for the same lead."""

    make: Callable[[], Leadership]

    def _start(self, candidate: Leadership, on_change: Callable[[], None] = lambda: None) -> None:
        """Start a candidate; where only one may run, a second one's start raises Locked."""
        with suppress(Locked):
            candidate.start(on_change)

    def test_no_leader_before_start(self) -> None:
        assert not self.make().leads()

    def test_single_candidate_leads(self) -> None:
        one = self.make()
        self._start(one)
        eventually(one.leads)
        eventually(lambda: one.leads(5.0))

    def test_one_of_two_leads(self) -> None:
        one, other = self.make(), self.make()
        self._start(one)
        eventually(one.leads)
        self._start(other)
        assert not other.leads()
        assert one.leads()

    def test_released_lead_passes_on(self) -> None:
        one, other = self.make(), self.make()
        self._start(one)
        eventually(one.leads)
        one.stop()
        assert not one.leads()
        self._start(other)
        eventually(other.leads, 5)

    def test_resigned_candidate_leads_only_where_alone(self) -> None:
        one, other = self.make(), self.make()
        self._start(one)
        eventually(one.leads)
        self._start(other)
        one.resign(60.0)
        assert one.leads() is isinstance(one, FileLeadership)

    def test_stop_is_idempotent(self) -> None:
        one, other = self.make(), self.make()
        one.stop()
        self._start(other)
        eventually(other.leads)
        one.stop()
        assert other.leads()
        other.stop()
        other.stop()
        assert not other.leads()


class TestFileLeadership(LeadershipContract):
    @pytest.fixture(autouse=True)
    def _candidates(self, tmp_path: Path) -> Iterator[None]:
        made: list[FileLeadership] = []

        def make() -> Leadership:
            made.append(FileLeadership(tmp_path))
            return made[-1]

        self.make = make
        yield
        for one in made:
            one.stop()


class LeaseContract(LeadershipContract):
    def test_on_change_is_called(self) -> None:
        changed = threading.Event()
        one = self.make()
        one.start(changed.set)
        assert changed.wait(10)
        assert one.leads()

    def test_follower_takes_over_after_stop(self) -> None:
        one, other = self.make(), self.make()
        one.start(lambda: None)
        eventually(one.leads)
        other.start(lambda: None)
        one.stop()
        eventually(other.leads, 5)
        assert not one.leads()


class TestLease(LeaseContract):
    """Over an API server in this process."""

    @pytest.fixture(autouse=True)
    def _candidates(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(lease, "RETRY_SECONDS", 0.1)
        made: list[LeaseLeadership] = []
        with serve_api(FakeApiServer()) as self.api:

            def make() -> Leadership:
                made.append(LeaseLeadership(self.api.kube(), "fitloop", f"pod-{len(made)}"))
                return made[-1]

            self.make = make
            yield
            for one in made:
                one.stop()

    def test_unreachable_api_demotes_until_it_returns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease, "RENEW_DEADLINE", 0.5)
        changes: list[bool] = []
        one = self.make()
        one.start(lambda: changes.append(one.leads()))
        eventually(one.leads)
        self.api.faults += [("GET", 500, {})] * 30
        eventually(lambda: changes == [True, False])
        self.api.faults.clear()
        eventually(one.leads)

    def test_loser_of_a_race_follows(self) -> None:
        one, other = self.make(), self.make()
        self.api.put("leases", {"kind": "Lease", "metadata": {"name": "fitloop"}})
        one.start(lambda: None)
        other.start(lambda: None)
        eventually(lambda: one.leads() or other.leads())
        assert not (one.leads() and other.leads())


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with temporary_namespace() as made:
        yield made


@needs_cluster
class TestLeaseOnACluster(LeaseContract):
    @pytest.fixture(autouse=True)
    def _candidates(self, namespace: Namespace, request: pytest.FixtureRequest) -> Iterator[None]:
        made: list[LeaseLeadership] = []
        name = request.node.name.replace("_", "-")[:60].strip("-")

        def make() -> Leadership:
            made.append(LeaseLeadership(namespace.kube, name, f"pod-{len(made)}"))
            return made[-1]

        self.make = make
        yield
        for one in made:
            one.stop()

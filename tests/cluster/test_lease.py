"""Leader election by a Lease, on clocks that tests set; no test waits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.cluster.client import ClusterError
from services.cluster.lease import LEASE_SECONDS, RENEW_DEADLINE, RETRY_SECONDS, boot_time
from services.core.settings import S3Settings
from services.core.settings.contradictions import STORE_TIMEOUT_LIMIT
from tests.support.lease import Candidate


@pytest.fixture
def shared() -> dict[str, Any]:
    return {"lease": None, "version": 0}


def test_missing_lease_error_names_the_remedy(shared: dict[str, Any]) -> None:
    """The chart creates the Lease and grants no right to create one."""
    one = Candidate(shared, "one")
    one.kube.may_create = False
    with pytest.raises(ClusterError, match=r"Lease fitloop is missing.*`helm upgrade`"):
        one.lease.acquire_or_renew()
    assert not one.lease.leads()


def test_lease_is_created_where_missing(shared: dict[str, Any]) -> None:
    one = Candidate(shared, "a")
    assert not one.lease.leads()
    assert one.turn()
    spec = shared["lease"]["spec"]
    assert spec["holderIdentity"].startswith("a_")
    assert spec["leaseDurationSeconds"] == 15
    assert spec["leaseTransitions"] == 1


def test_lease_without_holder_is_acquired(shared: dict[str, Any]) -> None:
    labels = {"x": "1"}
    shared["lease"] = {
        "kind": "Lease",
        "metadata": {"name": "fitloop", "resourceVersion": "0", "labels": labels},
    }
    assert Candidate(shared, "a").turn()
    assert shared["lease"]["metadata"]["labels"] == labels


def test_other_candidate_waits_while_held(shared: dict[str, Any]) -> None:
    one, other = Candidate(shared, "a"), Candidate(shared, "b", 1e6)
    assert one.turn()
    for _ in range(20):
        one.now += RETRY_SECONDS
        other.now += RETRY_SECONDS
        assert one.turn()
        assert not other.turn()


def test_silent_holder_loses_the_lease(shared: dict[str, Any]) -> None:
    one, other = Candidate(shared, "a"), Candidate(shared, "b", 1e6)
    one.turn()
    assert not other.turn()
    other.now += LEASE_SECONDS
    assert not other.turn()
    other.now += 0.1
    assert other.turn()
    assert shared["lease"]["spec"]["leaseTransitions"] == 2
    one.now += 1
    assert not one.turn()


def test_holder_resigns_before_another_may_lead(shared: dict[str, Any]) -> None:
    one = Candidate(shared, "a")
    one.turn()
    one.kube.away = True
    one.now = RENEW_DEADLINE - 0.1
    assert one.turn()
    assert one.lease.leads(5.0)
    assert not one.lease.leads(5.2)
    one.now = RENEW_DEADLINE
    assert not one.turn()
    one.kube.away = False
    assert one.turn()


def test_renewal_counts_from_before_it_was_sent(shared: dict[str, Any]) -> None:
    one = Candidate(shared, "a")

    def slowly() -> None:
        one.now += 8

    one.kube.after_get = slowly
    assert one.turn()
    one.now += RENEW_DEADLINE - 8
    assert not one.lease.leads()


def test_conflicting_renewal_changes_nothing(shared: dict[str, Any]) -> None:
    one, other = Candidate(shared, "a"), Candidate(shared, "b")
    one.kube.after_get = other.turn
    assert not one.turn()
    assert other.lease.leads()


def test_released_lease_is_acquired_at_once(shared: dict[str, Any]) -> None:
    one, other = Candidate(shared, "a"), Candidate(shared, "b")
    one.turn()
    assert not other.turn()
    one.lease.stop()
    assert not one.lease.leads()
    assert shared["lease"]["spec"]["holderIdentity"] == ""
    assert other.turn()
    one.lease.stop()
    assert shared["lease"]["spec"]["holderIdentity"] == other.lease.identity


def test_stop_does_not_wait_for_an_unreachable_api(shared: dict[str, Any]) -> None:
    one = Candidate(shared, "a")
    one.turn()
    one.kube.away = True
    one.lease.stop()
    assert not one.lease.leads()


def test_resigned_candidate_lets_the_lease_expire(shared: dict[str, Any]) -> None:
    """It is not released: a write that was started while it was valid for long enough may still be on its way."""
    one, other = Candidate(shared, "a"), Candidate(shared, "b")
    one.turn()
    assert not other.turn()
    one.lease.resign(30.0)
    assert not one.lease.leads()
    assert not one.turn()
    other.now = LEASE_SECONDS
    assert not other.turn()
    other.now += 0.1
    assert other.turn()


def test_resigned_candidate_stands_again_after_the_wait(shared: dict[str, Any]) -> None:
    one = Candidate(shared, "a")
    one.turn()
    one.lease.resign(30.0)
    one.now = 29.9
    assert not one.turn()
    one.now = 30.0
    assert one.turn()


def test_renewal_in_flight_does_not_undo_a_resignation(shared: dict[str, Any]) -> None:
    one = Candidate(shared, "a")
    one.turn()
    one.kube.after_get = lambda: one.lease.resign(30.0)
    assert not one.turn()
    one.now = 29.9
    assert not one.turn()


def test_process_that_does_no_work_neither_renews_nor_stands(shared: dict[str, Any]) -> None:
    one, other = Candidate(shared, "a"), Candidate(shared, "b")
    working = {one: True, other: False}
    one.lease.is_working, other.lease.is_working = lambda: working[one], lambda: working[other]
    assert one.turn()
    assert not other.turn()
    working[one] = False
    with capture_logs() as lines:
        assert not one.turn()
    assert [line["event"] for line in lines] == ["leader_stalled"]
    one.now = other.now = 100.0
    assert not other.turn()
    working[other] = True
    other.now = 130.0
    assert not other.turn(), "it sees the holder for the first time"
    other.now += LEASE_SECONDS + 0.1
    assert other.turn()
    working[one] = True
    one.now = 129.9
    assert not one.turn()


def test_restarted_pod_is_another_candidate(shared: dict[str, Any]) -> None:
    one, again = Candidate(shared, "a"), Candidate(shared, "a")
    one.turn()
    assert not again.turn()


def test_clock_advances_while_the_process_is_stopped() -> None:
    assert boot_time() <= boot_time()


steps = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.floats(0, 6),
        st.sampled_from(["turn", "turn", "turn", "away", "back", "slow", "stop", "resign"]),
    ),
    max_size=60,
)


@given(steps)
def test_never_two_leaders(script: list[tuple[str, float, str]]) -> None:
    """Whatever is slow, unreachable, stopped or overtaken; clocks start at different times and run equally fast."""
    shared: dict[str, Any] = {"lease": None, "version": 0}
    all_of_them = {
        name: Candidate(shared, name, began) for name, began in (("a", 0.0), ("b", 1e5), ("c", 7e9))
    }

    def pass_time(seconds: float) -> None:
        for one in all_of_them.values():
            one.now += seconds
        assert sum(one.lease.leads() for one in all_of_them.values()) <= 1

    for name, seconds, action in script:
        pass_time(seconds)
        one = all_of_them[name]
        if action in {"away", "back"}:
            one.kube.away = action == "away"
        elif action == "stop":
            one.lease.stop()
        elif action == "resign":
            one.lease.resign(seconds * 10)
        else:
            if action == "slow":
                one.kube.after_get = lambda: pass_time(4)
            one.turn()
        pass_time(0)


def test_accepted_store_timeouts_leave_time_to_write() -> None:
    """Between two renewals, the lease is older than the pause between them by the time of a request."""
    longest_write = S3Settings(timeout_seconds=STORE_TIMEOUT_LIMIT).write_seconds
    assert longest_write + RETRY_SECONDS < LEASE_SECONDS

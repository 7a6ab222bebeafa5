"""The work queue returns each project once, when it is due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.adapter.leader.work_queue import WorkQueue


def test_earliest_of_several_times_counts() -> None:
    queue = WorkQueue()
    queue.add(1, 9.0)
    queue.add(1, 5.0)
    queue.add(1, 7.0)

    assert (queue.next_at(), queue.take(4.9), queue.take(5.0), queue.take(99.0)) == (5.0, None, 1, None)
    assert queue.next_at() == float("inf")


def test_urgent_projects_precede_those_due_longer() -> None:
    queue = WorkQueue()
    for project_id, at in ((1, 1.0), (2, 2.0), (3, 3.0), (4, 99.0)):
        queue.add(project_id, at)

    assert [queue.take(5.0, first=(4, 3)) for _ in range(4)] == [3, 1, 2, None]


def test_removed_project_is_not_due() -> None:
    queue = WorkQueue()
    queue.add(1, 1.0)
    queue.remove(1)

    assert queue.take(5.0) is None

    queue.add(1, 3.0)
    assert queue.take(5.0) == 1


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 100)), max_size=40))
def test_each_project_is_taken_once_in_order(added: list[tuple[int, float]]) -> None:
    queue, earliest = WorkQueue(), dict[int, float]()
    for project_id, at in added:
        queue.add(project_id, at)
        earliest[project_id] = min(at, earliest.get(project_id, at))

    taken = list(iter(lambda: queue.take(100.0), None))

    assert sorted(taken) == sorted(earliest)
    assert [earliest[project_id] for project_id in taken] == sorted(earliest.values())

"""ChangedProjects: what threads add wakes the leader, which takes it once."""

from __future__ import annotations

from services.adapter.state.changed_projects import ChangedProjects


def test_runs_are_taken_once_by_project() -> None:
    woken: list[str] = []
    changed = ChangedProjects(lambda: woken.append("woken"))
    for run in ("5-1", "5-2", "71-10"):
        changed.add_run(run)
    assert (changed.take(), len(woken)) == ({5, 71}, 3)
    assert changed.take() == set()

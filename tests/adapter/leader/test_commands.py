"""Grouping of commands: of TRAINs for the same, only the newest stays."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.adapter.leader.commands import group_commands
from services.core.domain import Action, Command

COMMANDS = st.lists(
    st.builds(
        Command,
        st.just(""),
        st.integers(1, 3),
        st.sampled_from([Action.TRAIN, Action.CANCEL, Action.PROMOTE]),
        parameters=st.none().map(lambda _: {}) | st.just({"seed": "1"}),
        asked_by=st.sampled_from(["", "anna", "ben"]),
    )
).map(lambda found: [replace(command, id=f"{number:03}") for number, command in enumerate(found)])


def test_newest_train_names_all_who_asked() -> None:
    commands = [Command(str(number), 5, Action.TRAIN, asked_by=f"person {number}") for number in range(8)]
    found, superseded = group_commands(commands)
    (command,) = found[5]
    assert command.id == "7"
    assert command.asked_by == "person 3, person 4, person 5, person 6, person 7"
    assert [one.id for one in superseded] == [one.id for one in commands[:7]]


@given(COMMANDS)
def test_grouping_loses_nothing(commands: list[Command]) -> None:
    found, superseded = group_commands(commands)
    kept = [command for group in found.values() for command in group]
    assert sorted(command.id for command in (*kept, *superseded)) == [command.id for command in commands]
    for project_id, group in found.items():
        assert {command.project_id for command in group} == {project_id}
        assert [command.id for command in group] == sorted(command.id for command in group)
    for older in superseded:
        newer = [one for one in found[older.project_id] if one.action is Action.TRAIN and one.id > older.id]
        assert any(one.parameters == older.parameters for one in newer)
        assert all(
            set(older.asked_by.split(", ")) <= {"", *one.asked_by.split(", ")}
            for one in newer
            if one.parameters == older.parameters
        )

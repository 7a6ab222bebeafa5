"""Suspect labels of whole runs: listed, and not again once people have confirmed them."""

from __future__ import annotations

from services.core.domain import SuspectLabels
from tests.support.trainer import WORDS, TrainerWorld

NAMES = tuple(WORDS)


def suspects(world: TrainerWorld) -> SuspectLabels:
    """Train a version and return what its report lists."""
    world.train(world.request())
    report = world.registry.report(world.key, world.registry.versions(world.key)[-1])
    assert report.suspects is not None
    return report.suspects


def listed(found: SuspectLabels) -> set[int]:
    return {row.task_id for row in found.rows}


def test_a_confirmed_label_is_not_listed_again(world: TrainerWorld) -> None:
    tasks = world.label(90)
    flipped = {task: tasks.index(task) % 3 for task in tasks[3::8]}
    for task, true in flipped.items():
        world.labelstudio.label(task, NAMES[true - 1])
    first = suspects(world)
    assert (first.confirmed, first.changed) == (0, 0)
    rows = [row for row in first.rows if row.task_id in flipped]
    for row in rows:
        true = flipped[row.task_id]
        assert (row.given, row.other) == ((true - 1) % 3, true)
        assert row.annotation == world.labelstudio.tasks[1][row.task_id]["annotations"][0]["id"]

    wrong, odd, other = (row.task_id for row in rows[:3])
    world.labelstudio.label(wrong, NAMES[flipped[wrong]])  # corrected
    world.labelstudio.label(odd, NAMES[flipped[odd] - 1])  # updated, and the label stays
    second = suspects(world)
    assert listed(second) & {odd, other} == {other}
    assert (second.confirmed, second.changed) == (1, 1)
    assert odd not in listed(suspects(world))  # later versions remember it

    world.labelstudio.label(odd, NAMES[flipped[odd] - 2])  # another label, which nobody has confirmed
    assert odd in listed(suspects(world))


def test_few_texts_list_nothing(world: TrainerWorld) -> None:
    world.label(30)
    found = suspects(world)
    assert (found.too_few, found.rows) == (True, ())

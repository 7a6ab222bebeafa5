"""A project in memory where a text may have several labels, or none."""

from __future__ import annotations

from tests.support.trainer import WORDS, TrainerWorld, build_text

LABELS = tuple(WORDS)


def allow_several(world: TrainerWorld) -> TrainerWorld:
    """Let annotators give a text any number of labels."""
    world.labelstudio.attributes = 'choice="multiple"'
    return world


def add_text(world: TrainerWorld, *labels: str) -> int:
    """Add a text of all these labels' words; of other words without a label."""
    task = world.labelstudio.add_task()
    parts = [build_text(label, world.random) for label in labels] or ["the weather is nice today"]
    world.labelstudio.tasks[1][task]["data"] = {"text": " ".join([*parts, str(task)])}
    return task


def label_sets(world: TrainerWorld, count: int) -> None:
    """Label texts with every set of labels in turn, the empty one included."""
    for number in range(count):
        chosen = [label for place, label in enumerate(LABELS) if number >> place & 1]
        world.labelstudio.label(add_text(world, *chosen), *chosen)

"""Labels are read cheaply, and the known ones always equal those of Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.adapter.training.label_reader import LabelReader
from services.core.domain import Uncounted
from services.core.errors import LabelStudioNotFound, LabelStudioUnreachable, TokenRefused
from services.core.labels import signature
from tests.support.labelstudio import FakeLabelStudio


def build_label_studio(labelled: int = 6) -> FakeLabelStudio:
    fake = FakeLabelStudio()
    fake.add_project()
    fake.label_many(labelled)
    return fake


def test_tasks_are_read_only_when_counts_change() -> None:
    fake = build_label_studio()
    reader = LabelReader(fake, 1)
    first = reader.poll(0.0)
    assert first
    assert (first.labelled, dict(first.counts)) == (6, {"card": 2, "loan": 2, "other": 2})
    assert fake.reads == ["project", "all"]
    reader.poll(1.0)
    assert fake.reads == ["project", "all", "project"]


def test_new_and_edited_labels_are_merged_without_reading_all() -> None:
    fake = build_label_studio()
    reader = LabelReader(fake, 1)
    before = reader.poll(0.0)
    fake.label_many(1)
    fake.label(1, "other")
    after = reader.poll(1.0)
    assert before
    assert after
    assert fake.reads[2:] == ["project", "since"]
    assert after.counts == {"card": 2, "loan": 2, "other": 3}
    assert after.tasks[1] != before.tasks[1]


def test_deleted_task_causes_a_full_read() -> None:
    fake = build_label_studio()
    reader = LabelReader(fake, 1)
    reader.poll(0.0)
    fake.delete_task(2)
    after = reader.poll(1.0)
    assert after
    assert 2 not in after.tasks
    assert fake.reads[-1] == "all"


def test_removed_label_needs_no_full_read() -> None:
    fake = build_label_studio()
    reader = LabelReader(fake, 1)
    reader.poll(0.0)
    fake.unlabel(2)
    after = reader.poll(1.0)
    assert after
    assert after.labelled == 5
    assert fake.reads[-1] == "since"


def test_ground_truth_and_skipped_match_label_studios_counts() -> None:
    fake = build_label_studio()
    fake.label(1, "card", ground_truth=True)
    fake.label(2, "loan", was_cancelled=True)
    reader = LabelReader(fake, 1)
    reader.poll(0.0)
    fake.label_many(1)
    after = reader.poll(1.0)
    assert after
    assert after.labelled == 6
    assert fake.reads[-1] == "since"


def test_uncounted_annotations_have_reasons_and_examples() -> None:
    fake = build_label_studio(0)
    for label in ("Card", "Card", "debit", "card"):
        fake.label(fake.add_task(), label)
    fake.label(fake.add_task(), "card", was_cancelled=True)
    other = [{"from_name": "other", "value": {"choices": ["card"]}}]
    fake.label(fake.add_task(), "card", result=other)
    reading = LabelReader(fake, 1).poll(0.0)
    assert reading
    assert (reading.labelled, reading.not_counted) == (
        1,
        (
            Uncounted("foreign_label", 1, ('"debit"',)),
            Uncounted("other_spelling", 2, ('"Card" for "card"',)),
            Uncounted("other_control", 1, ('"other"',)),
            Uncounted("cancelled", 1),
        ),
    )


def test_corrected_annotation_counts() -> None:
    fake = build_label_studio(0)
    fake.label(fake.add_task(), "Card")
    reader = LabelReader(fake, 1)
    reader.poll(0.0)
    fake.label(1, "card")
    reading = reader.poll(1.0)
    assert reading
    assert (reading.labelled, reading.not_counted) == (1, ())
    assert fake.reads[-1] == "since"


def test_different_causes_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.adapter.training.label_reader._MAX_CAUSES", 5)
    fake = build_label_studio(0)
    for number in range(20):
        fake.label(fake.add_task(), f"nobody's {number}")
    reader = LabelReader(fake, 1)
    reading = reader.poll(0.0)
    assert reading
    assert reading.not_counted[0].count == 20
    assert len(reader._causes) <= 6


def test_another_label_config_causes_a_full_read() -> None:
    fake = build_label_studio()
    reader = LabelReader(fake, 1)
    reader.poll(0.0)
    fake.labels[1] = ("card", "credit", "other")
    after = reader.poll(1.0)
    assert after
    assert after.counts == {"card": 2, "credit": 0, "other": 2}


def test_config_without_choices_has_a_reason() -> None:
    fake = build_label_studio()
    fake.labels[1] = ()
    reading = LabelReader(fake, 1).poll(0.0)
    assert reading
    assert reading.space is None
    assert "single-choice <Choices>" in reading.why_no_space


def test_errors_are_reported_and_retried_with_backoff() -> None:
    fake = build_label_studio()
    reader = LabelReader(fake, 1)
    reader.poll(0.0)
    fake.down = TokenRefused("Label Studio refused the token.")
    fake.label_many(1)
    assert reader.poll(1.0) is None
    assert reader.problem == "Label Studio refused the token."
    reads = len(fake.reads)
    assert reader.poll(1.5) is None
    assert len(fake.reads) == reads
    fake.down = None
    after = reader.poll(2.0)
    assert after
    assert after.labelled == 7
    assert reader.problem == ""


def test_slow_poll_is_followed_by_a_pause_as_long() -> None:
    studio, moments = build_label_studio(), iter([0.0, 30.0, 30.0, 60.0])
    reader = LabelReader(studio, 1, clock=lambda: next(moments))
    studio.down = LabelStudioUnreachable("It does not answer: ReadTimeout.")
    assert reader.poll(100.0) is None
    assert reader.backoff.until == 160.0, "it ended at 130"
    assert reader.poll(159.0) is None
    assert reader.poll(160.0) is None
    assert reader.backoff.until == 220.0


def test_interrupted_read_is_repeated_in_full() -> None:
    fake = build_label_studio()
    reader = LabelReader(fake, 1)
    reader.poll(0.0)
    fake.label_many(2)
    whole = fake.annotated_tasks

    def half(project_id: int, since: str | None = None) -> Iterator[dict[str, Any]]:
        yield next(whole(project_id, since))
        raise LabelStudioUnreachable("gone")

    fake.annotated_tasks = half  # type: ignore[method-assign]
    assert reader.poll(1.0) is None
    fake.annotated_tasks = whole  # type: ignore[method-assign]
    after = reader.poll(10.0)
    assert after
    assert after.labelled == 8


def test_missing_project_raises_at_the_second_poll() -> None:
    reader = LabelReader(FakeLabelStudio(), 1)
    assert reader.poll(0.0) is None
    with pytest.raises(LabelStudioNotFound):
        reader.poll(1.0)


def test_single_404_is_transient() -> None:
    source, reader = FakeLabelStudio(), LabelReader(FakeLabelStudio(), 1)
    reader.source = source
    for at in range(0, 40, 10):
        assert reader.poll(float(at)) is None
        source.add_project()
        assert reader.poll(at + 5.0)
        del source.labels[1]


def test_change_committed_late_is_read() -> None:
    source = FakeLabelStudio()
    source.add_project()
    first, late = source.label_many(2)
    reader = LabelReader(source, 1)
    seen = reader.poll(0.0)
    assert seen
    began = source._stamp()
    source.label(first, "other")
    assert reader.poll(1.0)
    source.label(late, "other")
    source.tasks[1][late]["updated_at"] = began
    source.label(first, "card")
    now = reader.poll(2.0)
    assert now
    assert now.tasks[late] != seen.tasks[late]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["label", "edit", "foreign", "unlabel", "delete", "look", "skip"]),
            st.integers(0, 20),
        ),
        max_size=25,
    )
)
def test_known_labels_equal_stored_ones_after_any_changes(steps: list[tuple[str, int]]) -> None:
    fake = build_label_studio(3)
    reader = LabelReader(fake, 1)
    for what, which in steps:
        known = list(fake.tasks[1])
        task = known[which % len(known)] if known else fake.add_task()
        if what == "label":
            fake.label_many(1)
        elif what == "edit":
            fake.label(task, "other")
        elif what == "foreign":
            fake.label(task, "nobody's")
        elif what == "skip":
            fake.label(task, "other", was_cancelled=True)
        elif what == "unlabel":
            fake.unlabel(task)
        elif what == "delete":
            fake.tasks[1].pop(task, None)
        else:
            reader.poll(0.0)
    reading = reader.poll(0.0)
    there = {number: signature(row["annotations"]) for number, row in fake.tasks[1].items()}
    assert reading
    assert reading.tasks == {number: sign for number, sign in there.items() if sign}
    made = [one for row in fake.tasks[1].values() for one in row["annotations"]]
    assert reading.labelled + sum(row.count for row in reading.not_counted) == len(made)

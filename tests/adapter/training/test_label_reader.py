"""Labels are read cheaply, and the known ones always equal those of Label Studio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.adapter.training.baseline import BaselineRun
from services.adapter.training.label_reader import LabelReader, PollRequest, Reading
from services.core.domain import Counts, Project, Snapshot, Uncounted
from services.core.errors import LabelStudioNotFound, LabelStudioUnreachable, StoreUnreachable, TokenRefused
from services.core.labels import signature
from services.core.labels.index import LabelIndex
from services.core.labels.rows import label_row
from services.core.labels.segments import LabelStore
from services.core.runs import Runs
from tests.support.labelstudio import FakeLabelStudio
from tests.support.store import MemoryStore


def build_label_studio(labelled: int = 6) -> FakeLabelStudio:
    fake = FakeLabelStudio()
    fake.add_project()
    fake.label_many(labelled)
    return fake


def build_reader(fake: FakeLabelStudio, store: MemoryStore | None = None) -> LabelReader:
    return LabelReader(fake, 1, store or MemoryStore())


def signatures(reading: Reading | None) -> dict[int, int]:
    assert reading
    return {row.task: row.signature for row in reading.index if row.signature}


def test_a_poll_at_rest_is_one_request() -> None:
    fake = build_label_studio()
    reader = build_reader(fake)
    first = reader.poll(0.0)
    assert first
    assert (first.labelled, dict(first.counts)) == (6, {"card": 2, "loan": 2, "other": 2})
    assert fake.reads == ["newest", "project", "all"]
    for _ in range(9):
        again = reader.poll(1.0)
        assert again
        assert again.is_unchanged
    assert fake.reads[3:] == ["newest"] * 9


def test_every_tenth_poll_reads_the_project() -> None:
    fake = build_label_studio()
    reader = build_reader(fake)
    for _ in range(20):
        reader.poll(0.0)
    assert fake.reads.count("project") == 2
    assert fake.reads.count("all") == 1


def test_the_project_is_read_when_asked_for() -> None:
    fake = build_label_studio()
    reader = build_reader(fake)
    reader.poll(0.0)
    fake.labels[1] = ("card", "loan", "other", "new")
    unaware = reader.poll(1.0)
    aware = reader.poll(2.0, PollRequest(whole=True))
    assert unaware
    assert aware
    assert ("new" in unaware.counts, "new" in aware.counts) == (False, True)
    assert not aware.is_unchanged


def test_labels_are_found_where_counters_are_wrong() -> None:
    fake = build_label_studio()
    fake.counters = False
    reader = build_reader(fake)
    first = reader.poll(0.0)
    assert first
    assert first.labelled == 6
    fake.label_many(1)
    after = reader.poll(1.0)
    assert after
    assert after.labelled == 7
    assert fake.reads.count("all") == 1


def test_a_new_leader_reads_only_what_changed() -> None:
    fake, store = build_label_studio(), MemoryStore()
    before = build_reader(fake, store).poll(0.0)
    fake.reads.clear()
    same = build_reader(fake, store).poll(1.0)
    assert fake.reads == ["newest", "project"]
    fake.label_many(1)
    later = build_reader(fake, store).poll(2.0)
    assert before
    assert same
    assert later
    assert (same.digest, same.counts) == (before.digest, before.counts)
    assert later.labelled == 7
    assert "all" not in fake.reads


@pytest.mark.parametrize("what", ["missing", "broken"])
def test_damaged_segments_cause_a_full_read(what: str) -> None:
    fake, store = build_label_studio(), MemoryStore()
    build_reader(fake, store).poll(0.0)
    (key,) = (key for key in store.data if key.endswith(".safetensors"))
    store.data.pop(key) if what == "missing" else store.data.update({key: b"?"})
    fake.reads.clear()
    reading = build_reader(fake, store).poll(1.0)
    assert reading
    assert reading.labelled == 6
    assert fake.reads == ["newest", "project", "all"]
    assert LabelStore(store, reading.project.key).load(reading.state).digest == reading.digest


@pytest.mark.parametrize("moment", ["newest", "project", "since"])
def test_a_submit_between_two_requests_causes_no_full_read(moment: str) -> None:
    fake = build_label_studio()
    reader, answer = build_reader(fake), fake._answer

    def answer_and_submit(what: str) -> None:
        answer(what)
        if what == moment:
            fake._answer = answer  # type: ignore[method-assign]
            fake.label_many(1)
            fake._answer = answer_and_submit  # type: ignore[method-assign]

    reader.poll(0.0)
    fake._answer = answer_and_submit  # type: ignore[method-assign]
    for look in range(10):
        fake.label_many(2)
        assert reader.poll(float(look))
    assert fake.reads.count("all") == 1
    fake._answer = answer  # type: ignore[method-assign]
    reading = reader.poll(20.0)
    assert reading
    assert reading.labelled == len(fake.tasks[1])


def test_a_difference_that_stays_is_label_studios_own() -> None:
    """It counts what it does not send: reading all again at each change would not help."""
    fake = build_label_studio()
    project = fake.project

    def project_with_more(project_id: int, newest_change: str | None = None) -> tuple[Project, Counts]:
        found, counts = project(project_id, newest_change)
        return found, replace(counts, annotations=counts.annotations + 1)

    fake.project = project_with_more  # type: ignore[method-assign]
    reader = build_reader(fake)
    for look in range(5):
        fake.label_many(1)
        assert reader.poll(float(look))
    assert fake.reads.count("all") == 1


def test_labels_are_compared_with_those_of_a_run() -> None:
    fake, store = build_label_studio(), MemoryStore()
    reader = build_reader(fake, store)
    first = reader.poll(0.0)
    assert first
    fake.label(1, "other")
    fake.delete_task(2)
    run = PollRequest(baselines=(BaselineRun("1-1", first.state),))
    found = reader.poll(1.0, run)
    assert found
    assert found.comparison.changed == 2
    assert found.comparison.oldest_change is not None
    assert found.baseline
    assert found.baseline.run == "1-1"


def test_labels_are_compared_with_a_snapshot_of_0_1_0() -> None:
    fake, store = build_label_studio(), MemoryStore()
    there = {str(number): signature(row["annotations"]) or "" for number, row in fake.tasks[1].items()}
    Runs(store).write_snapshot("1-1", Snapshot({**there, "1": "0" * 12}, "hash", ("card", "gone"), 0.0))
    runs = (BaselineRun("1-2"), BaselineRun("1-1"))
    found = build_reader(fake, store).poll(0.0, PollRequest(baselines=runs))
    assert found
    assert (found.comparison.changed, found.comparison.lost_labels) == (1, ("gone",))


def test_labels_of_another_control_are_all_new() -> None:
    fake, store = build_label_studio(), MemoryStore()
    Runs(store).write_snapshot("1-1", Snapshot({}, "hash", ("gone",), 0.0, "mood"))
    found = build_reader(fake, store).poll(0.0, PollRequest(baselines=(BaselineRun("1-1"),)))
    assert found
    assert found.comparison.switched_control == "the trained control changed from 'mood' to 'label'"
    assert (found.comparison.changed, found.comparison.lost_labels) == (6, ())


def test_a_store_that_fails_keeps_what_was_read() -> None:
    fake, store = build_label_studio(), MemoryStore()
    reader = build_reader(fake, store)
    reader.poll(0.0)
    fake.label_many(1)
    store.error, store.fail_at = StoreUnreachable("The bucket is away."), store.changes + 1
    assert reader.poll(1.0) is None
    assert reader.problem == "The bucket is away."
    assert not reader.is_unreachable
    after = reader.poll(30.0)
    assert after
    assert after.labelled == 7
    assert fake.reads.count("all") == 1
    assert LabelStore(store, after.project.key).load(after.state).digest == after.digest


def test_duplicates_are_one_example() -> None:
    fake = build_label_studio()
    fake.tasks[1][2]["data"] = {"text": fake.tasks[1][5]["data"]["text"]}
    del fake.tasks[1][3]["data"]["text"]
    reading = build_reader(fake).poll(0.0)
    assert reading
    assert reading.labelled == 4
    assert reading.not_counted == (Uncounted("no_text", 1), Uncounted("duplicate_text", 1))


def test_new_and_edited_labels_are_merged_without_reading_all() -> None:
    fake = build_label_studio()
    reader = build_reader(fake)
    before = reader.poll(0.0)
    fake.label_many(1)
    fake.label(1, "other")
    after = reader.poll(1.0)
    assert before
    assert after
    assert fake.reads[3:] == ["newest", "project", "since"]
    assert after.counts == {"card": 2, "loan": 2, "other": 3}
    assert signatures(after)[1] != signatures(before)[1]


def test_deleted_task_causes_a_full_read() -> None:
    fake = build_label_studio()
    reader = build_reader(fake)
    reader.poll(0.0)
    fake.delete_task(2)
    after = reader.poll(1.0)
    assert after
    assert 2 not in signatures(after)
    assert fake.reads[-1] == "all"


def test_removed_label_needs_no_full_read() -> None:
    fake = build_label_studio()
    reader = build_reader(fake)
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
    reader = build_reader(fake)
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
    reading = build_reader(fake).poll(0.0)
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
    reader = build_reader(fake)
    reader.poll(0.0)
    fake.label(1, "card")
    reading = reader.poll(1.0)
    assert reading
    assert (reading.labelled, reading.not_counted) == (1, ())
    assert fake.reads[-1] == "since"


def test_another_label_config_causes_a_full_read() -> None:
    fake = build_label_studio()
    reader = build_reader(fake)
    reader.poll(0.0)
    fake.labels[1] = ("card", "credit", "other")
    after = reader.poll(1.0, PollRequest(whole=True))
    assert after
    assert after.counts == {"card": 2, "credit": 0, "other": 2}


@pytest.mark.parametrize("attributes", [("", 'choice="multiple"'), ('choice="multiple"', "")])
def test_labels_of_one_or_several_are_stored_anew(attributes: tuple[str, str]) -> None:
    fake, store = build_label_studio(), MemoryStore()
    reader = build_reader(fake, store)
    for number, given_attributes in enumerate(attributes):
        fake.attributes = given_attributes
        reading = reader.poll(float(number), PollRequest(whole=True))
        assert reading

        assert list(LabelStore(store, reading.project.key).load(reading.state)) == list(reading.index)
        assert dict(reading.counts) == {"card": 2, "loan": 2, "other": 2}


def test_config_without_choices_has_a_reason() -> None:
    fake = build_label_studio()
    fake.labels[1] = ()
    reading = build_reader(fake).poll(0.0)
    assert reading
    assert reading.space is None
    assert "needs a <Choices>" in reading.why_no_space


def test_errors_are_reported_and_retried_with_backoff() -> None:
    fake = build_label_studio()
    reader = build_reader(fake)
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
    reader = LabelReader(studio, 1, MemoryStore(), clock=lambda: next(moments))
    studio.down = LabelStudioUnreachable("It does not answer: ReadTimeout.")
    assert reader.poll(100.0) is None
    assert reader.backoff.until == 160.0, "it ended at 130"
    assert reader.poll(159.0) is None
    assert reader.poll(160.0) is None
    assert reader.backoff.until == 220.0


def test_interrupted_read_is_repeated() -> None:
    fake = build_label_studio()
    reader = build_reader(fake)
    reader.poll(0.0)
    fake.label_many(2)
    whole = fake.annotated_tasks

    def half(project_id: int, since: str | None = None, **_: bool) -> Iterator[dict[str, Any]]:
        yield next(whole(project_id, since))
        raise LabelStudioUnreachable("gone")

    fake.annotated_tasks = half  # type: ignore[method-assign]
    assert reader.poll(1.0) is None
    fake.annotated_tasks = whole  # type: ignore[method-assign]
    after = reader.poll(10.0)
    assert after
    assert after.labelled == 8


def test_missing_project_raises_at_the_second_poll() -> None:
    reader = build_reader(FakeLabelStudio())
    assert reader.poll(0.0) is None
    with pytest.raises(LabelStudioNotFound):
        reader.poll(1.0)


def test_single_404_is_transient() -> None:
    source = FakeLabelStudio()
    reader = build_reader(source)
    for at in range(0, 40, 10):
        assert reader.poll(float(at)) is None
        source.add_project()
        assert reader.poll(at + 5.0)
        del source.labels[1]


def test_change_committed_late_is_read() -> None:
    source = FakeLabelStudio()
    source.add_project()
    first, late = source.label_many(2)
    reader = build_reader(source)
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
    assert signatures(now)[late] != signatures(seen)[late]


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
    reader = build_reader(fake)
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
    assert signatures(reading) == {number: int(sign, 16) for number, sign in there.items() if sign}
    made = [one for row in fake.tasks[1].values() for one in row["annotations"]]
    assert reading.labelled + sum(row.count for row in reading.not_counted) == len(made)


def test_lost_segments_are_noticed_while_the_leader_lives() -> None:
    fake, store = build_label_studio(), MemoryStore()
    reader = build_reader(fake, store)
    reader.poll(0.0)
    for key in [key for key in store.data if key.endswith(".safetensors")]:
        del store.data[key]
    found = reader.poll(1.0, PollRequest(whole=True))
    assert found
    assert fake.reads.count("all") == 2
    assert LabelStore(store, found.project.key).load(found.state).digest == found.digest


def test_segments_that_nothing_names_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.core.labels.segments._MAX_DELTAS", 2)
    fake, store = build_label_studio(), MemoryStore()
    reader = build_reader(fake, store)
    first = reader.poll(0.0)
    assert first
    in_use = PollRequest(in_use=(first.state,), baselines=(BaselineRun("1-1", first.state),))
    for look in range(1, 9):
        fake.label(look % 6 + 1, "other")
        reader.poll(look * 10_000.0, in_use)
    last = reader.poll(100_000.0, in_use)
    assert last
    named = {segment.sha256 for state in (first.state, last.state) for segment in state.segments}
    stored = {key.rpartition("/")[2].partition(".")[0] for key in store.data if key.endswith(".safetensors")}
    assert named <= stored
    assert len(stored - named) <= 3


def test_garbage_that_cannot_be_deleted_fails_no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.core.labels.segments._MAX_DELTAS", 1)
    fake, store = build_label_studio(), MemoryStore()
    reader = build_reader(fake, store)

    def fail(key: str) -> None:
        raise StoreUnreachable(key)

    monkeypatch.setattr(store, "delete", fail)
    for look in range(5):
        fake.label(1, "other")
        assert reader.poll(look * 10_000.0)


def test_a_lost_delta_is_replaced_by_a_new_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.core.labels.segments._MAX_DELTAS", 2)
    fake, store = build_label_studio(), MemoryStore()
    reader = build_reader(fake, store)
    for look in range(3):
        fake.label(1, "other")
        reader.poll(float(look))
    for key in [key for key in store.data if key.endswith(".safetensors")]:
        del store.data[key]
    fake.label(2, "other")
    found = reader.poll(9.0)
    assert found
    assert len(found.state.segments) == 1
    assert LabelStore(store, found.project.key).load(found.state).digest == found.digest


_OPS = st.tuples(
    st.sampled_from(["label", "edit", "unlabel", "delete", "skip", "import"]), st.integers(0, 20)
)


def change(fake: FakeLabelStudio, what: str, which: int) -> None:
    known = list(fake.tasks[1])
    task = known[which % len(known)] if known else fake.add_task()
    if what == "label":
        fake.label_many(1)
    elif what == "import":
        fake.add_task()
    elif what == "unlabel":
        fake.unlabel(task)
    elif what == "delete":
        fake.delete_task(task)
    else:
        fake.label(task, "other", was_cancelled=what == "skip")


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(_OPS, max_size=3), max_size=25), st.booleans())
@example([[], [], [("label", 0)], [("delete", 0)]], False)  # the counts are as before
def test_changes_between_any_requests_are_found(steps: list[list[tuple[str, int]]], new_leader: bool) -> None:
    """Each request is followed by changes; once they stop, one more poll knows all labels, whoever polls."""
    fake, store, remaining = build_label_studio(3), MemoryStore(), iter(steps)
    reader, answer = build_reader(fake, store), fake._answer

    def answer_and_change(what: str) -> None:
        answer(what)
        for operation in next(remaining, ()):
            change(fake, *operation)

    fake._answer = answer_and_change  # type: ignore[method-assign]
    for look in range(6):
        assert reader.poll(float(look))
    fake._answer = answer  # type: ignore[method-assign]
    reading = (build_reader(fake, store) if new_leader else reader).poll(9.0)
    assert reading
    rows = [row for task in fake.tasks[1].values() if (row := label_row(reading.space, task))]
    assert list(reading.index) == list(LabelIndex.of(rows))
    assert list(LabelStore(store, reading.project.key).load(reading.state)) == list(reading.index)

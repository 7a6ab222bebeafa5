"""Predictions that the run stored are pushed without a predictor: the most uncertain, the title, then the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.adapter.metrics import leader_metrics
from services.adapter.serving.delivery import FIRST
from services.adapter.serving.refresh import RECHECK_SECONDS
from services.core.errors import CorruptVersion, LabelStudioUnreachable, NotFound, StoreUnreachable
from tests.adapter.serving.test_refresh import NESTED, RefreshWorld, progress_of


def _writes(world: RefreshWorld) -> list[str]:
    return [what for what in world.label_studio.reads if what in {"push", "push one", "title"}]


def _counts() -> tuple[float, float]:
    found = leader_metrics._suggestions
    run, predictor = (found.labels("1", source)._value.get() for source in ("run", "predictor"))
    return run, predictor


def test_most_uncertain_come_first_then_the_title_then_the_rest() -> None:
    world = RefreshWorld(1200)
    world.store(tasks=world.tasks[::-1])
    before = _counts()
    world.work(world.job())
    assert world.pushed == world.tasks[::-1]
    assert _writes(world) == ["push", "push", "title", "push", "push"]
    assert world.inference.asked == []
    assert world.label_studio.reads.index("push") == 3
    first = world.label_studio.predictions[0]
    assert (first["model_version"], first["score"]) == ("support-1", pytest.approx(0.6))
    assert first["result"][0]["value"]["choices"] == ["card"]
    assert progress_of(world).pushed == progress_of(world).total == 1200
    assert _counts() == (before[0] + 1200, before[1])


def test_predictor_is_asked_only_for_imported_and_edited_tasks() -> None:
    world = RefreshWorld(5)
    world.store()
    imported = world.label_studio.add_task()
    world.label_studio.tasks[1][2]["data"] = {"text": "a new text"}
    before = _counts()
    world.work(world.job())
    assert sorted(world.pushed) == [*world.tasks, imported]
    assert [texts for _, _, texts in world.inference.asked] == [("a new text", f"text number {imported}")]
    assert _counts() == (before[0] + 4, before[1] + 2)


def test_labelled_and_deleted_tasks_get_no_suggestion() -> None:
    world = RefreshWorld(600)
    world.store()
    world.label_studio.label(1, "card")
    world.label_studio.delete_task(2)
    world.work(world.job())
    assert world.pushed == world.tasks[2:]
    assert progress_of(world).refused == 0


def test_task_deleted_after_it_was_read_harms_no_other() -> None:
    world = RefreshWorld(600)
    world.store()
    whole = world.label_studio.unpredicted_tasks

    def deletes(*args: Any) -> list[dict[str, Any]]:
        found = whole(*args)
        world.label_studio.tasks[1].pop(7, None)
        return found

    world.label_studio.unpredicted_tasks = deletes  # type: ignore[method-assign, assignment]
    world.work(world.job())
    assert sorted(world.pushed) == [task for task in world.tasks if task != 7]
    assert "push one" not in world.label_studio.reads


def test_next_version_interrupts_the_rest() -> None:
    world = RefreshWorld(2000)
    world.store()
    world.store("support-2")
    whole = world.label_studio.set_backend_title

    def promotes(*args: Any) -> None:
        whole(*args)
        if world.current == "support-1":
            world.previous, world.current = "support-1", "support-2"
            world.refresher.submit(world.job("support-2"))

    world.label_studio.set_backend_title = promotes  # type: ignore[method-assign, assignment]
    world.work(world.job())
    versions = [row["model_version"] for row in world.label_studio.predictions]
    assert (versions.count("support-1"), versions.count("support-2")) == (FIRST, 2000)
    assert world.title == "support-2"


def test_rollback_pushes_the_file_of_its_own_version() -> None:
    world = RefreshWorld(3)
    world.store()
    world.store("support-2", world.tasks[::-1])
    for version in ("support-2", "support-1"):
        world.current = version
        world.work(world.job(version))
    pushed = [(row["task"], row["model_version"]) for row in world.label_studio.predictions]
    assert pushed[3:] == [(task, "support-1") for task in world.tasks]
    assert (world.title, world.inference.asked) == ("support-1", [])


def test_version_whose_name_begins_another_is_pushed() -> None:
    world = RefreshWorld(3)
    world.store()
    world.store("support-12")
    for version in ("support-12", "support-1"):
        world.current = version
        world.work(world.job(version))
    assert {row["task"] for row in world.label_studio.predictions if row["model_version"] == "support-1"} == {
        1,
        2,
        3,
    }
    assert world.inference.asked == []


def test_repeated_delivery_pushes_nothing_twice() -> None:
    world = RefreshWorld(600)
    world.store()
    world.work(world.job())
    new = world.label_studio.add_task()
    world.work(world.job(round_=1))
    assert world.pushed == [*world.tasks, new]
    assert progress_of(world).pushed == progress_of(world).total == 601


def test_limit_counts_stored_predictions() -> None:
    world = RefreshWorld(30, max_tasks=10)
    world.store(tasks=world.tasks[::-1])
    world.work(world.job())
    world.work(world.job(round_=1))
    assert world.pushed == world.tasks[:19:-1]


def test_few_stored_predictions_leave_the_title_to_the_end() -> None:
    world = RefreshWorld(700)
    world.store(tasks=world.tasks[:10])
    world.work(world.job())
    assert sorted(world.pushed) == world.tasks
    assert _writes(world)[-1] == "title"


@pytest.mark.parametrize("error", [CorruptVersion("It differs."), NotFound("It is gone.")])
def test_unusable_file_is_reported_and_predicted_on_demand(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    world = RefreshWorld(3)
    world.stored["support-1"] = error
    world.work(world.job())
    assert (world.pushed, world.title) == (world.tasks, "support-1")
    assert [len(texts) for _, _, texts in world.inference.asked] == [3]
    assert progress_of(world).problem == (
        "The suggestions that the run of support-1 stored cannot be used, so predictors computed them: "
        f"{error}"
    )
    assert "stored_predictions_unusable" in capsys.readouterr().out


def test_absent_bucket_delays_the_delivery() -> None:
    world = RefreshWorld(3)
    world.stored["support-1"] = StoreUnreachable("The bucket does not answer.")
    world.work(world.job())
    assert (world.pushed, world.title) == ([], "fitloop")
    world.store()
    world.now += 2.0
    assert world.refresher.run_due_job(world.now)
    assert world.pushed == world.tasks


def test_interrupted_delivery_resumes_where_it_ended() -> None:
    world = RefreshWorld(1200)
    world.store()
    whole, calls = world.label_studio.push_predictions, []

    def breaks(project_id: int, predictions: list[dict[str, Any]]) -> int:
        calls.append(len(predictions))
        if len(calls) == 3:
            raise LabelStudioUnreachable("Label Studio is down.")
        return whole(project_id, predictions)

    world.label_studio.push_predictions = breaks  # type: ignore[method-assign, assignment]
    world.work(world.job())
    assert (world.title, len(world.pushed)) == ("support-1", 500)
    world.now += 2.0
    while world.refresher.run_due_job(world.now):
        pass
    assert calls == [50, 450, 500, 500, 200]
    assert sorted(world.pushed) == world.tasks


def test_nested_choices_of_the_run_are_stored_one_by_one() -> None:
    world = RefreshWorld(300)
    world.store()
    world.work(replace(world.job(), space=NESTED))
    assert sorted(world.pushed) == world.tasks
    assert world.label_studio.predictions[0]["result"][0]["value"]["choices"] == [["bank", "card"]]


def test_label_that_the_config_lost_gets_no_suggestion() -> None:
    world = RefreshWorld(3)
    world.store()
    known = world.job().space
    assert known is not None
    space = replace(known, labels=("loan", "other"))
    world.work(replace(world.job(), space=space))
    assert (world.pushed, world.inference.asked, world.title) == ([], [], "support-1")


def test_title_comes_before_the_rest_of_another_project() -> None:
    world = RefreshWorld(2000)
    world.store()
    world.label_studio.add_project(2)
    world.refresher.submit(world.job())
    assert world.refresher.run_due_job(world.now)
    world.now += 1.0
    world.refresher.submit(replace(world.job(), project_id=2))
    assert len(world.pushed) == FIRST
    world.now += 0.1
    turns = 0
    while world.label_studio.backend_rows[2][0].title != "support-1":
        assert world.refresher.run_due_job(world.now)
        turns += 1
    assert turns == 2
    assert len(world.pushed) == 2000


def test_title_is_checked_again_while_the_rest_is_pushed() -> None:
    world = RefreshWorld(2000)
    world.store()
    world.refresher.submit(world.job())
    assert world.refresher.run_due_job(world.now)
    world.label_studio.backend_rows[1] = [
        replace(one, title="fitloop") for one in world.label_studio.backend_rows[1]
    ]
    world.now += RECHECK_SECONDS
    while world.refresher.run_due_job(world.now):
        pass
    assert world.title == "support-1"


def test_outdated_predictions_of_pushed_tasks_are_deleted() -> None:
    world = RefreshWorld(300)
    for number in range(1, 5):
        version = f"support-{number}"
        world.store(version)
        world.previous, world.current = world.current, version
        world.work(world.job(version))
    stored = [row["model_version"] for row in world.label_studio.predictions]
    assert sorted(set(stored)) == ["support-3", "support-4"]
    assert len(stored) == 600

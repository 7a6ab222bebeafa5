"""Fresh predictions for all unlabelled tasks, then the title; a repeated job pushes only what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from services.adapter.serving.delivery_ports import DeliveryPorts
from services.adapter.serving.label_studio import (
    RefreshJob,
    RefreshProgress,
    find_own_backend,
    progress_message,
)
from services.adapter.serving.refresh import RECHECK_SECONDS, Refresher
from services.adapter.serving.stored import StoredPredictions
from services.adapter.state.documents import NotLeading
from services.adapter.suggestions import is_blind
from services.core.domain import LabelSpace, Served
from services.core.errors import LabelStudioUnreachable, Overloaded
from services.core.features import key_array
from services.core.labels import parse_label_space, text_key
from services.core.labelstudio import Backend
from services.core.pool import PoolPredictions
from services.core.settings import AuthSettings, ServingSettings
from services.engine.compute import Scores
from tests.support.fakes import FakeInference
from tests.support.labelstudio import LABELS, START, URL, FakeLabelStudio

SECRET = "s3cret-path-of-16"


class RefreshWorld:
    """A refresher over a project with tasks."""

    def __init__(
        self, tasks: int, max_tasks: int = 10_000, blind_share: float = 0.0, *, is_evaluated: bool = True
    ) -> None:
        self.label_studio, self.inference = FakeLabelStudio(), FakeInference(LABELS, row=(0.7, 0.2, 0.1))
        self.label_studio.add_project()
        self.tasks = [self.label_studio.add_task() for _ in range(tasks)]
        self.current = "support-1"
        self.now = START
        self.previous: str | None = None
        self.stored: dict[str, StoredPredictions | Exception] = {}
        ports = DeliveryPorts(
            self.label_studio,
            self.inference,
            AuthSettings(username="fitloop", password="secret"),
            ServingSettings(refresh_max_tasks=max_tasks, blind_share=blind_share),
            lambda _: Served(current=self.current, previous=self.previous),
            self._stored,
            lambda _: is_evaluated,
        )
        self.refresher = Refresher(ports, lambda job: job.version == self.current, lambda: self.now)

    def store(self, version: str = "support-1", tasks: Sequence[int] | None = None) -> None:
        """Store a run's predictions for these tasks, the first of which is the most uncertain: 0.6 card, 0.4 loan and so on."""
        ids = self.tasks if tasks is None else tasks
        rows = self.label_studio.tasks[1]
        keys = key_array(text_key(rows[task]["data"]["text"]) for task in ids)
        p1 = np.linspace(0.6, 0.9, len(ids), dtype=np.float32)
        probabilities = np.stack([p1, 1 - p1, 0 * p1], axis=1)
        found = PoolPredictions.of(np.array(ids, np.int64), keys, probabilities)
        self.stored[version] = StoredPredictions(version, LABELS, found)

    def _stored(self, job: RefreshJob) -> StoredPredictions | None:
        found = self.stored.get(job.version)
        if isinstance(found, Exception):
            raise found
        return found

    def job(self, version: str = "support-1", round_: int = 0) -> RefreshJob:
        project, _ = self.label_studio.project(1)
        return RefreshJob(1, project.key, version, parse_label_space(project.label_config), URL, round_)

    def work(self, job: RefreshJob) -> None:
        self.refresher.submit(job)
        while self.refresher.run_due_job(self.now):
            pass

    @property
    def pushed(self) -> list[int]:
        return [row["task"] for row in self.label_studio.predictions]

    @property
    def title(self) -> str:
        return self.label_studio.backend_rows[1][0].title


def test_unlabelled_tasks_are_predicted_before_the_title() -> None:
    world = RefreshWorld(450)
    world.label_studio.label(1, "card")
    world.work(world.job())
    assert world.pushed == world.tasks[1:]
    prediction = world.label_studio.predictions[0]
    assert (prediction["model_version"], prediction["score"]) == ("support-1", pytest.approx(0.7 / 0.9))
    assert prediction["result"][0]["value"]["choices"] == ["card"]
    assert world.title == "support-1"
    order = [what for what in world.label_studio.reads if what in {"push", "title"}]
    assert order == ["push", "push", "push", "title"]
    assert [len(texts) for _, _, texts in world.inference.asked] == [200, 200, 49]


def test_predictors_answers_from_label_names_show_no_probability() -> None:
    world = RefreshWorld(3, is_evaluated=False)
    world.work(world.job())
    rows = world.label_studio.predictions
    assert [row["score"] for row in rows] == [pytest.approx(0.7 / 0.9)] * 3
    assert all(
        set(region) == {"from_name", "to_name", "type", "value"} for row in rows for region in row["result"]
    )


@pytest.mark.parametrize("stored", [False, True])
def test_blind_texts_get_a_prediction_without_labels(stored: bool) -> None:
    world = RefreshWorld(30, blind_share=0.3)
    if stored:
        world.store()
    world.work(world.job())
    texts = {task: row["data"]["text"] for task, row in world.label_studio.tasks[1].items()}
    blind = {row["task"] for row in world.label_studio.predictions if not row["result"]}
    assert blind == {task for task, text in texts.items() if is_blind(text, 0.3)}
    assert 0 < len(blind) < 30
    assert sorted(world.pushed) == world.tasks
    assert all(0 < row["score"] <= 1 for row in world.label_studio.predictions)


def test_tasks_without_text_are_skipped() -> None:
    world = RefreshWorld(2)
    world.label_studio.tasks[1][1]["data"] = {"text": None}
    world.work(world.job())
    assert world.pushed == [2]


def test_fresh_predictions_are_limited_by_the_setting() -> None:
    world = RefreshWorld(30, max_tasks=10)
    world.work(world.job())
    assert len(world.pushed) == 10
    world.work(world.job(round_=1))
    assert len(world.pushed) == 10


def test_tasks_without_text_do_not_count_for_the_limit() -> None:
    world = RefreshWorld(6, max_tasks=2)
    for number in (1, 2, 3):
        world.label_studio.tasks[1][number]["data"] = {"text": " "}
    world.work(world.job())
    assert world.pushed == [4, 5]


def test_limit_of_zero_only_sets_the_title() -> None:
    world = RefreshWorld(3, max_tasks=0)
    world.work(world.job())
    assert world.pushed == []
    assert world.title == "support-1"


def test_repeated_job_pushes_only_what_is_missing() -> None:
    world = RefreshWorld(5)
    world.work(world.job())
    world.work(world.job())
    new = world.label_studio.add_task()
    world.work(world.job(round_=1))
    assert world.pushed == [*world.tasks, new]
    assert world.label_studio.reads.count("title") == 1


def test_job_of_a_replaced_version_is_abandoned() -> None:
    world = RefreshWorld(450)
    whole = world.label_studio.push_predictions

    def flips(project_id: int, predictions: list[dict[str, object]]) -> int:
        world.current = "support-2"
        return whole(project_id, predictions)

    world.label_studio.push_predictions = flips  # type: ignore[method-assign, assignment]
    world.work(world.job())
    assert len(world.pushed) == 200
    assert world.title == "fitloop"
    assert world.refresher.progress(1) is None


def test_newest_version_wins() -> None:
    world = RefreshWorld(3)
    whole = world.inference.scores

    async def newer(*args: object) -> object:
        world.current = "support-2"
        world.refresher.submit(world.job("support-2"))
        world.inference.scores = whole  # type: ignore[method-assign]
        return await whole(*args)  # type: ignore[arg-type]

    world.inference.scores = newer  # type: ignore[method-assign, assignment]
    world.work(world.job())
    assert world.title == "support-2"
    progress = world.refresher.progress(1)
    assert progress
    assert (progress.job.version, progress.done) == ("support-2", True)


@pytest.mark.parametrize(
    "error", [LabelStudioUnreachable("Label Studio is down."), Overloaded("The queue is full.")]
)
def test_error_is_reported_and_the_job_resumes_later(error: Exception) -> None:
    world = RefreshWorld(250)
    whole = world.label_studio.push_predictions
    calls = []

    def breaks(project_id: int, predictions: list[dict[str, object]]) -> int:
        calls.append(len(predictions))
        if len(calls) == 2:
            raise error
        return whole(project_id, predictions)

    world.label_studio.push_predictions = breaks  # type: ignore[method-assign, assignment]
    world.work(world.job())
    progress = world.refresher.progress(1)
    assert progress
    assert progress.problem == f"Suggestions of support-1 could not be refreshed: {error}"
    assert progress_message(progress) == "refreshing suggestions in Label Studio: 200 of 250"
    assert world.title == "fitloop"
    world.now += 1.0
    world.work(world.job())
    assert calls == [200, 50, 50]
    assert world.title == "support-1"
    assert progress_message(world.refresher.progress(1)) == ""


def test_unanswered_push_is_awaited_before_the_retry() -> None:
    world = RefreshWorld(3)
    whole = world.label_studio.push_predictions

    def late(project_id: int, predictions: list[dict[str, object]]) -> int:
        world.now += 30.0
        whole(project_id, predictions)
        raise LabelStudioUnreachable("no answer")

    world.label_studio.push_predictions = late  # type: ignore[method-assign, assignment]
    world.work(world.job())
    world.label_studio.push_predictions = whole  # type: ignore[method-assign]
    world.now += 29.0
    assert not world.refresher.run_due_job(world.now)
    world.now += 1.0
    world.work(world.job())
    assert (world.pushed, world.title) == (world.tasks, "support-1")


NESTED = LabelSpace("label", "text", "$text", ("card", "loan"), (("bank", "card"), ("bank", "loan")))


def test_nested_choices_are_pushed_one_by_one() -> None:
    world = RefreshWorld(3)
    world.work(replace(world.job(), space=NESTED))
    assert world.pushed == world.tasks
    assert world.label_studio.predictions[0]["result"][0]["value"]["choices"] == [["bank", "card"]]
    assert progress_of(world) == RefreshProgress(replace(world.job(), space=NESTED), 3, 3, done=True)
    assert world.title == "support-1"


def test_refused_suggestions_are_counted_in_the_problem() -> None:
    world = RefreshWorld(3)
    world.label_studio.refused_tasks = {2}
    world.work(replace(world.job(), space=NESTED))
    assert world.pushed == [1, 3]
    progress = progress_of(world)
    assert (progress.pushed, progress.refused, progress.done) == (2, 1, True)
    assert progress.problem == (
        "Label Studio refuses 1 suggestion of support-1 for 'label': annotators get them only when Label Studio itself "
        "requests predictions. Its log says why."
    )
    assert world.title == "support-1"


def test_title_change_never_sends_the_password() -> None:
    world = RefreshWorld(0)
    world.work(world.job())
    assert world.label_studio.auth == {}
    world.label_studio.backend_rows[1] = [Backend(7, URL, "old", "fitloop")]
    world.work(world.job(round_=1))
    assert world.label_studio.auth == {
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": "fitloop",
        "basic_auth_pass": "",
    }


@pytest.mark.parametrize(
    ("urls", "seen", "found"),
    [
        (["http://a:9090/", "http://b:9090"], "http://user:pw@a:9090", 0),
        (["http://a:9090/one", "http://a:9090/two"], "http://a:9090/two/", 1),
        (["http://a", "https://a"], "https://a:443", 1),
        (["http://collector.evil.example"], "http://127.0.0.1:9090", None),
        (["http://a:9090", "http://b:9090"], "", None),
        (["http://127.0.0.1:9090/other", "http://127.0.0.1:9090/more"], "http://127.0.0.1:9090", None),
        ([f"https://a/{SECRET}"], "http://a", 0),
        (["https://a/fitloop", f"https://a/fitloop/{SECRET}/"], "https://a/fitloop", 0),
        ([f"https://a/x/{SECRET}", f"https://a/fitloop/{SECRET}/"], "https://a/fitloop", 1),
        (["https://b", f"https://a/fitloop/{SECRET}/"], "http://a", 1),
        (["http://a:99999", "http://a:abc", "http://a:9090"], "http://a:9090", 2),
        ([], "http://a:9090", None),
    ],
)
def test_own_backend_is_found_by_url_and_never_guessed(urls: list[str], seen: str, found: int | None) -> None:
    backends = [Backend(number, url, "title") for number, url in enumerate(urls)]
    one = find_own_backend(backends, seen, SECRET)
    assert (one.id if one else None) == found


def test_backend_of_another_host_is_left_alone() -> None:
    world = RefreshWorld(0)
    world.label_studio.backend_rows[1] = [
        Backend(7, "http://ann:pw@collector.example/path", "old", "fitloop")
    ]
    world.work(world.job())
    assert world.title == "old"
    problem = progress_of(world).problem
    assert "(at collector.example) has the address by which Label Studio called Fitloop" in problem
    assert "pw" not in problem


def test_unexpected_error_in_a_job_is_retried_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = RefreshWorld(1)
    world.label_studio.add_project(2)
    whole, text = world.label_studio.count_unlabelled, "the text of a task"

    def fail(project_id: int) -> int:
        if project_id == 1:
            raise ValueError(text)
        return whole(project_id)

    world.label_studio.count_unlabelled = fail  # type: ignore[method-assign]
    world.refresher.submit(world.job())
    world.work(replace(world.job(), project_id=2))
    assert world.label_studio.backend_rows[2][0].title == "support-1"
    assert "ValueError" in progress_of(world).problem
    assert "the text of a task" not in capsys.readouterr().out
    world.label_studio.count_unlabelled = whole  # type: ignore[method-assign]
    world.now += 1.0
    world.work(world.job())
    assert world.title == "support-1"


def progress_of(world: RefreshWorld) -> RefreshProgress:
    found = world.refresher.progress(1)
    assert found
    return found


def test_abandoned_job_is_not_logged_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    world = RefreshWorld(1)
    world.current = "support-2"
    world.work(world.job())
    assert "refreshed" not in capsys.readouterr().out
    world.current = "support-1"
    world.work(world.job())
    assert "refreshed" in capsys.readouterr().out


def test_title_only_job_lists_no_tasks() -> None:
    world = RefreshWorld(1)
    world.work(replace(world.job(), title_only=True))
    assert world.title == "support-1"
    assert "count" not in world.label_studio.reads


def test_unexpected_error_does_not_end_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    world = RefreshWorld(1)
    whole = world.label_studio.count_unlabelled
    errors = [ValueError("a bug")]

    def fail(project_id: int) -> int:
        if errors:
            raise errors.pop()
        world.refresher._stop.set()
        return whole(project_id)

    world.label_studio.count_unlabelled = fail  # type: ignore[method-assign]
    times = iter(range(1000))
    world.refresher._clock = lambda: START + 2.0 * next(times)
    monkeypatch.setattr("services.adapter.serving.refresh._IDLE_SECONDS", 0.01)
    world.refresher.submit(world.job())
    world.refresher._loop()
    assert world.title == "fitloop"


def test_refresher_without_the_lead_changes_nothing() -> None:
    world = RefreshWorld(3)
    leads = False

    def is_current(job: RefreshJob) -> bool:
        if not leads:
            raise NotLeading("Another adapter leads.")
        return job.version == world.current

    world.refresher._is_current = is_current
    world.work(world.job())
    assert (world.pushed, world.title) == ([], "fitloop")
    leads, world.now = True, world.now + 2.0
    assert world.refresher.run_due_job(world.now)
    assert (world.pushed, world.title) == (world.tasks, "support-1")


def test_predictions_are_not_pushed_after_losing_the_lead() -> None:
    world = RefreshWorld(3)
    scores = world.inference.scores

    async def flips(project_key: str, version: str, texts: Sequence[str]) -> Scores:
        world.current = "support-2"
        return await scores(project_key, version, texts)

    world.inference.scores = flips  # type: ignore[method-assign]
    world.work(world.job())
    assert world.pushed == []


def _restore_title(world: RefreshWorld, title: str) -> None:
    """Restore the title as Label Studio does, which saves the row that it read before it called /health and /setup."""
    world.label_studio.backend_rows[1] = [
        replace(one, title=title) for one in world.label_studio.backend_rows[1]
    ]


def test_restored_title_is_set_again_until_it_stays() -> None:
    world = RefreshWorld(3)
    world.work(world.job())
    for _ in range(2):
        _restore_title(world, "fitloop")
        assert not world.refresher.run_due_job(world.now), (
            "not at once: what read the old title is still under way"
        )
        world.now += RECHECK_SECONDS
        assert world.refresher.run_due_job(world.now)
        assert world.title == "support-1"
    world.now += RECHECK_SECONDS
    assert world.refresher.run_due_job(world.now)
    world.now += RECHECK_SECONDS
    assert not world.refresher.run_due_job(world.now), "it stayed: nobody asks any more"
    assert world.label_studio.reads.count("title") == 3


def test_title_of_a_replaced_version_is_not_set_again() -> None:
    world = RefreshWorld(3)
    world.work(world.job())
    world.current = "support-2"
    _restore_title(world, "fitloop")
    world.now += RECHECK_SECONDS
    assert world.refresher.run_due_job(world.now)
    assert world.title == "fitloop"
    world.now += RECHECK_SECONDS
    assert not world.refresher.run_due_job(world.now)


def test_title_check_is_retried_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    world = RefreshWorld(3)
    world.work(world.job())
    _restore_title(world, "fitloop")

    def away(_: int) -> list[Backend]:
        raise LabelStudioUnreachable("Label Studio does not answer.")

    with monkeypatch.context() as patch:
        patch.setattr(world.label_studio, "backends", away)
        world.now += RECHECK_SECONDS
        assert world.refresher.run_due_job(world.now)
    assert world.title == "fitloop"
    world.now += RECHECK_SECONDS
    assert world.refresher.run_due_job(world.now)
    assert world.title == "support-1"

"""What a model class's process answers, over the stand-in library and over the real one."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from services.core.errors import BadConfig, ModelClassError
from services.mlbackend.model_class import ModelClass
from services.mlbackend.process import WorkerProcess
from services.mlbackend.process_state import how_it_ended
from tests.support.model_classes import (
    API_KEY,
    CHOICES,
    RECTANGLES,
    SETTINGS,
    SPANS,
    model_class,
    python_path,
    start_training,
    tasks_of,
)
from tests.support.waiting import eventually


@pytest.fixture(params=["stand-in", "real"], autouse=True)
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", python_path(request.param))


def labels_of(answers: object) -> list[object]:
    """Return each task's choice."""
    return [
        found[0]["result"][0]["value"]["choices"][0] if found else None
        for found in answers.predictions  # type: ignore[attr-defined]
    ]


def test_state_of_set_is_in_the_folder(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with WorkerProcess(model_class("Keeper"), first, SETTINGS) as worker:
        assert worker.has_fit
        assert labels_of(worker.predict(tasks_of("a", "b"))) == ["sport", "sport"]
        found = worker.fit("START_TRAINING", start_training(), {"label": "politics"})
        assert found == {"metrics": {"accuracy": 0.5}, "event": "START_TRAINING", "project": 5}
        assert worker.predict(tasks_of("a")).predictions[0][0]["score"] == 0.75
    with WorkerProcess(model_class("Keeper"), first, SETTINGS) as worker:
        assert labels_of(worker.predict(tasks_of("a"))) == ["politics"]
    with WorkerProcess(model_class("Keeper"), second, SETTINGS) as worker:
        assert labels_of(worker.predict(tasks_of("a"))) == ["sport"]


def test_spans_that_do_not_fit_are_dropped_and_counted(tmp_path: Path) -> None:
    with WorkerProcess(model_class("Spans", SPANS), tmp_path, SETTINGS) as worker:
        assert not worker.has_fit
        answers = worker.predict(tasks_of("Ada wrote", "", "Rome"))
        again = worker.predict(tasks_of("", "Oslo"))
    first, second, third = answers.predictions
    assert [region["value"]["text"] for region in first[0]["result"]] == ["Ada"]
    assert (second, len(third)) == ((), 1)  # the class leaves tasks out, so it is asked for each
    assert answers.dropped == {"value": 2, "score": 2}
    assert "score" not in first[0]
    assert [len(found) for found in again.predictions] == [0, 1]


def test_rectangles(tmp_path: Path) -> None:
    with WorkerProcess(model_class("Rectangles", RECTANGLES), tmp_path, SETTINGS) as worker:
        answers = worker.predict([{"id": 1, "data": {"image": "http://host/a.png"}}])
    assert [region["value"]["x"] for region in answers.predictions[0][0]["result"]] == [10]
    assert answers.dropped == {"value": 1}


def test_context_is_passed_on(tmp_path: Path) -> None:
    context = {"result": [{"value": {"choices": ["politics"]}}]}
    with WorkerProcess(model_class("Interactive"), tmp_path, SETTINGS) as worker:
        assert worker.predict(tasks_of("a", "b")).predictions == ((), ())
        assert labels_of(worker.predict(tasks_of("a"), context)) == ["politics"]


def test_another_label_config_builds_the_class_anew(tmp_path: Path) -> None:
    other = CHOICES.replace("sport", "science")
    with WorkerProcess(model_class("Keeper"), tmp_path, SETTINGS) as worker:
        answers = worker.predict(tasks_of("a"), label_config=other)
        assert answers.predictions == ((),)
        assert answers.dropped == {"value": 1}
        worker.fit("START_TRAINING", start_training(), {"label": "science"})
        assert labels_of(worker.predict(tasks_of("a"), label_config=other)) == ["science"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "raises",
            r"own_models:Unruly failed in `predict`: KeyError: '\[hidden\]' \(own_models.py, line \d+\)\.",
        ),
        ("exits", r"own_models:Unruly failed in `predict`: SystemExit: 3 \(own_models.py, line \d+\)\."),
        ("answers_too_many", r".*predict returned 2 predictions for 1 tasks\."),
        ("answers_text", r".*TypeError: predict returned str instead of a list of predictions\."),
        ("answers_objects", r".*TypeError: an object of object is no JSON\."),
    ],
)
def test_bad_answers_have_one_sentence_and_the_worker_goes_on(
    tmp_path: Path, text: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with WorkerProcess(model_class("Unruly"), tmp_path, SETTINGS) as worker:
        with pytest.raises(ModelClassError, match=message) as raised:
            worker.predict(tasks_of(text))
        assert API_KEY not in str(raised.value)
        assert worker.predict(tasks_of("answers_none")).predictions == ((),)
    assert API_KEY not in capfd.readouterr().err


def test_a_killed_worker_is_said_to_be_killed(tmp_path: Path) -> None:
    with WorkerProcess(model_class("Unruly"), tmp_path, SETTINGS) as worker:
        with pytest.raises(ModelClassError, match=r"^The process of own_models:Unruly was ended by SIGKILL"):
            worker.predict(tasks_of("dies"))
        assert not worker.alive
        with pytest.raises(ModelClassError, match="was ended by SIGKILL"):
            worker.predict(tasks_of("answers_none"))


def test_a_hanging_predict_is_ended(tmp_path: Path) -> None:
    with WorkerProcess(model_class("Unruly"), tmp_path, SETTINGS) as worker:
        with pytest.raises(ModelClassError, match=r"did not answer within 0\.5 s; its process was ended\.$"):
            worker.predict(tasks_of("hangs"), seconds=0.5)
        assert not worker.alive


def test_a_leaking_predict_is_ended(tmp_path: Path) -> None:
    settings = replace(SETTINGS, memory_mb=700)
    with WorkerProcess(model_class("Unruly"), tmp_path, settings) as worker:
        with pytest.raises(ModelClassError, match="more than the limit of 700 MB; its process was ended"):
            worker.predict(tasks_of("leaks"))
        assert not worker.alive


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            model_class("Model", module="no_such_module"),
            r"cannot be imported: ModuleNotFoundError: .*no_such_module",
        ),
        (
            model_class("Model", module="broken_import"),
            r"No module named 'no_such_library_anywhere' \(broken_import",
        ),
        (model_class("NoSuchClass"), r"cannot be imported: AttributeError: .*NoSuchClass"),
        (model_class("not_a_class"), r"cannot be imported: TypeError: not_a_class is no class"),
        (
            model_class("BrokenSetup"),
            r"\(`setup`\): ValueError: there is no model file \(own_models.py, line",
        ),
    ],
)
def test_a_class_that_cannot_be_built(tmp_path: Path, spec: ModelClass, message: str) -> None:
    worker = WorkerProcess(spec, tmp_path, SETTINGS)
    with pytest.raises(ModelClassError, match=message):
        worker.start()
    assert not worker.alive


def test_a_setup_that_never_ends(tmp_path: Path) -> None:
    worker = WorkerProcess(model_class("SlowSetup"), tmp_path, replace(SETTINGS, start_seconds=1))
    with pytest.raises(ModelClassError, match="was not ready within 1 s"):
        worker.start()
    assert not worker.alive


def test_a_fit_that_fails(tmp_path: Path) -> None:
    with (
        WorkerProcess(model_class("BrokenFit"), tmp_path, SETTINGS) as worker,
        pytest.raises(ModelClassError, match="failed in `fit`: KeyError: 'no such key'"),
    ):
        worker.fit("START_TRAINING", start_training())


def test_a_fit_ends_with_what_its_caller_raises(tmp_path: Path) -> None:
    calls = []

    def on_wait() -> None:
        calls.append(1)
        if len(calls) > 2:
            raise InterruptedError

    with WorkerProcess(model_class("SlowFit"), tmp_path, SETTINGS) as worker:
        with pytest.raises(InterruptedError):
            worker.fit("START_TRAINING", start_training(), on_wait=on_wait)
        assert not worker.alive


def test_the_environment_is_an_allow_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("MY_MODEL", "small")
    monkeypatch.setenv("OTHER", "1")
    settings = replace(SETTINGS, variables=("MY_*", "AWS_*"))
    config = '<View><Text name="b" value="$t"/><Choices name="a" toName="b" value="$labels"/></View>'
    with WorkerProcess(model_class("Unruly", config), tmp_path, settings) as worker:
        names = worker.predict(tasks_of("tells_environment")).predictions[0][0]["result"][0]["value"][
            "choices"
        ]
    assert {"MODEL_DIR", "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "MY_MODEL", "OMP_NUM_THREADS"} <= set(
        names
    )
    assert not {"AWS_SECRET_ACCESS_KEY", "KUBERNETES_SERVICE_HOST", "OTHER"} & set(names)


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    folder = tmp_path / "version"
    folder.mkdir()
    worker = WorkerProcess(model_class("Unruly"), folder, SETTINGS, is_temporary=True)
    worker.start()
    popen, scratch = worker._popen, worker._scratch
    assert scratch is not None
    assert popen is not None
    assert popen.stdin is not None
    popen.stdin.close()  # as the kernel does when the parent dies, whatever the class does meanwhile
    assert popen.wait(60) == -signal.SIGKILL
    assert not folder.exists()
    assert not scratch.exists()
    assert how_it_ended(-signal.SIGKILL).startswith("was ended by SIGKILL")
    worker.close()
    eventually(lambda: not Path(f"/proc/{popen.pid}").exists())


def test_a_name_that_is_no_class() -> None:
    with pytest.raises(BadConfig, match=r"'own_models' names no class: write package\.module:Class"):
        ModelClass("own_models", 5, CHOICES)

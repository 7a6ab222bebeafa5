"""What a version would have suggested is read from its run's predictions, or asked of a predictor that has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.adapter.serving.answers import ModelAnswers
from services.core.domain import Served
from services.core.errors import Overloaded
from services.core.labels import parse_labels
from services.core.registry import Registry
from services.core.store.files import FileStore
from tests.adapter.serving.test_stored import predictions_of, tasks_of
from tests.support.fakes import LABELS, SPACE, FakeInference
from tests.support.manifests import build_manifest

KEY = "5-1"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two versions, of which the first has predictions for two tasks."""
    found = Registry(FileStore(tmp_path / "bucket"))
    for name in ("v-1", "v-2"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "v-1":
            predictions_of({7: "seven", 3: "three"}).write(folder)
        found.publish(folder, build_manifest(name, KEY, LABELS))
    return found


def answers(registry: Registry, inference: FakeInference, current: str = "v-2") -> ModelAnswers:
    return ModelAnswers(registry, inference, lambda _: Served(current=current))


def test_stored_answers_need_no_predictor(registry: Registry) -> None:
    inference = FakeInference()
    found = answers(registry, inference)(KEY, SPACE, "v-1", tasks_of({3: "three", 7: "seven"}))
    assert {task: parse_labels(SPACE, one["result"]) for task, one in found.items()} == {
        3: ("Positive",),
        7: ("Positive",),
    }
    assert inference.asked == []


@pytest.mark.parametrize(("version", "known"), [("v-1", {3}), ("v-2", {3, 9})])
def test_only_a_served_version_is_asked(registry: Registry, version: str, known: set[int]) -> None:
    inference = FakeInference(row=(0.1, 0.2, 0.7))
    found = answers(registry, inference)(KEY, SPACE, version, tasks_of({3: "three", 9: "nine"}))
    assert set(found) == known
    if version == "v-2":
        assert inference.asked == [(KEY, "v-2", ("three", "nine"))]
        assert parse_labels(SPACE, found[9]["result"]) == ("Neutral",)
        assert found[9]["result"][0]["score"] == pytest.approx(0.7)


def test_edited_text_is_asked_anew(registry: Registry) -> None:
    inference = FakeInference(row=(0.1, 0.2, 0.7))
    found = answers(registry, inference, "v-1")(KEY, SPACE, "v-1", tasks_of({3: "another"}))
    assert parse_labels(SPACE, found[3]["result"]) == ("Neutral",)


def test_errors_leave_annotations_without_an_answer(registry: Registry) -> None:
    inference = FakeInference(error=Overloaded("busy"))
    assert answers(registry, inference)(KEY, SPACE, "v-2", tasks_of({3: "three"})) == {}
    assert answers(registry, inference, "gone")(KEY, SPACE, "gone", tasks_of({3: "three"})) == {}


def test_manifest_of_an_asked_version_is_read_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the one that each look for stored answers reads."""
    read, keys = FileStore.read, list[str]()

    def count(store: FileStore, key: str) -> bytes:
        keys.append(key)
        return read(store, key)

    monkeypatch.setattr(FileStore, "read", count)
    asked = answers(registry, FakeInference(row=(0.1, 0.2, 0.7)))
    for number in range(3):
        assert set(asked(KEY, SPACE, "v-2", tasks_of({number: str(number)}))) == {number}
    assert sum(key.endswith("v-2/manifest.json") for key in keys) == 3 + 1

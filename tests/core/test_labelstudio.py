"""core.labelstudio: what it asks Label Studio for, and which sentence each failure becomes.

The wire is faked with respx at httpx's own level; tests/e2e speaks to a real Label Studio.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import respx

from services.core.errors import LabelStudioError, LabelStudioUnreachable, TokenRefused
from services.core.labelstudio import Backend, LabelStudio, Missing
from services.core.settings import LabelStudioSettings

URL = "http://studio.example"
ROW = {
    "title": "Support",
    "label_config": "<View/>",
    "created_at": "2026-11-25T02:23:54.959744Z",
    "num_tasks_with_annotations": 4,
    "total_annotations_number": 5,
    "skipped_annotations_number": 1,
}


def _client(key: str = "0" * 40, page_size: int = 2) -> LabelStudio:
    return LabelStudio(
        LabelStudioSettings(
            LABEL_STUDIO_URL=URL, LABEL_STUDIO_API_KEY=key, FITLOOP_LABEL_STUDIO_PAGE_SIZE=page_size
        )
    )


@pytest.fixture
def studio() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=URL, assert_all_called=False) as router:
        yield router


def _page(*ids: int) -> httpx.Response:
    return httpx.Response(
        200, json={"tasks": [{"id": one, "updated_at": "2026-11-25T00:00:00Z"} for one in ids]}
    )


def test_a_projects_key_is_its_id_and_creation_time(studio: respx.MockRouter) -> None:
    studio.get("/api/projects/1/").respond(json=ROW)
    studio.get("/api/tasks/").mock(return_value=_page(7))
    project, counts = _client().project(1)
    assert project.key == "1-1795573434"
    assert (counts.annotated_tasks, counts.annotations, counts.skipped) == (4, 5, 1)
    assert counts.newest_change == "2026-11-25T00:00:00Z"


def test_a_project_without_tasks_has_no_newest_change(studio: respx.MockRouter) -> None:
    studio.get("/api/projects/1/").respond(json=ROW)
    studio.get("/api/tasks/").mock(return_value=_page())
    assert _client().project(1)[1].newest_change == ""


def test_tasks_come_page_by_page_until_one_is_short_or_missing(studio: respx.MockRouter) -> None:
    route = studio.get("/api/tasks/").mock(side_effect=[_page(1, 2), _page(3, 4), httpx.Response(404)])
    assert [row["id"] for row in _client().annotated_tasks(1)] == [1, 2, 3, 4]
    item = json.loads(route.calls[0].request.url.params["query"])["filters"]["items"][0]
    assert item["filter"] == "filter:tasks:total_annotations"


def test_tasks_since_a_change_are_asked_by_their_time(studio: respx.MockRouter) -> None:
    route = studio.get("/api/tasks/").mock(return_value=_page(1))
    assert len(list(_client().annotated_tasks(1, since="2026-11-25T00:00:00.5Z"))) == 1
    item = json.loads(route.calls[0].request.url.params["query"])["filters"]["items"][0]
    assert (item["filter"], item["value"]) == ("filter:tasks:updated_at", "2026-11-25T00:00:00.5Z")


def test_unlabelled_and_predicted_tasks(studio: respx.MockRouter) -> None:
    rows = [{"id": 1, "predictions": [{"model_version": "v-1"}]}, {"id": 2, "predictions": []}]
    studio.get("/api/tasks/").respond(json={"tasks": rows})
    client = _client(page_size=9)
    assert [row["id"] for row in client.unlabelled_tasks(1)] == [1, 2]
    assert client.predicted_tasks(1, "v-1") == {1}


def test_predictions_are_pushed_in_parts(studio: respx.MockRouter) -> None:
    route = studio.post("/api/projects/1/import/predictions").respond(201, json={"created": 1})
    _client().push_predictions(1, [{"task": number} for number in range(501)])
    assert [len(json.loads(call.request.content)) for call in route.calls] == [500, 1]


def test_a_backend_is_renamed_with_what_label_studio_wants_to_hear_again(studio: respx.MockRouter) -> None:
    studio.get("/api/ml/").respond(
        json=[{"id": 3, "url": "http://f:9090", "title": "t", "basic_auth_user": "u"}]
    )
    route = studio.patch("/api/ml/3").respond(json={})
    backend = _client().backends(1)[0]
    assert backend == Backend(3, "http://f:9090", "t", "u")
    _client().set_backend_title(1, backend, "v-2", {"basic_auth_pass": "p"})
    assert json.loads(route.calls[0].request.content) == {
        "title": "v-2",
        "url": "http://f:9090",
        "project": 1,
        "basic_auth_pass": "p",
    }


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (httpx.Response(401), TokenRefused, "refused LABEL_STUDIO_API_KEY"),
        (httpx.Response(403), TokenRefused, "may see the project"),
        (httpx.Response(404), Missing, "has no"),
        (httpx.Response(400), LabelStudioError, "answered 400"),
        (httpx.Response(501), LabelStudioUnreachable, "answered 501"),
        (httpx.Response(200, text="<html>"), LabelStudioError, "without JSON"),
        (httpx.ConnectError("no"), LabelStudioUnreachable, "does not answer"),
        (httpx.ReadTimeout("slow"), LabelStudioUnreachable, "does not answer"),
    ],
)
def test_each_failure_has_its_sentence(
    studio: respx.MockRouter, answer: Any, error: type[Exception], words: str
) -> None:
    route = studio.get("/api/ml/")
    route.side_effect = answer if isinstance(answer, Exception) else [answer] * 9
    with pytest.raises(error, match=words):
        _client().backends(1)


def test_no_token_is_said_before_anything_is_asked() -> None:
    with pytest.raises(TokenRefused, match="LABEL_STUDIO_API_KEY is not set"):
        _client(key="").backends(1)


def test_an_expired_token_is_said() -> None:
    expired = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjF9.c2ln"
    with pytest.raises(TokenRefused, match="expired"):
        _client(key=expired).backends(1)

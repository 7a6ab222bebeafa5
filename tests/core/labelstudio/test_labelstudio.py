"""core.labelstudio: what it asks Label Studio for, and which sentence each failure becomes.

The wire is faked with respx at httpx's own level; tests/e2e speaks to a real Label Studio.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
import respx

from services.core.errors import (
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioRejected,
    LabelStudioUnreachable,
    TokenRefused,
)
from services.core.labelstudio import Backend, LabelStudio
from services.core.settings import LabelStudioSettings

URL = "http://studio.example"
ROW = {
    "title": "Support",
    "label_config": "<View/>",
    "created_at": "2026-11-25T02:23:54.959744Z",
    "num_tasks_with_annotations": 4,
    "total_annotations_number": 5,
    "skipped_annotations_number": 1,
    "task_number": 9,
}


def _client(key: str = "0" * 40, page_size: int = 2) -> LabelStudio:
    return LabelStudio(LabelStudioSettings(url=URL, api_key=key, page_size=page_size))


@pytest.fixture
def studio() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=URL, assert_all_called=False) as router:
        yield router


def _page(*ids: int, total: int | None = None) -> httpx.Response:
    rows = [{"id": one, "updated_at": "2026-11-25T00:00:00Z"} for one in ids]
    return httpx.Response(200, json={"tasks": rows, "total": len(ids) if total is None else total})


def _items(request: httpx.Request) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(request.url.params["query"])["filters"]["items"]
    return found


class _Tasks:
    """Label Studio's `/api/tasks/` over a set of unlabelled tasks, which somebody may change between two pages."""

    def __init__(self, ids: range, between: Callable[[set[int]], None]) -> None:
        self.ids = set(ids)
        self.between = between

    def __call__(self, request: httpx.Request) -> httpx.Response:
        after = max([item["value"] for item in _items(request) if item["filter"].endswith(":id")], default=0)
        rest = sorted(one for one in self.ids if one > after)
        number, size = (int(request.url.params[name]) for name in ("page", "page_size"))
        page = rest[(number - 1) * size : number * size]
        self.between(self.ids)
        return _page(*page, total=len(rest))


OWN_404 = {
    "id": "x",
    "status_code": 404,
    "version": "1.23.2",
    "detail": "No Project matches the given query.",
}


def test_a_projects_key_is_its_id_and_creation_time(studio: respx.MockRouter) -> None:
    studio.get("/api/projects/1/").respond(json=ROW)
    studio.get("/api/tasks/").mock(return_value=_page(7))
    project, counts = _client().project(1)
    assert project.key == "1-1795573434"
    assert (counts.annotated_tasks, counts.annotations, counts.skipped, counts.tasks) == (4, 5, 1, 9)
    assert counts.newest_change == "2026-11-25T00:00:00Z"


def test_newest_is_one_request_for_one_row(studio: respx.MockRouter) -> None:
    row = {"id": 7, "updated_at": "2026-01-01T00:00:00Z"}
    answer = {"tasks": [row], "total": 9, "total_annotations": 4, "total_predictions": 2}
    route = studio.get("/api/tasks/").respond(json=answer)
    assert _client().newest(5) == (9, 4, "2026-01-01T00:00:00Z")
    (call,) = route.calls
    assert call.request.url.params["page_size"] == "1"
    assert json.loads(call.request.url.params["query"])["ordering"] == ["-tasks:updated_at"]


def test_nothing_is_newest_without_tasks(studio: respx.MockRouter) -> None:
    studio.get("/api/tasks/").respond(json={"tasks": [], "total": 0, "total_annotations": 0})
    assert _client().newest(5) == (0, 0, "")


def test_a_project_without_tasks_has_no_newest_change(studio: respx.MockRouter) -> None:
    studio.get("/api/projects/1/").respond(json=ROW)
    studio.get("/api/tasks/").mock(return_value=_page())
    assert _client().project(1)[1].newest_change == ""


def test_tasks_come_page_by_page_from_the_last_id_on(studio: respx.MockRouter) -> None:
    route = studio.get("/api/tasks/").mock(side_effect=_Tasks(range(1, 6), lambda _: None))
    assert [row["id"] for row in _client().annotated_tasks(1)] == [1, 2, 3, 4, 5]
    items = [_items(call.request) for call in route.calls]
    assert [item[0]["filter"] for item in items] == ["filter:tasks:total_annotations"] * 3
    assert [item[1:] for item in items] == [
        [],
        [{"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": 2}],
        [{"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": 4}],
    ]


def test_tasks_are_found_without_label_studios_counters(studio: respx.MockRouter) -> None:
    route = studio.get("/api/tasks/").mock(return_value=_page(1))
    assert [row["id"] for row in _client().annotated_tasks(1, trust_counters=False)] == [1]
    (item,) = _items(route.calls[0].request)
    assert (item["filter"], item["operator"], item["value"]) == (
        "filter:tasks:annotations_ids",
        "empty",
        "false",
    )


def test_no_task_is_passed_over_while_others_leave_the_filter(studio: respx.MockRouter) -> None:
    def label_the_first(unlabelled: set[int]) -> None:
        unlabelled.discard(min(unlabelled))

    tasks = _Tasks(range(1, 11), label_the_first)
    studio.get("/api/tasks/").mock(side_effect=tasks)
    found = {row["id"] for row in _client(page_size=3).annotated_tasks(1)}
    assert tasks.ids <= found


def test_a_shortened_page_is_not_the_last(studio: respx.MockRouter) -> None:
    studio.get("/api/tasks/").mock(side_effect=[_page(1, 2, total=3), _page(3, total=1)])
    assert [row["id"] for row in _client(page_size=100).annotated_tasks(1)] == [1, 2, 3]


def test_a_404_in_the_middle_is_an_error_and_no_end(studio: respx.MockRouter) -> None:
    studio.get("/api/tasks/").mock(side_effect=[_page(1, 2, total=4), httpx.Response(404, json=OWN_404)])
    with pytest.raises(LabelStudioNotFound):
        list(_client().annotated_tasks(1))


def test_tasks_since_a_change_are_asked_by_their_time(studio: respx.MockRouter) -> None:
    route = studio.get("/api/tasks/").mock(return_value=_page(1))
    assert len(list(_client().annotated_tasks(1, since="2026-11-25T00:00:00.5Z"))) == 1
    item = json.loads(route.calls[0].request.url.params["query"])["filters"]["items"][0]
    assert (item["filter"], item["value"]) == ("filter:tasks:updated_at", "2026-11-25T00:00:00.5Z")


def test_suggested_tasks_take_one_request(studio: respx.MockRouter) -> None:
    rows = [{"id": 1, "annotations": [], "predictions": [{"model_version": "v-1"}]}]
    route = studio.get("/api/tasks/").respond(json={"tasks": rows, "total": 900})
    assert _client(page_size=9).suggested_tasks(1, 200) == rows
    asked = route.calls[0].request.url.params
    assert (asked["page_size"], asked["fields"]) == ("200", "all")
    assert json.loads(asked["query"])["ordering"] == ["-tasks:updated_at"]
    assert {"annotations", "predictions", "created_at", "parent_prediction"} <= set(
        asked["include"].split(",")
    )


def test_predictions_are_pushed_in_parts(studio: respx.MockRouter) -> None:
    route = studio.post("/api/projects/1/import/predictions")
    route.side_effect = [httpx.Response(201, json={"created": created}) for created in (499, 1)]
    assert _client().push_predictions(1, [{"task": number} for number in range(501)]) == 500
    assert [len(json.loads(call.request.content)) for call in route.calls] == [500, 1]


def test_an_import_without_a_count_is_an_error(
    studio: respx.MockRouter,
) -> None:
    studio.post("/api/projects/1/import/predictions").respond(201, json={})
    with pytest.raises(LabelStudioError, match="what it stored in project 1"):
        _client().push_predictions(1, [{"task": 1}])


def test_one_prediction_is_pushed_with_its_project(studio: respx.MockRouter) -> None:
    route = studio.post("/api/predictions/").respond(201, json={"id": 1})
    _client().push_prediction(4, {"task": 7, "result": []})
    assert json.loads(route.calls[0].request.content) == {"task": 7, "result": [], "project": 4}


def test_tasks_with_a_version_are_found(studio: respx.MockRouter) -> None:
    rows = [
        {"id": 3, "predictions": [{"model_version": "v-1"}]},
        {"id": 4, "predictions": [{"model_version": "v-1"}]},
        {"id": 5, "predictions": [{"model_version": "v-0"}]},
    ]
    route = studio.get("/api/tasks/").respond(json={"tasks": rows[::2], "total": 2})
    assert _client().have_prediction(1, "v-1", [5, 3, 9]) == {3: True, 5: False}
    assert _items(route.calls[0].request)[0]["value"] == [5, 3, 9]


@pytest.mark.parametrize(("method", "user"), [("BASIC_AUTH", "u"), ("NONE", ""), (None, "")])
def test_a_backend_that_no_longer_logs_in_has_no_user(
    studio: respx.MockRouter, method: str | None, user: str
) -> None:
    row = {"id": 3, "url": "http://f:9090", "title": "t", "auth_method": method, "basic_auth_user": "u"}
    studio.get("/api/ml/").respond(json=[row])
    assert _client().backends(1)[0].basic_auth_user == user


def test_a_rename_repeats_url_project_and_login(studio: respx.MockRouter) -> None:
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
        (httpx.Response(404, json=OWN_404), LabelStudioNotFound, "has no"),
        (httpx.Response(400), LabelStudioRejected, "answered 400"),
        (httpx.Response(409), LabelStudioError, "answered 409"),
        (httpx.Response(501), LabelStudioUnreachable, "answered 501"),
        (httpx.Response(200, text="<html>"), LabelStudioError, "without JSON"),
        (httpx.ConnectError("no"), LabelStudioUnreachable, "does not answer"),
        (httpx.ReadTimeout("slow"), LabelStudioUnreachable, "does not answer"),
    ],
)
def test_each_failure_has_its_message(
    studio: respx.MockRouter, answer: Any, error: type[Exception], words: str
) -> None:
    route = studio.get("/api/ml/")
    route.side_effect = answer if isinstance(answer, Exception) else [answer] * 9
    with pytest.raises(error, match=words):
        _client().backends(1)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(404, text="<h1>default backend - 404</h1>"),
        httpx.Response(404, json={"message": "no Route matched"}),
        httpx.Response(404, json=["nothing"]),
    ],
)
def test_a_404_of_a_proxy_does_not_mean_not_found(studio: respx.MockRouter, answer: httpx.Response) -> None:
    studio.get("/api/projects/1/").mock(return_value=answer)
    with pytest.raises(LabelStudioError, match="answered 404") as raised:
        _client().project(1)
    assert not isinstance(raised.value, LabelStudioNotFound)


@pytest.mark.parametrize(
    "failure",
    [httpx.Response(504, headers={"Retry-After": "60"}), httpx.Response(429), httpx.ConnectError("no")],
)
def test_no_request_is_retried(studio: respx.MockRouter, failure: Any) -> None:
    route = studio.post("/api/projects/1/import/predictions")
    route.side_effect = failure if isinstance(failure, Exception) else [failure] * 9
    with pytest.raises(LabelStudioError):
        _client().push_predictions(1, [{"task": 1}])
    assert route.call_count == 1


@pytest.mark.parametrize("row", [None, [], "text", {}, {"created_at": None}, {**ROW, "task_number": "many"}])
def test_a_project_of_another_shape_is_label_studios_error(studio: respx.MockRouter, row: Any) -> None:
    studio.get("/api/projects/1/").respond(json=row)
    studio.get("/api/tasks/").mock(return_value=_page())
    with pytest.raises(LabelStudioError, match="is it a Label Studio"):
        _client().project(1)


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {"tasks": None, "total": 0},
        {"tasks": [3], "total": 1},
        {"tasks": [{"data": {}}], "total": 1},
        {"tasks": [{"id": 1, "annotations": [7]}], "total": 1},
        {"tasks": [{"id": 1, "annotations": 7}], "total": 1},
        {"tasks": []},
    ],
)
def test_tasks_of_another_shape_are_label_studios_error(studio: respx.MockRouter, answer: Any) -> None:
    studio.get("/api/tasks/").respond(json=answer)
    with pytest.raises(LabelStudioError, match="the tasks of project 1"):
        list(_client().annotated_tasks(1))


def test_backends_of_another_shape_are_label_studios_error(studio: respx.MockRouter) -> None:
    studio.get("/api/ml/").respond(json={"results": []})
    with pytest.raises(LabelStudioError, match="the ML backends of project 1"):
        _client().backends(1)


@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")  # the SDK's own
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(401, json={"detail": "revoked"}), TokenRefused),
        (httpx.Response(502, json={}), LabelStudioUnreachable),
        (httpx.Response(502, text="<html>"), LabelStudioUnreachable),
        (httpx.Response(200, json={"odd": 1}), LabelStudioUnreachable),
    ],
)
def test_only_label_studio_itself_refuses_a_token(
    studio: respx.MockRouter, answer: httpx.Response, error: type[Exception]
) -> None:
    studio.post("/api/token/refresh/").mock(return_value=answer)
    personal = jwt.encode({"exp": 4_000_000_000, "token_type": "refresh"}, "k" * 32)
    with pytest.raises(error):
        _client(key=personal).backends(1)


def test_a_missing_token_fails_before_any_request() -> None:
    with pytest.raises(TokenRefused, match="LABEL_STUDIO_API_KEY is not set"):
        _client(key="").backends(1)


def test_an_expired_token_is_reported() -> None:
    expired = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjF9.c2ln"
    with pytest.raises(TokenRefused, match="expired"):
        _client(key=expired).backends(1)


def test_a_host_that_drops_packets_times_out_soon(studio: respx.MockRouter) -> None:
    route = studio.get("/api/ml/").respond(json=[])
    _client().backends(1)
    timeouts = route.calls.last.request.extensions["timeout"]
    assert (timeouts["connect"], timeouts["read"]) == (5.0, 30.0)

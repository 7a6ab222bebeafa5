"""A Label Studio that is simulated in a process of its own: any number of projects with labelled tasks, made as they are asked for.

`/bench/set` chooses how it answers: `healthy`, `slow`, `hanging`, `failing` (500) or `html`; single projects may hang.
"""

from __future__ import annotations

import asyncio
import json
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from bench.scale.asgi import Receive, Scope, Send, answer, answer_json, hang, read_body, serve
from bench.scale.content import LABELS, TITLE, URL, config, created_at, key_of, labelled_at, task_id

_TASKS = 20_000
"""Tasks of each project, labelled or not."""
_SLOW_SECONDS = 5.0
_TEXT = (
    "I have been waiting for my card for over a week now, and the app still says that it is on its way to me"
)
_PAGE = b"<!doctype html><title>Sign in</title><form></form>"


@dataclass
class Studio:
    """All projects, and a record of requests."""

    mode: str = "healthy"
    seconds: float = 0.1
    hanging: set[int] = field(default_factory=set)
    projects: int = 0
    labels: int = 0
    more: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    """Tasks that were labelled meanwhile, by project: number and time."""
    titles: dict[int, str] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0

    def label(self, project_id: int, count: int) -> None:
        """Label so many more tasks."""
        more = self.more.setdefault(project_id, [])
        stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        more.extend([(self.labels + len(more) + number, stamp) for number in range(count)])

    def tasks(self, project_id: int) -> list[tuple[int, str]]:
        """Number and time of the labelled tasks made meanwhile; the others follow from their number."""
        return self.more.get(project_id, [])

    def project(self, project_id: int) -> dict[str, Any]:
        labelled = self.labels + len(self.tasks(project_id))
        return {
            "id": project_id,
            "title": TITLE,
            "label_config": config(),
            "created_at": created_at(project_id),
            "num_tasks_with_annotations": labelled,
            "total_annotations_number": labelled,
            "skipped_annotations_number": 0,
            "task_number": _TASKS,
        }

    def page(self, project_id: int, query: dict[str, Any], size: int, include: str) -> bytes:
        """Return one page of tasks, by the filters and the order that Fitloop's client uses."""
        items = {one["filter"].rpartition(":")[2]: one for one in query["filters"]["items"]}
        found = [*range(self.labels), *(number for number, _ in self.tasks(project_id))]
        if "total_predictions" in items or items.get("total_annotations", {}).get("operator") == "equal":
            found = []
        if since := items.get("updated_at"):
            stamps = self._stamps(project_id)
            found = found[bisect_left(stamps, since["value"]) :]
        if (low := items.get("id")) and low["operator"] == "greater":
            found = found[bisect_left(found, low["value"] - task_id(project_id, 0) + 1) :]
        elif low:
            first, last = (low["value"][end] - task_id(project_id, 0) for end in ("min", "max"))
            found = [number for number in found if first <= number <= last]
        total = len(found)
        newest_first = str(query.get("ordering", [""])[0]).startswith("-")
        chosen = found[::-1][:size] if newest_first else found[:size]
        rows = ",".join(
            [self._row(project_id, number, "data" in include, "annotations" in include) for number in chosen]
        )
        return (
            f'{{"tasks":[{rows}],"total":{total},"total_annotations":{total},"total_predictions":0}}'.encode()
        )

    def _stamps(self, project_id: int) -> list[str]:
        return [labelled_at(number) for number in range(self.labels)] + [
            at for _, at in self.tasks(project_id)
        ]

    def _stamp(self, project_id: int, number: int) -> str:
        return (
            labelled_at(number) if number < self.labels else self.tasks(project_id)[number - self.labels][1]
        )

    def _row(self, project_id: int, number: int, data: bool, annotations: bool) -> str:
        task, stamp = task_id(project_id, number), self._stamp(project_id, number)
        text = f',"data":{{"text":"{_TEXT} ({task})"}}' if data else ""
        if not annotations:
            return f'{{"id":{task}{text},"updated_at":"{stamp}"}}'
        return (
            f'{{"id":{task}{text},"created_at":"{stamp}","updated_at":"{stamp}","annotations":[{{"id":{task},"result":[{{'
            f'"from_name":"intent","to_name":"text","type":"choices","value":{{"choices":["{LABELS[number % len(LABELS)]}"]}}}}],'
            f'"was_cancelled":false,"ground_truth":false,"completed_by":{number % 7},"created_at":"{stamp}","updated_at":"{stamp}"}}]}}'
        )


STUDIO = Studio()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(receive)
    path, query = scope["path"], parse_qs(scope["query_string"].decode())
    if path.startswith("/bench/"):
        await answer_json(send, _control(path.removeprefix("/bench/"), json.loads(body or b"{}")))
        return
    project_id = _project_id(path, query)
    STUDIO.requests[_route(scope["method"], path)] += 1
    STUDIO.at_once += 1
    STUDIO.most_at_once = max(STUDIO.most_at_once, STUDIO.at_once)
    try:
        if STUDIO.mode == "hanging" or project_id in STUDIO.hanging:
            await hang(receive)
            return
        await asyncio.sleep(_SLOW_SECONDS if STUDIO.mode == "slow" else STUDIO.seconds)
        if STUDIO.mode == "failing":
            await answer_json(send, {"detail": "broken"}, 500)
        elif STUDIO.mode == "html":
            await answer(send, 200, _PAGE, "text/html")
        else:
            await _respond(send, scope["method"], path, query, body, project_id)
    finally:
        STUDIO.at_once -= 1


async def _respond(
    send: Send, method: str, path: str, query: dict[str, list[str]], body: bytes, project_id: int
) -> None:
    if path == "/api/tasks/":
        size, include = int(query["page_size"][0]), query.get("include", [""])[0].split(",")
        await answer(
            send, 200, STUDIO.page(project_id, json.loads(query["query"][0]), size, ",".join(include))
        )
    elif path == "/api/ml/":
        row = {
            "id": project_id,
            "url": URL,
            "title": STUDIO.titles.get(project_id, ""),
            "auth_method": "NONE",
        }
        await answer_json(send, [row])
    elif path.startswith("/api/ml/"):
        STUDIO.titles[int(path.split("/")[3])] = json.loads(body)["title"]
        await answer_json(send, {})
    elif path.endswith("/import/predictions"):
        await answer_json(send, {"created": len(json.loads(body))}, 201)
    elif method == "DELETE":
        await answer_json(send, {"deleted_predictions": 0})
    elif method == "GET" and path == f"/api/projects/{project_id}/" and 0 < project_id <= STUDIO.projects:
        await answer_json(send, STUDIO.project(project_id))
    else:
        await answer_json(send, {"status_code": 404, "detail": f"{method} {path}"}, 404)


def _control(name: str, given: dict[str, Any]) -> object:
    if name == "set":
        for field_name, value in given.items():
            setattr(STUDIO, field_name, set(value) if field_name == "hanging" else value)
    elif name == "label":
        for project_id in given["projects"]:
            STUDIO.label(project_id, given["count"])
    elif name == "requests":
        most, STUDIO.most_at_once = STUDIO.most_at_once, STUDIO.at_once
        return {"requests": STUDIO.requests, "most_at_once": most, "at": time.time()}
    return {}


def _project_id(path: str, query: dict[str, list[str]]) -> int:
    parts = path.split("/")
    if path.startswith("/api/projects/") and len(parts) > 3 and parts[3].isdigit():
        return int(parts[3])
    return int(query.get("project", ["0"])[0])


def _route(method: str, path: str) -> str:
    return f"{method} {'/'.join('*' if part.isdigit() else part for part in path.split('/'))}"


assert key_of(1)  # the keys follow from `created_at`

if __name__ == "__main__":
    serve(app)

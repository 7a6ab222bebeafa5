"""The calls of Label Studio's API that annotators and project owners cause: projects, tasks, labels, suggestions, backends."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self
from xml.sax.saxutils import quoteattr

import httpx

from demo.processes import DemoError

_IMPORTS: Final = 5


def label_config(labels: Sequence[str]) -> str:
    """Return a label config with one question about one text."""
    choices = "".join(f"<Choice value={quoteattr(label)}/>" for label in labels)
    return (
        f'<View><Text name="text" value="$text"/><Choices name="intent" toName="text" choice="single">{choices}'
        "</Choices></View>"
    )


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A stored prediction of one task."""

    version: str
    label: str
    score: float


@dataclass
class Annotator:
    """A user of one Label Studio."""

    url: str
    token: str
    scheme: str = "Token"

    def __post_init__(self) -> None:
        """Open a client for all requests. The timeout is long because sqlite may make writers wait."""
        self.client = httpx.Client(
            base_url=self.url, headers={"Authorization": f"{self.scheme} {self.token}"}, timeout=120
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Send a request and return its JSON. Raises DemoError with Label Studio's answer."""
        response = self.client.request(method, path, **options)
        if response.is_error:
            raise DemoError(
                f"Label Studio answered {response.status_code} to {method} {path}: {response.text[:500]}"
            )
        return response.json() if response.content else None

    def create_project(self, title: str, config: str, **settings: Any) -> int:
        """Create a project and return its id."""
        return int(
            self.call("POST", "/api/projects/", json={"title": title, "label_config": config, **settings})[
                "id"
            ]
        )

    def import_texts(self, project: int, texts: Sequence[str], field: str = "text") -> list[int]:
        """Import texts and return the ids of their tasks, in the same order."""
        body = [{field: text} for text in texts]
        path = f"/api/projects/{project}/import?return_task_ids=true"
        return [int(task) for task in self.call("POST", path, json=body)["task_ids"]]

    def import_labelled(self, project: int, tasks: Sequence[dict[str, Any]]) -> None:
        """Import annotated tasks into an empty project, again if their annotations got lost (decision 62). Raises DemoError."""
        sent = sum(len(task["annotations"]) for task in tasks)
        for _ in range(_IMPORTS):
            answer = self.call("POST", f"/api/projects/{project}/import", json=tasks)
            if answer["annotation_count"] == sent:
                return
            everything = {"selectedItems": {"all": True, "excluded": []}}
            self.call("POST", f"/api/dm/actions?id=delete_tasks&project={project}", json=everything)
        raise DemoError(f"Label Studio lost annotations of {_IMPORTS} imports into project {project}.")

    def title(self, backend: int) -> str:
        """Return an ML backend's title: the version that Fitloop serves."""
        return str(self.call("GET", f"/api/ml/{backend}")["title"])

    def connect(self, project: int, backend: str, **settings: Any) -> int:
        """Connect an ML backend by its URL and return its id."""
        body = {"url": backend, "project": project, "title": "Fitloop", **settings}
        return int(self.call("POST", "/api/ml/", json=body)["id"])

    def start_training(self, backend: int) -> None:
        """Press "Start training"."""
        self.call("POST", f"/api/ml/{backend}/train", json={})

    def label(
        self, task: int, choice: str, from_name: str = "intent", to_name: str = "text", **more: Any
    ) -> int:
        """Submit an annotation and return its id."""
        region = {
            "from_name": from_name,
            "to_name": to_name,
            "type": "choices",
            "value": {"choices": [choice]},
        }
        body = {"result": [region], "lead_time": 2.0, **more}
        return int(self.call("POST", f"/api/tasks/{task}/annotations/", json=body)["id"])

    def label_all(self, answers: Sequence[tuple[int, str]], annotators: int = 2) -> None:
        """Submit many annotations, as `annotators` people in parallel."""
        with ThreadPoolExecutor(annotators) as pool:
            for _ in pool.map(lambda answer: self.label(*answer), answers):
                pass

    def next_task(self, project: int) -> int:
        """Return the task that the labelling page shows next."""
        return int(self.call("GET", f"/api/projects/{project}/next")["id"])

    def text(self, task: int, field: str = "text") -> str:
        """Return a task's text."""
        return str(self.call("GET", f"/api/tasks/{task}/")["data"][field])

    def newest_suggestion(self, task: int) -> Suggestion | None:
        """Return the task's prediction that was stored last; None if it has none."""
        rows = self.call("GET", "/api/predictions/", params={"task": task})
        known = [row for row in rows if row["result"]]
        if not known:
            return None
        newest = max(known, key=lambda row: int(row["id"]))
        label = str(newest["result"][0]["value"]["choices"][0])
        return Suggestion(str(newest["model_version"]), label, float(newest["score"] or 0.0))

    def suggestions(self, project: int, version: str) -> dict[int, str]:
        """Return the version's stored suggestions: task id to label."""
        found = {}
        for row in self.call("GET", "/api/predictions/", params={"project": project}):
            if row["model_version"] == version and row["result"]:
                found[int(row["task"])] = str(row["result"][0]["value"]["choices"][0])
        return found

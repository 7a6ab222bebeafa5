"""A Label Studio in memory: projects, tasks, annotations, predictions and backends."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from services.core.domain import Counts, Project
from services.core.errors import FitloopError, LabelStudioNotFound, LabelStudioRejected
from services.core.labels import label_config_hash
from services.core.labelstudio import Backend

START = 1_790_000_000.0
LABELS = ("card", "loan", "other")
URL = "http://fitloop:9090"


@dataclass
class FakeLabelStudio:
    """Projects with tasks and annotations; every change advances its clock by a second."""

    labels: dict[int, tuple[str, ...]] = field(default_factory=dict)
    created: dict[int, float] = field(default_factory=dict)
    tasks: dict[int, dict[int, dict[str, Any]]] = field(default_factory=dict)
    backend_rows: dict[int, list[Backend]] = field(default_factory=dict)
    predictions: list[dict[str, Any]] = field(default_factory=list)
    stored: int = 0
    """Predictions stored so far."""
    auth: dict[str, str] = field(default_factory=dict)
    down: FitloopError | None = None
    refused_tasks: set[int] = field(default_factory=set)
    """Tasks for which a single prediction is refused."""
    counters: bool = True
    """Whether tasks know how many annotations they have."""
    reads: list[str] = field(default_factory=list)
    page_size: int = 200
    ticks: int = 0
    more_controls: str = ""
    """Appended to each label config, after the control `label`."""
    attributes: str = ""
    """Of the control `label`: `choice="multiple"`."""

    def add_project(self, project_id: int = 1, labels: tuple[str, ...] = LABELS) -> None:
        self.labels[project_id] = labels
        self.ticks += 1
        self.created[project_id] = START + self.ticks
        self.tasks[project_id] = {}
        self.backend_rows[project_id] = [Backend(7, URL, "fitloop")]

    def add_task(self, project_id: int = 1) -> int:
        number = 1 + max((task for tasks in self.tasks.values() for task in tasks), default=0)
        self.tasks[project_id][number] = {
            "id": number,
            "data": {"text": f"text number {number}"},
            "annotations": [],
            "updated_at": self._stamp(),
        }
        return number

    def label(
        self, task: int, *labels: str, project_id: int = 1, control: str = "label", **more: Any
    ) -> None:
        """Add an annotation, replacing any other; an empty one without labels, as Label Studio does."""
        row = self.tasks[project_id][task]
        stamp = self._stamp()
        choices = {"choices": list(labels)}
        region = {"from_name": control, "to_name": "text", "type": "choices", "value": choices}
        annotation = {
            "id": row["annotations"][0]["id"] if row["annotations"] else self.ticks,
            "result": [region] if labels else [],
            "was_cancelled": False,
            "ground_truth": False,
            "completed_by": 1,
            "created_at": stamp,
            "updated_at": stamp,
            **more,
        }
        row.update(annotations=[annotation], updated_at=stamp)

    def unlabel(self, task: int, project_id: int = 1) -> None:
        self.tasks[project_id][task].update(annotations=[], updated_at=self._stamp())

    def delete_task(self, task: int, project_id: int = 1) -> None:
        del self.tasks[project_id][task]

    def label_many(self, count: int, project_id: int = 1) -> list[int]:
        numbers = [self.add_task(project_id) for _ in range(count)]
        for number in numbers:
            label = self.labels[project_id][number % len(self.labels[project_id])]
            self.label(number, label, project_id=project_id)
        return numbers

    def project(self, project_id: int, newest_change: str | None = None) -> tuple[Project, Counts]:
        self._answer("project")
        if project_id not in self.labels:
            raise LabelStudioNotFound(f"no project {project_id}")
        choices = "".join(f'<Choice value="{label}"/>' for label in self.labels[project_id])
        config = (
            '<View><Text name="text" value="$text"/>'
            f'<Choices name="label" toName="text" {self.attributes}>{choices}</Choices>{self.more_controls}</View>'
        )
        if not self.labels[project_id]:
            config = '<View><Text name="text" value="$text"/></View>'
        created = self.created[project_id]
        rows = self.tasks[project_id].values()
        kept = [(row, one) for row in rows for one in row["annotations"] if not one["was_cancelled"]]
        project = Project(
            key=f"{project_id}-{int(created)}",
            id=project_id,
            title="Support",
            label_config=config,
            label_config_hash=label_config_hash(config),
            created_at=datetime.fromtimestamp(created, UTC).isoformat(),
        )
        return project, Counts(
            annotated_tasks=len({row["id"] for row, one in kept if not one["ground_truth"]}),
            annotations=len(kept),
            skipped=sum(one["was_cancelled"] for row in rows for one in row["annotations"]),
            newest_change=newest_change or max((row["updated_at"] for row in rows), default=""),
            tasks=len(rows),
        )

    def ask(self, method: str, path: str, **_: Any) -> Any:
        """Describe a project."""
        assert (method, path.split("/")[:2]) == ("GET", ["api", "projects"])
        project, _counts = self.project(int(path.split("/")[2]))
        return {"id": project.id, "title": project.title, "label_config": project.label_config}

    def newest(self, project_id: int) -> tuple[int, int, str]:
        self._answer("newest")
        if project_id not in self.labels:
            raise LabelStudioNotFound(f"no project {project_id}")
        rows = self.tasks[project_id].values()
        kept = [one for row in rows for one in row["annotations"] if not one["was_cancelled"]]
        return (
            len(rows),
            len(kept) if self.counters else 0,
            max((row["updated_at"] for row in rows), default=""),
        )

    def annotated_tasks(
        self, project_id: int, since: str | None = None, *, trust_counters: bool = True
    ) -> Iterator[dict[str, Any]]:
        self._answer("all" if since is None else "since")
        for row in list(self.tasks[project_id].values()):
            kept = [one for one in row["annotations"] if not one["was_cancelled"]]
            found = kept and (self.counters or not trust_counters)
            if found if since is None else row["updated_at"] >= since:
                yield row

    def texts(self, project_id: int, tasks: Collection[int]) -> Iterator[dict[str, Any]]:
        self._answer("texts")
        known = self.tasks[project_id]
        yield from [{"id": task, "data": known[task]["data"]} for task in tasks if task in known]

    def suggested_tasks(self, project_id: int, most: int, *, texts: bool = False) -> list[dict[str, Any]]:
        rows = [row for row in self.tasks[project_id].values() if row["annotations"]]
        newest = sorted(rows, key=lambda row: str(row["updated_at"]), reverse=True)[:most]
        stored = [one for one in self.predictions if one.get("task") in self.tasks[project_id]]
        return [{**row, "predictions": [one for one in stored if one["task"] == row["id"]]} for row in newest]

    def count_unlabelled(self, project_id: int) -> int:
        self._answer("count")
        return sum(not row["annotations"] for row in self.tasks[project_id].values())

    def unlabelled_ids(self, project_id: int) -> Iterator[list[int]]:
        """Yield pages of two hundred ids, by the score of predictions of the backend's title, then by id."""
        title = self.backend_rows[project_id][0].title if self.backend_rows[project_id] else None
        scores = {one["task"]: one["score"] for one in self.predictions if one["model_version"] == title}
        numbers = [number for number, row in self.tasks[project_id].items() if not row["annotations"]]
        ordered = sorted(numbers, key=lambda number: (number not in scores, scores.get(number, 0.0), number))
        for start in range(0, max(1, len(ordered)), 200):
            self._answer("unlabelled")
            yield ordered[start : start + 200]

    def unlabelled_pages(
        self, project_id: int, since: str = "", below: int = 0
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield pages of `page_size` tasks, the newest ids first."""
        while True:
            self._answer("unlabelled pages")
            rows = [
                {"id": number, "data": row["data"]}
                for number, row in sorted(self.tasks[project_id].items(), reverse=True)
                if not row["annotations"] and row["updated_at"] >= since and (not below or number < below)
            ]
            yield rows[: self.page_size]
            if len(rows) <= self.page_size:
                return
            below = rows[self.page_size - 1]["id"]

    def unlabelled_texts(self, project_id: int, tasks: Sequence[int]) -> list[dict[str, Any]]:
        self._answer("unlabelled texts")
        rows = [self.tasks[project_id][task] for task in tasks if task in self.tasks[project_id]]
        return [{"id": row["id"], "data": row["data"]} for row in rows if not row["annotations"]]

    def all_unlabelled_ids(self, project_id: int) -> Iterator[list[int]]:
        self._answer("all unlabelled ids")
        yield [number for number, row in sorted(self.tasks[project_id].items()) if not row["annotations"]]

    def unlabelled_tasks(self, project_id: int, tasks: Sequence[int]) -> list[dict[str, Any]]:
        self._answer("tasks")
        rows = [self.tasks[project_id][task] for task in tasks if task in self.tasks[project_id]]
        return [
            {**row, "predictions": [one for one in self.predictions if one["task"] == row["id"]]}
            for row in rows
            if not row["annotations"]
        ]

    def unpredicted_tasks(self, project_id: int, version: str, tasks: Sequence[int]) -> list[dict[str, Any]]:
        """Compare parts of versions' names, as Label Studio does."""
        self._answer("unpredicted")
        predicted = {one["task"] for one in self.predictions if version in one["model_version"]}
        rows = [self.tasks[project_id][task] for task in tasks if task in self.tasks[project_id]]
        return [row for row in rows if not row["annotations"] and row["id"] not in predicted]

    def delete_prediction(self, prediction_id: int) -> None:
        self._answer("delete")
        self.predictions = [one for one in self.predictions if one["id"] != prediction_id]

    def push_predictions(self, project_id: int, predictions: Sequence[dict[str, Any]]) -> int:
        """Import predictions like Label Studio: skip nested choices, and refuse all if a task does not exist."""
        self._answer("push")
        if any(row["task"] not in self.tasks[project_id] for row in predictions):
            raise LabelStudioRejected("no such task")
        plain = [
            row
            for row in predictions
            if all(
                isinstance(one, str) for region in row["result"] for one in region["value"].get("choices", ())
            )
        ]
        for row in plain:
            self._store(row)
        return len(plain)

    def push_prediction(self, project_id: int, prediction: dict[str, Any]) -> None:
        self._answer("push one")
        if prediction["task"] not in self.tasks[project_id] or prediction["task"] in self.refused_tasks:
            raise LabelStudioRejected("no such task")
        self._store(prediction)

    def have_prediction(self, project_id: int, version: str, tasks: Sequence[int]) -> dict[int, bool]:
        self._answer("have prediction")
        held = {row["task"] for row in self.predictions if row["model_version"] == version}
        return {task: task in held for task in tasks if task in self.tasks[project_id]}

    def backends(self, project_id: int) -> list[Backend]:
        self._answer("backends")
        return self.backend_rows[project_id]

    def set_backend_title(self, project_id: int, backend: Backend, title: str, auth: dict[str, str]) -> None:
        self._answer("title")
        self.auth = auth
        rows = self.backend_rows[project_id]
        self.backend_rows[project_id] = [
            replace(row, title=title) if row.id == backend.id else row for row in rows
        ]

    def _store(self, prediction: dict[str, Any]) -> None:
        self.stored += 1
        self.predictions.append({**prediction, "id": self.stored})

    def _answer(self, what: str) -> None:
        self.reads.append(what)
        if self.down:
            raise self.down

    def _stamp(self) -> str:
        self.ticks += 1
        return datetime.fromtimestamp(START + self.ticks, UTC).isoformat()

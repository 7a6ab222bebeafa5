"""Label Studio's JSON to documents of Fitloop. Pure; callers turn the errors of an unexpected shape into their own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from services.core.domain import Counts, Project
from services.core.labels import label_config_hash


def parse_project(project_id: int, row: dict[str, Any]) -> Project:
    created = datetime.fromisoformat(str(row["created_at"]))
    label_config = str(row.get("label_config") or "")
    return Project(
        key=f"{project_id}-{int(created.timestamp())}",
        id=project_id,
        title=str(row.get("title") or ""),
        label_config=label_config,
        label_config_hash=label_config_hash(label_config),
        created_at=str(row["created_at"]),
    )


def parse_counts(row: dict[str, Any], newest_change: str) -> Counts:
    return Counts(
        annotated_tasks=int(row.get("num_tasks_with_annotations") or 0),
        annotations=int(row.get("total_annotations_number") or 0),
        skipped=int(row.get("skipped_annotations_number") or 0),
        newest_change=newest_change,
        tasks=int(row.get("task_number") or 0),
    )


def parse_task(row: Any) -> dict[str, Any]:
    """Return the row if it has the shape that callers rely on. Raises TypeError."""
    found: dict[str, Any] = {**row}
    nested = [one for name in ("annotations", "predictions") for one in found.get(name) or ()]
    if not isinstance(found.get("id"), int) or not all(isinstance(one, dict) for one in nested):
        raise TypeError("no task")
    return found


def basic_auth_user(row: dict[str, Any]) -> str:
    """Return the backend's user name if it uses Basic auth: switching auth off leaves the old name in place."""
    return (
        str(row.get("basic_auth_user") or "") if row.get("auth_method", "BASIC_AUTH") == "BASIC_AUTH" else ""
    )

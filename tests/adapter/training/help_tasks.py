"""Annotated tasks with predictions, as Label Studio describes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from services.adapter.suggestions import is_blind

SHARE = 0.3
BLIND_TEXT = next(text for number in range(99) if is_blind(text := f"text {number}", SHARE))
SHOWN_TEXT = next(text for number in range(99) if not is_blind(text := f"text {number}", SHARE))


def stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def result(label: str, score: float | None = None) -> list[dict[str, Any]]:
    region = {"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return [region if score is None else {**region, "score": score}]


def prediction(label: str | None, at: float, number: int = 1, version: str = "v-1") -> dict[str, Any]:
    """Build a prediction; `label` None: a concealed one."""
    shown = [] if label is None else result(label, 0.75)
    return {"id": number, "result": shown, "created_at": stamp(at), "model_version": version}


def annotation(label: str, at: float, number: int = 1, **more: Any) -> dict[str, Any]:
    made = {"id": number, "result": result(label), "was_cancelled": False, "created_at": stamp(at)}
    return {**made, "lead_time": 8.0, "completed_by": 1, **more}


def task(text: str, annotations: list[Any], predictions: list[Any], number: int = 1) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"text": text},
        "annotations": annotations,
        "predictions": predictions,
    }

"""`ModelResponse`, as the library documents it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class ModelResponse(BaseModel):
    """Predictions, and optionally the version that they are of."""

    model_config = ConfigDict(protected_namespaces=())

    model_version: str | None = None
    predictions: list[Any]

"""Features of a project that no version reads any more: a sweep deletes them."""

from __future__ import annotations

import structlog

from services.adapter.training.encoders import DAY_SECONDS
from services.core.domain import Project
from services.core.encoder_listing import list_encoders
from services.core.store import ObjectStore

log = structlog.get_logger()


def delete_unused_features(
    store: ObjectStore, project: Project, needed: frozenset[str], base_models: frozenset[str], now: float
) -> None:
    """Delete the features for encoders that no version of the project needs, nor a run with one of these base models.

    What a run has written within a day stays: it may not have published its version yet. Raises StoreError.
    """
    folder = f"projects/{project.key}/features/"
    unneeded = set(store.folders(folder)) - needed
    if not unneeded:
        return
    unneeded -= {alias.digest for alias in list_encoders(store).aliases if alias.base_model in base_models}
    for digest in sorted(unneeded):
        entries = list(store.entries(f"{folder}{digest}/"))
        if any(now - entry.modified <= DAY_SECONDS for entry in entries):
            continue
        for entry in entries:
            store.delete(entry.key)
        log.info(
            "features_deleted", project=project.id, encoder=digest[:12], reason="no version needs its encoder"
        )

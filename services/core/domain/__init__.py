"""Documents of the bucket, and the values that packages exchange.

All are frozen. Names follow Label Studio (task, annotation, project) and scikit-learn (labels, method, metrics).
Times are seconds since the epoch. Probabilities are floats in [0, 1].
"""

from __future__ import annotations

from services.core.domain.labels import Counts, LabelSegment, LabelSpace, LabelState, Snapshot
from services.core.domain.projects import (
    Action,
    Attempt,
    Command,
    LaunchState,
    Method,
    Parameters,
    Pending,
    Project,
    Published,
    RunRequest,
    RunState,
    RunStatus,
)
from services.core.domain.versions import (
    Artefact,
    ChangedPrediction,
    ChangedPredictions,
    Estimate,
    FileEntry,
    GateDecision,
    LabelMetrics,
    Lineage,
    Manifest,
    OutOfSample,
    Report,
    Served,
    Serving,
    Truncation,
    Uncounted,
    WrongPrediction,
    expired_versions,
)

__all__ = [
    "Action",
    "Artefact",
    "Attempt",
    "ChangedPrediction",
    "ChangedPredictions",
    "Command",
    "Counts",
    "Estimate",
    "FileEntry",
    "GateDecision",
    "LabelMetrics",
    "LabelSegment",
    "LabelSpace",
    "LabelState",
    "LaunchState",
    "Lineage",
    "Manifest",
    "Method",
    "OutOfSample",
    "Parameters",
    "Pending",
    "Project",
    "Published",
    "Report",
    "RunRequest",
    "RunState",
    "RunStatus",
    "Served",
    "Serving",
    "Snapshot",
    "Truncation",
    "Uncounted",
    "WrongPrediction",
    "expired_versions",
]

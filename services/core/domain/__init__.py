"""What travels: the documents of the bucket and the small values that the rooms hand each other.

All frozen. Names follow Label Studio (task, annotation, project) and scikit-learn (labels, method, metrics).
Times are seconds since the epoch. Probabilities are floats in [0, 1].
"""

from __future__ import annotations

from services.core.domain.projects import (
    Action,
    Command,
    LabelSpace,
    Project,
)
from services.core.domain.reports import (
    ChangedPrediction,
    ChangedPredictions,
    LabelMetrics,
    Report,
    Uncounted,
    WrongPrediction,
)
from services.core.domain.runs import (
    Attempt,
    Launch,
    Method,
    Parameters,
    Pending,
    Published,
    RunRequest,
    RunState,
    RunStatus,
    Snapshot,
)
from services.core.domain.versions import (
    Artefact,
    Estimate,
    FileEntry,
    GateDecision,
    Lineage,
    Manifest,
    OutOfSample,
    Served,
    Serving,
    Truncation,
)

__all__ = [
    "Action",
    "Artefact",
    "Attempt",
    "ChangedPrediction",
    "ChangedPredictions",
    "Command",
    "Estimate",
    "FileEntry",
    "GateDecision",
    "LabelMetrics",
    "LabelSpace",
    "Launch",
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
]

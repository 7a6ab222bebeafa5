"""Manifests with plausible contents."""

from __future__ import annotations

from services.core.domain import Artefact, Estimate, GateDecision, Lineage, Manifest, Method, Parameters


def build_manifest(version: str, project_key: str = "5-1", labels: tuple[str, ...] = ("A", "B")) -> Manifest:
    """Build a manifest as a run writes it, before its files are known."""
    return Manifest(
        version=version,
        project_key=project_key,
        method=Method.LINEAR_PROBE,
        labels=labels,
        artefact=Artefact("sentence-transformers", "ct2-int8", "equal on 300 texts", 256, 1.0),
        estimate=Estimate(40, 30, 0.6, 0.86, 0.7, "cross-fit", 36, 26),
        gate=GateDecision(True, "first", ("First version.",)),
        lineage=Lineage("5-1", (1, 2), "h", "c", "minilm", "d", "0.1.0", Parameters(), None, 40, True),
        created_at=1_795_500_000.0,
    )

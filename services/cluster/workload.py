"""The predictors' workload, an InferenceService or a Deployment: its annotation names the generation of its pods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.cluster.client import ClusterError, Document, Kube
from services.cluster.pods import GENERATION

_ANNOTATION_PATHS: Final = {
    "inferenceservice": ("spec", "predictor", "annotations"),
    "deployment": ("spec", "template", "metadata", "annotations"),
}


@dataclass(frozen=True, slots=True)
class PredictorWorkload:
    """A workload by its kind and name."""

    kube: Kube
    kind_and_name: str
    """Such as deployment/fitloop."""

    def read(self) -> Document:
        """Return the object. Raises ClusterError."""
        kind, _, name = self.kind_and_name.partition("/")
        found = self.kube.get(kind, name)
        if found is None:
            raise ClusterError(
                f"{self.kind_and_name} does not exist: reinstall the chart, or set kserve.enabled back to its previous value."
            )
        return found

    def annotate(self, generation: str | None) -> None:
        """Replace all pods by ones of this generation, or of none. Raises ClusterError."""
        kind, _, name = self.kind_and_name.partition("/")
        body: Document = {GENERATION: generation}
        for key in reversed(_ANNOTATION_PATHS[kind]):
            body = {key: body}
        self.kube.patch(kind, name, body)

    def generation_of(self, workload: Document) -> str:
        """Return the generation that the object names; "" for none."""
        found: object = workload
        for key in _ANNOTATION_PATHS[self.kind_and_name.partition("/")[0]]:
            found = found.get(key) if isinstance(found, dict) else None
        return str(found.get(GENERATION) or "") if isinstance(found, dict) else ""


def replicas_of(workload: Document) -> int:
    """Return how many pods must be ready."""
    spec = workload["spec"]
    return int(spec.get("replicas") or (spec.get("predictor") or {}).get("minReplicas") or 1)

"""The predictors' workload, an InferenceService or a Deployment: its annotation names the generation of its pods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from services.adapter.leader.workers import Finished, Workers
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


@dataclass(slots=True)
class AnnotationWriter:
    """Has a worker change the annotation, one change at a time. Only the leader's thread may call it."""

    workload: PredictorWorkload
    workers: Workers
    is_leading: Callable[[], bool]
    """Asked right before the request."""
    clock: Callable[[], float]
    changed_at: float = float("-inf")
    """When the last change was answered, in seconds of `clock`."""
    is_busy: bool = False
    """Whether a change is under way."""
    _error: Exception | None = None

    def change(self, generation: str | None, then: Callable[[], None]) -> None:
        """Have it changed, and call `then` in this thread afterwards. If it fails, nothing follows: all is decided again.

        Raises ClusterError if that is known at once.
        """
        self.is_busy = self.workers.submit(
            "annotate", partial(self._send, generation), partial(self._sent, then)
        )
        if not self.is_busy:
            raise ClusterError("The last change of the predictors' annotation has not been answered yet.")
        self.raise_error()

    def raise_error(self) -> None:
        """Raise why the last change failed, once. Raises ClusterError."""
        self.workers.deliver()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _send(self, generation: str | None) -> None:
        if not self.is_leading():
            raise ClusterError("This adapter leads no more: it does not change the predictors' annotation.")
        self.workload.annotate(generation)

    def _sent(self, then: Callable[[], None], finished: Finished[None]) -> None:
        self.is_busy, self._error = False, finished.error
        if finished.error is None:
            self.changed_at = self.clock()
            then()


def replicas_of(workload: Document) -> int:
    """Return how many pods must be ready."""
    spec = workload["spec"]
    return int(spec.get("replicas") or (spec.get("predictor") or {}).get("minReplicas") or 1)

"""Which encoders the connected projects need, from what their reconcilers have in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.adapter.training.encoders import ProjectUse
from services.core.settings.parameters import BASE_MODEL

if TYPE_CHECKING:  # which use this
    from services.adapter.leader.projects import ProjectSet
    from services.adapter.leader.reconciler import ProjectReconciler


@dataclass(frozen=True, slots=True)
class KnownUses:
    """What the leader knows of all connected projects."""

    uses: tuple[ProjectUse, ...] = ()
    unknown: str = ""
    """Why some are missing; "" if none is."""
    default_base: str = ""
    """The base model of projects to come."""


def known_uses(projects: ProjectSet, default_base: str) -> KnownUses:
    """Return what is known now. Only the leader's thread may call it."""
    is_known = projects.is_complete and projects.loader.is_idle
    unread = "" if is_known else "some projects have not been read yet, or could not be"
    return KnownUses(tuple(map(use_of, projects.reconcilers.values())), unread, default_base)


def use_of(reconciler: ProjectReconciler) -> ProjectUse:
    """Return what is known of one project."""
    history, active = reconciler.history, reconciler.history.active
    return ProjectUse(
        reconciler.project.key,
        reconciler.state_file.state.encoders,
        history.has_unswept,
        active.request.created_at if active else None,
        base_models(reconciler),
        reconciler.versions.promotions.manifests.encoders,
    )


def base_models(reconciler: ProjectReconciler) -> frozenset[str]:
    """Return the base models of the project's active run and of its next one."""
    chosen = reconciler.sync.connection.overrides.get(BASE_MODEL) or reconciler.planner.defaults.base_model
    active = reconciler.history.active
    return frozenset({chosen, active.request.parameters.base_model} if active else {chosen})

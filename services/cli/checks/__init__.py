"""What `fitloop doctor` looks at: a module for each subject, a small function of the Context for each check.

`checks_of(context)` is the whole list, in groups: groups are looked at side by side, the checks of one after each other.
"""

from __future__ import annotations

from services.cli.checks import consistency, doors, label_studio, project, reach, storage, webhook
from services.cli.checks.context import Context
from services.cli.checks.finding import Check, Finding, skipped

__all__ = ["checks_of"]


def checks_of(context: Context) -> list[list[Check]]:
    """Every check that there is for this place and these projects."""
    return [
        [*label_studio.CHECKS, *project.checks(context), webhook.PRIVATE_ADDRESS],
        [*reach.CHECKS, *doors.CHECKS],
        [*storage.CHECKS, *consistency.CLOCK_CHECKS],
        _of_a_cluster() if context.inspector else [Check("cluster", _no_cluster)],
    ]


def _of_a_cluster() -> list[Check]:
    from services.cli.checks import (
        cluster,
        consistency,  # `fitloop local` needs no client of Kubernetes
    )

    return [*cluster.CHECKS, *consistency.VERSION_CHECKS]


def _no_cluster(_: Context) -> Finding:
    return skipped(
        "No cluster was named.", "To look at one: --namespace and --release (and --kubeconfig, --context)."
    )

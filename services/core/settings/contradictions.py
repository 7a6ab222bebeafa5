"""Relations between settings, and to fixed times, that several adapters on a cluster depend on.

Each rule is a pure function of all settings. `fitloop adapter` refuses to start with the problems, and the doctor names them;
the chart refuses the same values. `fitloop local` has one process and a lock that it cannot lose, so no rule concerns it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.core.errors import BadConfig

if TYPE_CHECKING:
    from services.core.settings import Settings

STORE_TIMEOUT_LIMIT: Final = 6.0
"""Seconds: with its retries a write takes twice as long, and must end within the leader's Lease (15 s), which is renewed every
2 s."""

LABEL_STUDIO_PREDICT_SECONDS: Final = 100.0
"""How long Label Studio waits for predictions, unless its ML_TIMEOUT_PREDICT is set."""

FLIP_SECONDS_LEAST: Final = 0.5
"""Two polls of the serving table."""


def contradictions(settings: Settings) -> list[str]:
    """Return a sentence without its full stop for each rule that the settings of a cluster break."""
    rules = (_store_timeout, _predict_timeout, _flip)
    return [problem for rule in rules if (problem := rule(settings))]


def check_contradictions(settings: Settings) -> None:
    """Raise BadConfig with all contradictions."""
    if problems := contradictions(settings):
        raise BadConfig("These settings contradict each other: " + "; ".join(problems) + ".")


def _store_timeout(settings: Settings) -> str:
    seconds = settings.s3.timeout_seconds
    if seconds < STORE_TIMEOUT_LIMIT:
        return ""
    return (
        f"FITLOOP_S3_TIMEOUT_SECONDS (in the chart store.timeoutSeconds) is {seconds:g}, and with retries a write to the bucket "
        f"could outlive the leader's Lease (15 s), so no adapter could lead: set it below {STORE_TIMEOUT_LIMIT:g}"
    )


def _predict_timeout(settings: Settings) -> str:
    seconds = settings.cluster.predict_timeout_seconds
    if seconds < LABEL_STUDIO_PREDICT_SECONDS:
        return ""
    return (
        f"FITLOOP_PREDICT_TIMEOUT_SECONDS is {seconds:g}, and Label Studio gives up after {LABEL_STUDIO_PREDICT_SECONDS:g} s, so it "
        f"would never see later answers: set it below {LABEL_STUDIO_PREDICT_SECONDS:g}"
    )


def _flip(settings: Settings) -> str:
    seconds = settings.rollout.flip_seconds
    if seconds >= FLIP_SECONDS_LEAST:
        return ""
    return (
        f"FITLOOP_ROLLOUT_FLIP_SECONDS (in the chart rollout.flipSeconds) is {seconds:g}, and adapters read the serving table every "
        f"{FLIP_SECONDS_LEAST / 2:g} s, so they would switch to a new version at different moments: set it to {FLIP_SECONDS_LEAST:g} or more"
    )

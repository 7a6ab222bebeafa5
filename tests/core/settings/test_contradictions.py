"""core.settings.contradictions: settings whose relation is a rule are refused with a sentence."""

from __future__ import annotations

import pytest

from services.adapter.follower import POLL_SECONDS
from services.core.errors import BadConfig
from services.core.settings import ClusterSettings, RolloutSettings, S3Settings, Settings
from services.core.settings.contradictions import (
    FLIP_SECONDS_LEAST,
    check_contradictions,
    contradictions,
)


def test_the_defaults_do_not_contradict_each_other() -> None:
    assert contradictions(Settings()) == []


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            Settings(s3=S3Settings(timeout_seconds=6)),
            r"store.timeoutSeconds\) is 6, .* no adapter could lead: set it below 6",
        ),
        (Settings(s3=S3Settings(timeout_seconds=20)), "FITLOOP_S3_TIMEOUT_SECONDS .* is 20"),
        (
            Settings(cluster=ClusterSettings(predict_timeout_seconds=100)),
            "FITLOOP_PREDICT_TIMEOUT_SECONDS is 100, .* set it below 100",
        ),
        (
            Settings(rollout=RolloutSettings(flip_seconds=0.4)),
            "FITLOOP_ROLLOUT_FLIP_SECONDS .* is 0.4, .* set it to 0.5 or more",
        ),
    ],
)
def test_a_contradiction_is_refused(settings: Settings, sentence: str) -> None:
    with pytest.raises(BadConfig, match=sentence):
        check_contradictions(settings)


def test_the_least_flip_time_is_two_polls_of_the_table() -> None:
    assert FLIP_SECONDS_LEAST == 2 * POLL_SECONDS


def test_all_contradictions_are_reported_at_once() -> None:
    wrong = Settings(s3=S3Settings(timeout_seconds=9), rollout=RolloutSettings(flip_seconds=0))
    assert len(contradictions(wrong)) == 2


def test_values_at_the_limits_are_accepted() -> None:
    settings = Settings(
        s3=S3Settings(timeout_seconds=5.99),
        cluster=ClusterSettings(predict_timeout_seconds=99.9),
        rollout=RolloutSettings(flip_seconds=1),
    )
    check_contradictions(settings)

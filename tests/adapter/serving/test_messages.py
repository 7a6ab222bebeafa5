"""Sentences of the status."""

from __future__ import annotations

from services.adapter.ports import RolloutStatus
from services.adapter.serving.messages import advice, blocked, join, pending_advice
from services.core.domain import Pending

GOOD = "http://fitloop.shop.svc.cluster.local:9090"


def test_backend_url_without_events_comes_with_advice() -> None:
    (sentence,) = advice("http://fitloop:9090/hush", silent=True)
    assert "one word" in sentence
    assert "Use the full name" in sentence
    assert "hush" not in sentence


def test_silent_webhook_comes_with_advice() -> None:
    (sentence,) = advice(GOOD, silent=True)
    assert "webhook is missing" in sentence
    assert "fitloop doctor" in sentence


def test_good_backend_url_needs_no_advice() -> None:
    assert advice(GOOD, silent=False) == ()
    assert advice("", silent=False) == ()


def test_parts_are_joined_into_one_line() -> None:
    line = join("serving Held-3", "", "Held: 31 texts broke.", "Held-4 waits.")
    assert line == "serving Held-3; held: 31 texts broke; Held-4 waits"


def test_blocked_rollout_names_the_retry_once() -> None:
    later = RolloutStatus(done=False, reason="no node has room; tried again in 108 s", blocked=True)
    assert blocked("v-2", later).count("tried again") == 1
    assert blocked("v-2", RolloutStatus(done=False, reason="no node", blocked=True)).endswith(
        "It is retried."
    )


def test_pending_run_comes_with_advice() -> None:
    assert "trainer.gpus" in pending_advice(Pending.NO_GPU)[0]
    assert pending_advice(Pending.TURN) == pending_advice(Pending.OTHER) == pending_advice("") == ()

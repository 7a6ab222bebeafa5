"""Sentences on the board."""

from __future__ import annotations

from services.adapter.ports import RolloutStatus
from services.adapter.serving.sentences import advice, blocked, join, pending_advice
from services.core.domain import Pending

GOOD = "http://fitloop.shop.svc.cluster.local:9090"


def test_an_address_that_brings_no_events_is_told_of_with_what_to_do() -> None:
    (hint,) = advice("http://fitloop:9090/hush", silent=True)
    assert "one word" in hint
    assert "Use the whole name" in hint
    assert "hush" not in hint


def test_labels_that_no_event_announced_are_told_of() -> None:
    (hint,) = advice(GOOD, silent=True)
    assert "webhook is missing" in hint
    assert "fitloop doctor" in hint


def test_nothing_is_said_of_a_good_address_and_of_none() -> None:
    assert advice(GOOD, silent=False) == ()
    assert advice("", silent=False) == ()


def test_parts_make_one_line_whatever_each_is_by_itself() -> None:
    said = join("serving Held-3", "", "Held: 31 texts broke.", "Held-4 waits.")
    assert said == "serving Held-3; held: 31 texts broke; Held-4 waits"


def test_what_is_tried_again_is_said_once() -> None:
    later = RolloutStatus(done=False, reason="no node has room; tried again in 108 s", blocked=True)
    assert blocked("v-2", later).count("tried again") == 1
    assert blocked("v-2", RolloutStatus(done=False, reason="no node", blocked=True)).endswith(
        "It is retried."
    )


def test_a_run_that_waits_for_the_cluster_comes_with_advice() -> None:
    assert "trainer.gpus" in pending_advice(Pending.NO_GPU)[0]
    assert pending_advice(Pending.TURN) == pending_advice(Pending.OTHER) == pending_advice("") == ()

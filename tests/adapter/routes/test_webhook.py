"""POST /webhook: change notices are passed on, commands stored, and all other requests answered and counted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from services.adapter import metrics
from services.core.domain import Action
from services.core.errors import StoreError
from tests.support.app import AppWorld
from tests.support.metrics import metric_value


def count(action: str, outcome: str) -> float:
    return metric_value("fitloop_webhook_events_total", action=action, outcome=outcome)


@pytest.mark.parametrize("action", [action for action in metrics.EVENT_ACTIONS if action != "START_TRAINING"])
async def test_every_event_of_label_studio_is_noted(world: AppWorld, action: str) -> None:
    before = count(action, "noted")
    answer = await world.client.post("/webhook", json={"action": action, "project": {"id": "5"}})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert world.events.notified == [(5, action)]
    assert count(action, "noted") == before + 1


async def test_start_training_is_stored_before_it_is_answered(world: AppWorld) -> None:
    answer = await world.client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 5}})
    (command,) = world.events.commands
    assert answer.json() == {"status": "ok", "job": command.id}
    assert (command.project_id, command.action, command.parameters) == (5, Action.TRAIN, {})
    assert command.created_at > 0
    assert command.asked_by == "Label Studio from 127.0.0.1"


async def test_start_training_that_cannot_be_stored_is_503(world: AppWorld) -> None:
    before = count("START_TRAINING", "not_stored")
    world.events.error = StoreError("The disk is full.")
    answer = await world.client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 5}})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.json()["detail"] == "The disk is full."
    assert count("START_TRAINING", "not_stored") == before + 1


@pytest.mark.parametrize("action", ["SOMETHING_NEW", None, 7, ["START_TRAINING"], {"a": 1}])
async def test_an_unknown_action_is_answered_and_counted(world: AppWorld, action: Any) -> None:
    before = count("other", "unknown_action")
    answer = await world.client.post("/webhook", json={"action": action, "project": {"id": 5}})
    assert answer.status_code == 200
    assert answer.json() == {"status": "passed over", "reason": "unknown_action"}
    assert world.events.notified == []
    assert count("other", "unknown_action") == before + 1


@pytest.mark.parametrize("project", [None, {}, {"id": None}, {"id": "x"}, []])
@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "START_TRAINING"])
async def test_an_event_of_no_project_is_answered_and_counted(
    world: AppWorld, action: str, project: Any
) -> None:
    before = count(action, "no_project")
    answer = await world.client.post("/webhook", json={"action": action, "project": project})
    assert (answer.status_code, answer.json()["reason"]) == (200, "no_project")
    assert (world.events.notified, world.events.commands) == ([], [])
    assert count(action, "no_project") == before + 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b'"x"', b"null", b"\xff\xfe"])
async def test_what_is_no_json_object_is_400_with_a_sentence(world: AppWorld, body: bytes) -> None:
    before = count("other", "malformed")
    answer = await world.client.post("/webhook", content=body)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("The body")
    assert count("other", "malformed") == before + 1


async def test_thirty_events_at_once_are_all_taken(world: AppWorld) -> None:
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 5}, "task": {"data": {"text": "x" * 5000}}}
    wish = {"action": "START_TRAINING", "project": {"id": 5}}
    bodies = [wish if number % 3 == 0 else event for number in range(30)]
    answers = await asyncio.gather(*(world.client.post("/webhook", json=body) for body in bodies))
    assert {answer.status_code for answer in answers} == {200}
    assert len(world.events.notified) == 20
    assert len({command.id for command in world.events.commands}) == 10


async def test_a_payload_is_logged_nowhere(
    world: AppWorld, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    secret = "do-not-log-me"
    world.events.error = StoreError("The disk is full.")
    for action in ("START_TRAINING", "ANNOTATION_CREATED", secret):
        body = {"action": action, "project": {"id": 5, "token": secret}}
        await world.client.post("/webhook", json=body)
    await world.client.post("/webhook", content=secret.encode())
    printed = capsys.readouterr()
    assert secret not in printed.out + printed.err + caplog.text

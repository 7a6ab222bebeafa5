"""/api/gc: the command is stored, and its report is read by any replica."""

from __future__ import annotations

from typing import Any

import pytest

from services.adapter.state.gc_reports import GcReport, GcReportFile
from services.core.domain import Action
from tests.support.app import AppWorld


@pytest.mark.parametrize(
    ("body", "project_id", "parameters"),
    [
        (None, 0, {}),
        ({"project": 5}, 5, {}),
        ({"dry_run": True}, 0, {"dry_run": "true"}),
        ({"project": 0, "dry_run": False}, 0, {}),
    ],
)
async def test_a_command_is_stored(
    world: AppWorld, body: object, project_id: int, parameters: dict[str, str]
) -> None:
    answer = await world.client.post("/api/gc", json=body) if body else await world.client.post("/api/gc")
    (command,) = world.events.commands
    assert (answer.status_code, answer.json()) == (200, {"command": command.id})
    assert (command.project_id, command.action, command.parameters) == (project_id, Action.GC, parameters)
    assert command.asked_by


@pytest.mark.parametrize(
    "body", [{"project": "5"}, {"project": -1}, {"project": True}, {"dry_run": "yes"}, {"dryrun": True}]
)
async def test_a_wrong_body_is_refused(world: AppWorld, body: dict[str, Any]) -> None:
    answer = await world.client.post("/api/gc", json=body)
    assert answer.status_code == 400
    assert world.events.commands == []


async def test_gc_is_no_action_on_a_project(world: AppWorld) -> None:
    world.serve()
    answer = await world.client.post("/api/projects/5/gc", json={"dry_run": True})
    assert answer.status_code == 404
    assert world.events.commands == []


async def test_the_report_is_read_from_the_store(world: AppWorld) -> None:
    GcReportFile(world.registry.store).add(GcReport("17-a", 5, deleted=3, freed=12), term=1)
    found = (await world.client.get("/api/gc/17-a")).json()
    assert (found["project_id"], found["deleted"], found["freed"]) == (5, 3, 12)
    missing = await world.client.get("/api/gc/18-b")
    assert missing.status_code == 404
    assert "There is no report of command '18-b'" in missing.json()["detail"]

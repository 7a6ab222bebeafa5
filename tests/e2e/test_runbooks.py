"""Runbooks followed word for word on a real release: each command works, and alerts fire when the thing is broken.

What an alert asks is asked of a real Prometheus at once, without the time for which it must hold (tests/alerts has that).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.servers import TOKEN
from tests.alerts.test_runbooks import OF_ALERTS, blocks
from tests.e2e.conftest import Connect, MakeRelease
from tests.e2e.prometheus import Prometheus, executable
from tests.e2e.release import Release
from tests.e2e.targets import scraping
from tests.support.waiting import eventually

pytestmark = [pytest.mark.labelstudio, pytest.mark.cluster, pytest.mark.wide]
STARTS_ANEW = ("rollout restart", "patch secret", "delete pod")


def test_runbook_commands_work_as_written(
    make_release: MakeRelease, connect: Connect, tmp_path: Path
) -> None:
    executable()
    release = make_release(training={"everyNUpdates": 30})
    release.install()
    with scraping(release, tmp_path) as prometheus:
        assert prometheus is not None
        alerts = Alerts(release, prometheus)
        labelled = connect(release)
        labelled.label(0, 30)
        version = release.served(labelled.project)
        desk = Desk(release, labelled.project, version)

        with contextlib.suppress(AssertionError):
            eventually(lambda: not alerts.firing(), 90, what="no alert fires while all is well")
        assert not alerts.firing()
        for command in _all_commands():
            if not any(one in command for one in STARTS_ANEW):
                desk.type(command)
        release.send_command(labelled.project, "resume")

        desk.give_token("not-a-token")
        eventually(lambda: "FitloopTokenRefused" in alerts.firing(), 120, what="the token is refused")
        desk.follow("FitloopTokenRefused", "## What to do", TOKEN=TOKEN)
        eventually(lambda: alerts.silent_for("fitloop_label_studio_requests_total"), 90, what="it is taken")

        release.namespace.kubectl("scale", f"deploy/{release.fullname}", "--replicas=0")
        eventually(lambda: "FitloopAdapterAbsent" in alerts.firing(), 90, what="no adapter is seen")
        release.namespace.kubectl("scale", f"deploy/{release.fullname}", "--replicas=2")
        eventually(lambda: "FitloopAdapterAbsent" not in alerts.firing(), 90, what="adapters are seen")
        eventually(lambda: "FitloopAdapterLeaderless" not in alerts.firing(), 90, what="one leads")

        desk.follow("FitloopServedVersionDiffers", "## What to do")
        desk.follow("FitloopTwoLeaders", "## What to do", POD=desk.leader())
        eventually(release.leader, 60, what="another one leads")


class Alerts:
    """What the chart's rules ask, asked now."""

    def __init__(self, release: Release, prometheus: Prometheus) -> None:
        (rules,) = release.rendered(
            {"monitoring": {"rules": {"enabled": True}}}, "monitoring/prometheusrule.yaml"
        )
        self._queries = {one["alert"]: one["expr"] for one in rules["spec"]["groups"][0]["rules"]}
        self._prometheus = prometheus

    def firing(self) -> set[str]:
        """Names of alerts whose condition holds."""
        now = time.time()
        return {name for name, query in self._queries.items() if self._prometheus.instant(query, now)}

    def silent_for(self, counter: str) -> bool:
        """Whether requests go on, and none has been refused of late."""
        now, refused = time.time(), f'sum(increase({counter}{{outcome="unauthorized"}}[15s])) == 0'
        going = f'sum(increase({counter}{{outcome="ok"}}[15s])) > 0'
        return bool(self._prometheus.instant(f"{refused} and {going}", now))


class Desk:
    """A shell of whoever was called, with the alert's labels exported."""

    def __init__(self, release: Release, project: int, version: str) -> None:
        self._release = release
        self._world = {
            "NAMESPACE": release.namespace.name,
            "RELEASE": release.fullname,
            "PROJECT": str(project),
            "VERSION": version,
            "SECRET": f"{release.name}-label-studio",
            "KEY": "LABEL_STUDIO_API_KEY",
        }

    def type(self, command: str, **more: str) -> str:
        """Run it as it stands. `fitloop doctor` may find something, and must end by itself."""
        environment = {**os.environ, **self._world, **more}
        done = subprocess.run(
            ["bash", "-c", command], env=environment, capture_output=True, text=True, check=False, timeout=150
        )
        found = (
            done.returncode == 1
            and "fitloop doctor" in command
            and re.search(r"^ok ", done.stdout, re.MULTILINE)
        )
        assert done.returncode == 0 or found, f"{command}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def follow(self, alert: str, chapter: str, **more: str) -> None:
        """Every command of a runbook's chapter, in turn."""
        (page,) = (one for one in OF_ALERTS if one.stem == alert)
        for command in _commands(page.read_text().partition(chapter)[2]):
            self.type(command, **more)

    def give_token(self, token: str) -> None:
        """Put a token into the Secret, and have it read."""
        for command in _commands(_page("FitloopTokenRefused").partition("## What to do")[2])[1:]:
            self.type(command, TOKEN=token)

    def leader(self) -> str:
        """The pod that leads."""
        (command,) = (one for one in _all_commands() if "holderIdentity" in one)
        return self.type(command).partition("_")[0]


def _page(alert: str) -> str:
    return next(one for one in OF_ALERTS if one.stem == alert).read_text()


def _commands(text: str) -> list[str]:
    return re.findall(r"^\$ (.*)$", text, re.MULTILINE)


def _all_commands() -> Iterator[str]:
    """Each once; what looks first, and what ends or goes back last."""
    found = {
        line.removeprefix("$ ")
        for page in OF_ALERTS
        for block in blocks(page, "console")
        for line in block.splitlines()
    }
    order = ("fitloop train", "fitloop cancel", "fitloop promote", "fitloop rollback", "fitloop pause")
    rank = {
        command: next((number for number, one in enumerate(order, 1) if one in command), 0)
        for command in found
    }
    yield from sorted(found, key=lambda command: (rank[command], command))

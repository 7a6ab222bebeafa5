"""Runbooks followed word for word on a real release: every command works, and alerts fire on real faults.

Alert expressions are evaluated by a real Prometheus without their `for` duration (tests/alerts checks that).
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
RESTARTS = ("rollout restart", "patch secret", "delete pod")


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
        shell = Shell(release, labelled.project, version)

        with contextlib.suppress(AssertionError):
            eventually(lambda: not alerts.firing(), 90, what="no alert fires while all is well")
        assert not alerts.firing()
        for command in _all_commands():
            if not any(one in command for one in RESTARTS):
                shell.run(command)
        release.send_command(labelled.project, "resume")

        shell.give_token("not-a-token")
        eventually(lambda: "FitloopTokenRefused" in alerts.firing(), 120, what="the token is refused")
        shell.follow("FitloopTokenRefused", "## Remediation", TOKEN=TOKEN)
        eventually(lambda: alerts.silent_for("fitloop_label_studio_requests_total"), 90, what="it is taken")

        release.namespace.kubectl("scale", f"deploy/{release.fullname}", "--replicas=0")
        eventually(lambda: "FitloopAdapterAbsent" in alerts.firing(), 90, what="no adapter is seen")
        release.namespace.kubectl("scale", f"deploy/{release.fullname}", "--replicas=2")
        eventually(lambda: "FitloopAdapterAbsent" not in alerts.firing(), 90, what="adapters are seen")
        eventually(lambda: "FitloopAdapterLeaderless" not in alerts.firing(), 90, what="one leads")

        shell.follow("FitloopServedVersionDiffers", "## Remediation")
        shell.follow("FitloopTwoLeaders", "## Remediation", POD=shell.leader())
        eventually(release.leader, 60, what="another one leads")


class Alerts:
    """The chart's alert expressions, evaluated now."""

    def __init__(self, release: Release, prometheus: Prometheus) -> None:
        (rules,) = release.rendered(
            {"monitoring": {"rules": {"enabled": True}}}, "monitoring/prometheusrule.yaml"
        )
        self._queries = {one["alert"]: one["expr"] for one in rules["spec"]["groups"][0]["rules"]}
        self._prometheus = prometheus

    def firing(self) -> set[str]:
        """Return the alerts whose condition holds."""
        now = time.time()
        return {name for name, query in self._queries.items() if self._prometheus.instant(query, now)}

    def silent_for(self, counter: str) -> bool:
        """Return whether requests succeed and none was refused recently."""
        now, refused = time.time(), f'sum(increase({counter}{{outcome="unauthorized"}}[15s])) == 0'
        going = f'sum(increase({counter}{{outcome="ok"}}[15s])) > 0'
        return bool(self._prometheus.instant(f"{refused} and {going}", now))


class Shell:
    """A shell with the alert's labels exported."""

    def __init__(self, release: Release, project: int, version: str) -> None:
        self._release = release
        self._environment = {
            "NAMESPACE": release.namespace.name,
            "RELEASE": release.fullname,
            "PROJECT": str(project),
            "VERSION": version,
            "SECRET": f"{release.name}-label-studio",
            "KEY": "LABEL_STUDIO_API_KEY",
        }

    def run(self, command: str, **more: str) -> str:
        """Run the command as written. `fitloop doctor` may exit with 1 for findings."""
        environment = {**os.environ, **self._environment, **more}
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

    def follow(self, alert: str, section: str, **more: str) -> None:
        """Run every command of a runbook's section."""
        (page,) = (one for one in OF_ALERTS if one.stem == alert)
        for command in _commands(page.read_text().partition(section)[2]):
            self.run(command, **more)

    def give_token(self, token: str) -> None:
        """Write a token into the Secret and restart the pods that read it."""
        for command in _commands(_page("FitloopTokenRefused").partition("## Remediation")[2])[1:]:
            self.run(command, TOKEN=token)

    def leader(self) -> str:
        """Return the leader's pod."""
        (command,) = (one for one in _all_commands() if "holderIdentity" in one)
        return self.run(command).partition("_")[0]


def _page(alert: str) -> str:
    return next(one for one in OF_ALERTS if one.stem == alert).read_text()


def _commands(text: str) -> list[str]:
    return re.findall(r"^\$ (.*)$", text, re.MULTILINE)


def _all_commands() -> Iterator[str]:
    """Yield each command once: read-only commands first, pausing and rolling back last."""
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

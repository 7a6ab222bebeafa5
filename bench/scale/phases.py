"""One size: an adapter leads a bucket of release 0.1.0, Label Studio fails in several ways, another adapter takes over."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.result import say
from bench.scale import measures
from bench.scale.content import Content
from bench.scale.figures import Found
from bench.scale.world import Child, World, world

STATES = ("healthy", "hanging", "failing", "html", "slow")
PHASES = ("rest", "events", "flood", "states", "follow", "again")
_COMMANDS = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """One size, and what is measured."""

    content: Content
    bucket_seconds: float = 0.005
    studio_seconds: float = 0.1
    window: float = 10.0
    """Seconds of most measurements."""
    limit: float = 60.0
    """Seconds after which a command or an event counts as lost."""
    takeover: float = 180.0
    """Seconds after which a takeover counts as not done."""
    reading: float = 900.0
    """Seconds after which the first read of all labels counts as not done; nothing else is measured before its end."""
    phases: Sequence[str] = PHASES
    states: Sequence[str] = STATES
    profiles: Path | None = None
    """Folder for profiles of the leader's thread, and logs; a profile makes it slower."""

    @property
    def targets(self) -> list[int]:
        """Projects that are given commands, spread over all."""
        projects = self.content.projects
        count = min(_COMMANDS, projects)
        return [1 + number * projects // count for number in range(count)]


def measure(plan: Plan) -> Found:
    """Measure one size."""
    found = Found()
    with world(plan.content, plan.bucket_seconds, plan.studio_seconds) as made:
        say(f"scale: {plan.content.projects} projects")
        session = _Session(plan, made, found, made.start_adapter("adapter-0"))
        session.take_over()
        for phase in PHASES:
            if phase in plan.phases:
                getattr(session, phase)()
        session.keep_logs()
    return found


@dataclass(slots=True)
class _Session:
    plan: Plan
    world: World
    found: Found
    leader: Child

    def take_over(self) -> None:
        plan = self.plan
        with self._profile("takeover"):
            version = f"support-{plan.content.runs - 1}"
            measures.take_over(
                self.world, self.leader, self.found, "takeover of 0.1.0", plan.takeover, version
            )
        with self._profile("first-read"):
            measures.read_labels(self.world, self.leader, self.found, "first read", plan.reading)
        measures.come_to_rest(self.world, self.leader, self.found, plan.reading)

    def rest(self) -> None:
        with self._profile("rest"):
            measures.rest(self.world, self.leader, self.found, 2 * self.plan.window)

    def states(self) -> None:
        """Give commands in each state of Label Studio, and for a project that alone hangs."""
        for state in self.plan.states:
            self._commands(state, self.plan.targets, mode=state)
        one = self.plan.targets[0]
        self._commands("one project hangs", [one], hanging=[one])

    def events(self) -> None:
        measures.settle(self.world, self.leader, self.plan.limit)
        with self._profile("events"):
            measures.events(self.world, self.leader, self.found, self.plan.targets[:10], self.plan.limit)

    def flood(self) -> None:
        measures.settle(self.world, self.leader, self.plan.limit)
        with self._profile("flood"):
            measures.flood(self.world, self.leader, self.found, 100.0, self.plan.window, self.plan.limit)

    def follow(self) -> None:
        follower = self._follower()
        measures.follow(self.world, follower, self.found, "events", self.plan.window)
        self.world.bucket.control("set", hanging=["adapter-1"])
        measures.follow(self.world, follower, self.found, "events, writes hang", self.plan.window)
        self.world.bucket.control("set", hanging=[])

    def again(self) -> None:
        """Kill the leader, and let the follower take over what the leader has left."""
        follower = self._follower()
        now, most = self.leader.memory()
        self.found.add("memory", {"now": round(now), "most": round(most)})
        self.found.add("label studio", self.world.label_studio.control("requests")["requests"])
        self.found.add("bucket", self.world.bucket.control("requests"))
        self.leader.kill()
        version = f"support-{self.plan.content.runs - 2}"
        measures.take_over(self.world, follower, self.found, "takeover", self.plan.takeover, version)

    def keep_logs(self) -> None:
        for log in self.world.folder.glob("*.log") if self.plan.profiles else ():
            assert self.plan.profiles
            (self.plan.profiles / log.name).write_bytes(log.read_bytes())

    def _commands(self, name: str, targets: Sequence[int], **state: object) -> None:
        measures.settle(self.world, self.leader, self.plan.limit)
        self.world.label_studio.control("set", **state)
        with self._profile(name.replace(" ", "-")):
            every = self.plan.window / len(targets)
            measures.commands(self.world, self.leader, self.found, name, targets, every, self.plan.limit)

    def _follower(self) -> Child:
        return (
            self.world.adapters[1] if len(self.world.adapters) > 1 else self.world.start_adapter("adapter-1")
        )

    @contextlib.contextmanager
    def _profile(self, name: str) -> Iterator[None]:
        if self.plan.profiles is None:
            yield
            return
        self.leader.ask("profile")
        yield
        self.plan.profiles.mkdir(parents=True, exist_ok=True)
        (self.plan.profiles / f"{name}.txt").write_text(self.leader.ask("profile"), encoding="utf-8")

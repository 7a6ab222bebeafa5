"""What is measured: takeover, ticks, commands, events, START_TRAINING, followers, memory, requests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from itertools import pairwise

from bench.scale.content import key_of
from bench.scale.figures import NEVER, Found, Spread
from bench.scale.load import at_rate, post
from bench.scale.world import Child, World, carried_out, wait_for

_QUIET_SECONDS, _QUIET_REQUESTS = 2.0, 40.0
"""The leader is at rest once it sends so few requests a second: 20 at rest, hundreds while it reads old runs and sets titles."""


def take_over(world: World, adapter: Child, found: Found, name: str, limit: float, version: str) -> None:
    """Make the adapter lead while a command waits; until it is carried out, and until all projects are read."""
    since, project_id = time.time(), world.content.projects // 2 + 1
    world.give(project_id, version)
    before = requests_of(world, adapter_name(world, adapter))
    led_at = adapter.ask("lead")

    def is_done() -> bool:
        return carried_out(world.served(since), project_id, version, since) is not None

    with contextlib.suppress(TimeoutError):
        wait_for(is_done, limit, "the command", 0.1)
    at = carried_out(world.served(since), project_id, version, since)
    found.add(f"{name}: command", round(at - led_at, 2) if at else NEVER)
    complete_at = 0.0
    while not complete_at and time.time() < led_at + limit:
        time.sleep(0.25)
        complete_at = adapter.ask("report")["complete_at"]
    found.add(f"{name}: complete", round(complete_at - led_at, 2) if complete_at else NEVER)
    asked = requests_of(world, adapter_name(world, adapter)) - before
    found.add(f"{name}: bucket requests", asked)


def read_labels(world: World, adapter: Child, found: Found, name: str, limit: float) -> None:
    """Wait until the labels of all projects have been read for the first time."""
    ticks: list[tuple[float, float]] = []
    end, done, led_at, began = time.time() + limit, 0.0, 0.0, time.time()
    while not done and time.time() < end:
        time.sleep(1.0)
        report = adapter.ask("report")
        ticks += report["ticks"]
        done, led_at = report["labels_at"], report["led_at"]
    found.add(f"{name}: seconds", round(done - led_at, 1) if done else NEVER)
    found.add(f"{name}: ticks", Spread.of([seconds for at, seconds in ticks if at >= began]))
    now, most = adapter.memory()
    found.add(f"{name}: memory", {"now": round(now), "most": round(most)})
    found.add(f"{name}: most requests at once", world.label_studio.control("requests")["most_at_once"])


def come_to_rest(world: World, adapter: Child, found: Found, limit: float) -> None:
    """Wait until the leader has read the old runs of release 0.1.0, and set the titles of all backends."""
    name, began = adapter_name(world, adapter), time.time()

    def asked() -> int:
        studio: dict[str, int] = world.label_studio.control("requests")["requests"]
        return requests_of(world, name) + sum(studio.values())

    def is_quiet() -> bool:
        before = asked()
        time.sleep(_QUIET_SECONDS)
        return asked() - before <= _QUIET_REQUESTS * _QUIET_SECONDS

    with contextlib.suppress(TimeoutError):
        wait_for(is_quiet, limit, "rest", 0.1)
    found.add("at rest after: seconds", round(time.time() - began, 1))


def rest(world: World, adapter: Child, found: Found, seconds: float) -> None:
    """Measure ticks, and requests per second, while nothing happens."""
    name = adapter_name(world, adapter)
    adapter.ask("report")
    studio, bucket, cpu = (
        world.label_studio.control("requests"),
        requests_of(world, name),
        adapter.ask("report")["cpu"],
    )
    time.sleep(seconds)
    report = adapter.ask("report")
    later = world.label_studio.control("requests")
    asked = sum(later["requests"].values()) - sum(studio["requests"].values())
    found.add("rest: ticks", Spread.of([took for _, took in report["ticks"]]))
    found.add("rest: label studio requests/s", round(asked / seconds, 2))
    found.add("rest: bucket requests/s", round((requests_of(world, name) - bucket) / seconds, 2))
    found.add("rest: cpu share", round((report["cpu"] - cpu) / seconds, 3))


def commands(
    world: World,
    adapter: Child,
    found: Found,
    name: str,
    targets: Sequence[int],
    every: float,
    limit: float,
) -> None:
    """Give one command each for these projects, at intervals; measure how long each takes, and the ticks meanwhile."""
    tables = world.served(0.0)
    current = dict(tables[-1][1]) if tables else {}
    given: list[tuple[int, str, float]] = []
    adapter.ask("report")
    began = time.time()
    for project_id in targets:
        version = other_version(world, current, project_id)
        current[key_of(project_id)] = version
        given.append((project_id, version, world.give(project_id, version)))
        time.sleep(every)

    def are_done() -> bool:
        tables = world.served(began)
        return all(carried_out(tables, *one) is not None for one in given)

    with contextlib.suppress(TimeoutError):
        wait_for(are_done, limit, "commands", 0.2)
    tables = world.served(began)
    took = [(carried_out(tables, *one) or NEVER) - one[2] for one in given]
    found.add(f"commands, {name}", Spread.of(took))
    ticks = [seconds for _, seconds in adapter.ask("report")["ticks"]]
    found.add(f"ticks, {name}", Spread.of(ticks))


def settle(world: World, adapter: Child, limit: float) -> None:
    """Let Label Studio answer again, and wait until the leader has noticed it for every project."""
    world.label_studio.control("set", mode="healthy", hanging=[])
    adapter.ask("report")

    def is_well() -> bool:
        report = adapter.ask("report")
        return bool(report["ticks"]) and not report["problems"]

    with contextlib.suppress(TimeoutError):
        wait_for(is_well, limit, "every project", 0.5)


def other_version(world: World, current: dict[str, str], project_id: int) -> str:
    """Return a version that the project does not serve."""
    runs = world.content.runs
    served = current.get(key_of(project_id), f"support-{runs}")
    return f"support-{runs - 1}" if served == f"support-{runs}" else f"support-{runs}"


def events(world: World, adapter: Child, found: Found, targets: Sequence[int], limit: float) -> None:
    """Label tasks, send the event, and measure until the run is requested."""
    world.label_studio.control("label", projects=list(targets), count=12)
    sent = {}
    for project_id in targets:
        body = {"action": "ANNOTATION_CREATED", "project": {"id": project_id}}
        adapter.client.post(f"{adapter.url}/webhook", json=body).raise_for_status()
        sent[project_id] = time.time()
        time.sleep(0.1)

    def requested() -> dict[int, float]:
        written = world.bucket.control("written", prefix="runs/")
        found_at: dict[int, float] = {}
        for key, at in written.items():
            name, _, document = key.removeprefix("runs/").partition("/")
            project_id = int(name.partition("-")[0])
            if document == "request.json" and at >= sent.get(project_id, NEVER) - 1:
                found_at[project_id] = min(at, found_at.get(project_id, NEVER))
        return found_at

    with contextlib.suppress(TimeoutError):
        wait_for(lambda: len(requested()) >= len(targets), limit, "runs", 0.5)
    at = requested()
    took = [at.get(project_id, NEVER) - sent[project_id] for project_id in targets]
    found.add("event to run requested", Spread.of(took))


def flood(world: World, adapter: Child, found: Found, rate: float, seconds: float, limit: float) -> None:
    """Send START_TRAINING at a rate over all projects; measure answers, the leader's requests, and the time to the end."""
    name = adapter_name(world, adapter)
    before = requests_of(world, name)
    adapter.ask("report")

    def send(number: int) -> bool:
        project_id = number % world.content.projects + 1
        return post(adapter.port, {"action": "START_TRAINING", "project": {"id": project_id}}) == 200

    answers = at_rate(send, rate, seconds)
    good = sum(ok and took <= 1.0 for ok, took in answers)
    found.add("START_TRAINING: share answered 200 within 1 s", good / len(answers))
    began = time.time()
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: world.waiting() == 0, limit, "the inbox", 0.25)
    found.add(
        "START_TRAINING: seconds until handled",
        round(time.time() - began, 1) if not world.waiting() else NEVER,
    )
    found.add("START_TRAINING: left in the inbox", world.waiting())
    asked = requests_of(world, name) - before
    found.add("START_TRAINING: bucket requests per command", round(asked / max(1, len(answers)), 2))
    ticks = [took for _, took in adapter.ask("report")["ticks"]]
    found.add("START_TRAINING: ticks", Spread.of(ticks))


def follow(world: World, follower: Child, found: Found, name: str, seconds: float) -> None:
    """Send events of all projects to a follower; measure its intervals between reads of serving.json."""
    follower.ask("report")

    def send(number: int) -> bool:
        project_id = number % world.content.projects + 1
        return post(follower.port, {"action": "ANNOTATION_UPDATED", "project": {"id": project_id}}) == 200

    at_rate(send, 100.0, seconds)
    time.sleep(1.0)
    readings = follower.ask("report")["readings"]
    now = time.time()
    gaps = [later - earlier for earlier, later in pairwise([*readings, now])]
    found.add(f"follower's reads, {name}", Spread.of(gaps))


def requests_of(world: World, client: str) -> int:
    """Return how many requests the bucket had from one client."""
    asked: dict[str, int] = world.bucket.control("requests")
    return sum(count for name, count in asked.items() if name.startswith(f"{client} "))


def adapter_name(world: World, adapter: Child) -> str:
    return f"adapter-{world.adapters.index(adapter)}"

"""What is known of objects while the API works, stutters and is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from services.cluster import client, informer
from services.cluster.informer import Informer
from services.core.errors import StoreError
from tests.support.api_server import FakeApiServer, serve_api
from tests.support.waiting import eventually


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with serve_api(FakeApiServer()) as running:
        yield running


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(informer, "_MIN_PAUSE", 0.05)
    monkeypatch.setattr(informer, "_MAX_PAUSE", 0.1)


def lease(name: str, **spec: object) -> dict[str, object]:
    return {"kind": "Lease", "metadata": {"name": name, "labels": {"x": "1"}}, "spec": spec}


@pytest.fixture
def bell() -> threading.Event:
    return threading.Event()


@pytest.fixture
def mirror(api: FakeApiServer, bell: threading.Event) -> Iterator[Informer]:
    made = Informer(api.kube(), "lease", "x=1", bell.set)
    yield made
    made.close()


def names(mirror: Informer) -> set[str]:
    return {one["metadata"]["name"] for one in mirror.all()}


def test_lists_then_follows_changes(api: FakeApiServer, mirror: Informer, bell: threading.Event) -> None:
    api.put("leases", lease("a"))
    assert not mirror.listed.is_set()
    mirror.start()
    assert mirror.listed.wait(5)
    assert names(mirror) == {"a"}
    bell.wait(5)
    bell.clear()
    api.put("leases", lease("b"))
    eventually(lambda: names(mirror) == {"a", "b"})
    assert bell.wait(5)
    api.put("leases", lease("b", holderIdentity="me"))
    eventually(lambda: (mirror.get("b") or {}).get("spec"))
    api.remove("leases", "a")
    eventually(lambda: names(mirror) == {"b"})
    assert api.count_requests("GET", "leases") == 2  # one list, one watch
    assert mirror.error == ""


def test_watch_resumes_after_a_disconnect(api: FakeApiServer, mirror: Informer) -> None:
    mirror.start()
    assert mirror.listed.wait(5)
    eventually(lambda: api.count_requests("GET", "leases") == 2)
    api.cut += 1
    api.put("leases", lease("a"))
    eventually(lambda: names(mirror) == {"a"})
    lists = [query for _, _, query in api.asked if "watch" not in query]
    assert len(lists) == 1


def test_expired_version_lists_again(api: FakeApiServer, mirror: Informer) -> None:
    mirror.start()
    assert mirror.listed.wait(5)
    eventually(lambda: api.count_requests("GET", "leases") == 2)
    api.put("leases", lease("a"))
    eventually(lambda: names(mirror) == {"a"})
    api.objects.clear()
    api.version += 1000
    api.log.clear()
    api.oldest = api.version
    api.cut += 1
    eventually(lambda: names(mirror) == set())


def test_unreachable_api_keeps_known_objects(api: FakeApiServer, bell: threading.Event) -> None:
    other = FakeApiServer()
    with serve_api(other):
        mirror = Informer(other.kube(), "lease", "x=1", bell.set)
        other.put("leases", lease("a"))
        mirror.start()
        assert mirror.listed.wait(5)
    eventually(lambda: "does not answer" in mirror.error)
    assert names(mirror) == {"a"}
    other.put("leases", lease("b"))
    with serve_api(other):
        eventually(lambda: names(mirror) == {"a", "b"})
        eventually(lambda: not mirror.error)
        mirror.close()


def test_lists_again_periodically(
    api: FakeApiServer, mirror: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that never came is made up for."""
    monkeypatch.setattr(client, "WATCH_SECONDS", 0)
    monkeypatch.setattr(informer, "WATCH_SECONDS", 0)
    mirror.start()
    assert mirror.listed.wait(5)
    with api.lock:
        api.put("leases", lease("a"))
        api.log.clear()
    eventually(lambda: names(mirror) == {"a"})


def test_forbidden_is_reported_and_retried(api: FakeApiServer, mirror: Informer) -> None:
    api.faults += [("GET", 403, {})] * 2
    mirror.start()
    eventually(lambda: "refused" in mirror.error)
    assert mirror.listed.wait(5)
    eventually(lambda: not mirror.error)


def test_watch_survives_store_and_unexpected_errors(api: FakeApiServer, bell: threading.Event) -> None:
    failures: list[Exception] = [StoreError("gone"), RuntimeError("slip")]
    listed: list[int] = []

    def on_list() -> None:
        listed.append(1)
        if failures:
            raise failures.pop(0)

    mirror = Informer(api.kube(), "lease", "x=1", bell.set, on_list)
    mirror.start()
    eventually(lambda: api.count_requests("GET", "leases") >= 2)
    api.oldest = 10_000
    api.cut += 1
    eventually(lambda: len(listed) >= 3)
    mirror.close()

"""The informer's copy while the API works, stutters and is unreachable."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from services.cluster import client
from services.cluster import informer as module
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
    monkeypatch.setattr(module, "_MIN_PAUSE", 0.05)
    monkeypatch.setattr(module, "_MAX_PAUSE", 0.1)


def build_lease(name: str, **spec: object) -> dict[str, object]:
    return {"kind": "Lease", "metadata": {"name": name, "labels": {"x": "1"}}, "spec": spec}


@pytest.fixture
def wakeup() -> threading.Event:
    return threading.Event()


@pytest.fixture
def informer(api: FakeApiServer, wakeup: threading.Event) -> Iterator[Informer]:
    made = Informer(api.kube(), "lease", "x=1", wakeup.set)
    yield made
    made.close()


def names(informer: Informer) -> set[str]:
    return {one["metadata"]["name"] for one in informer.all()}


def test_lists_then_follows_changes(api: FakeApiServer, informer: Informer, wakeup: threading.Event) -> None:
    api.put("leases", build_lease("a"))
    assert not informer.listed.is_set()
    informer.start()
    assert informer.listed.wait(5)
    assert names(informer) == {"a"}
    wakeup.wait(5)
    wakeup.clear()
    api.put("leases", build_lease("b"))
    eventually(lambda: names(informer) == {"a", "b"})
    assert wakeup.wait(5)
    api.put("leases", build_lease("b", holderIdentity="me"))
    eventually(lambda: (informer.get("b") or {}).get("spec"))
    api.remove("leases", "a")
    eventually(lambda: names(informer) == {"b"})
    assert api.count_requests("GET", "leases") == 2  # one list, one watch
    assert informer.error == ""


def test_watch_resumes_after_a_disconnect(api: FakeApiServer, informer: Informer) -> None:
    informer.start()
    assert informer.listed.wait(5)
    eventually(lambda: api.count_requests("GET", "leases") == 2)
    api.cut += 1
    api.put("leases", build_lease("a"))
    eventually(lambda: names(informer) == {"a"})
    lists = [query for _, _, query in api.asked if "watch" not in query]
    assert len(lists) == 1


def test_expired_version_lists_again(api: FakeApiServer, informer: Informer) -> None:
    informer.start()
    assert informer.listed.wait(5)
    eventually(lambda: api.count_requests("GET", "leases") == 2)
    api.put("leases", build_lease("a"))
    eventually(lambda: names(informer) == {"a"})
    api.objects.clear()
    api.version += 1000
    api.log.clear()
    api.oldest = api.version
    api.cut += 1
    eventually(lambda: names(informer) == set())


def test_unreachable_api_keeps_known_objects(api: FakeApiServer, wakeup: threading.Event) -> None:
    other = FakeApiServer()
    with serve_api(other):
        informer = Informer(other.kube(), "lease", "x=1", wakeup.set)
        other.put("leases", build_lease("a"))
        informer.start()
        assert informer.listed.wait(5)
    eventually(lambda: "does not answer" in informer.error)
    assert names(informer) == {"a"}
    other.put("leases", build_lease("b"))
    with serve_api(other):
        eventually(lambda: names(informer) == {"a", "b"})
        eventually(lambda: not informer.error)
        informer.close()


def test_lists_again_periodically(
    api: FakeApiServer, informer: Informer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list makes up for a lost event."""
    monkeypatch.setattr(client, "WATCH_SECONDS", 0)
    monkeypatch.setattr(module, "WATCH_SECONDS", 0)
    informer.start()
    assert informer.listed.wait(5)
    with api.lock:
        api.put("leases", build_lease("a"))
        api.log.clear()
    eventually(lambda: names(informer) == {"a"})


def test_forbidden_is_reported_and_retried(api: FakeApiServer, informer: Informer) -> None:
    api.faults += [("GET", 403, {})] * 2
    informer.start()
    eventually(lambda: "refused" in informer.error)
    assert informer.listed.wait(5)
    eventually(lambda: not informer.error)


def test_watch_survives_store_and_unexpected_errors(api: FakeApiServer, wakeup: threading.Event) -> None:
    failures: list[Exception] = [StoreError("gone"), RuntimeError("bug")]
    listed: list[int] = []

    def on_list() -> None:
        listed.append(1)
        if failures:
            raise failures.pop(0)

    informer = Informer(api.kube(), "lease", "x=1", wakeup.set, on_list)
    informer.start()
    eventually(lambda: api.count_requests("GET", "leases") >= 2)
    api.oldest = 10_000
    api.cut += 1
    eventually(lambda: len(listed) >= 3)
    informer.close()

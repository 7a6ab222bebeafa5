"""Candidates for one Lease that lives in memory, each with a clock of its own."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.cluster.client import ClusterError, Document
from services.cluster.lease import LeaseLeadership


@dataclass
class FakeKube:
    """One object with versions; `away` makes every request fail."""

    namespace: str = "here"
    timeout: tuple[float, float] = (1.0, 1.0)
    tries: int = 1
    shared: dict[str, Any] = field(default_factory=lambda: {"lease": None, "version": 0})
    away: bool = False
    after_get: Any = None
    may_create: bool = True

    def get(self, kind: str, name: str) -> Document | None:
        self._ask()
        found = copy.deepcopy(self.shared["lease"])
        if self.after_get:
            after, self.after_get = self.after_get, None
            after()
        return found  # type: ignore[no-any-return]  # a document

    def create(self, kind: str, body: Document) -> Document:
        self._ask()
        if not self.may_create:
            raise ClusterError("forbidden", 403)
        if self.shared["lease"]:
            raise ClusterError("there", 409)
        return self._put(body)

    def replace(self, kind: str, name: str, body: Document) -> Document:
        self._ask()
        if body["metadata"].get("resourceVersion") != self.shared["lease"]["metadata"]["resourceVersion"]:
            raise ClusterError("changed", 409)
        return self._put(body)

    def _put(self, body: Document) -> Document:
        self.shared["version"] += 1
        made = copy.deepcopy(body)
        made["metadata"]["resourceVersion"] = str(self.shared["version"])
        self.shared["lease"] = made
        return made

    def _ask(self) -> None:
        if self.away:
            raise ClusterError("away")


class Candidate:
    """One process with a clock of its own, which started at another time than the others'."""

    def __init__(
        self,
        shared: dict[str, Any],
        name: str,
        began: float = 0.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.now = began
        self.lease = LeaseLeadership(FakeKube(shared=shared), "fitloop", name, clock or (lambda: self.now))  # type: ignore[arg-type]  # as much of Kube as is used
        self.kube: FakeKube = self.lease.kube  # type: ignore[assignment]  # a copy of it

    def turn(self) -> bool:
        with contextlib.suppress(ClusterError):
            self.lease.acquire_or_renew()
        return self.lease.leads()

"""HTTP to a running adapter, for the commands of `services.cli.admin`. Every failure is a FitloopError with a sentence."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from services.core.errors import BadConfig, BadRequest, FitloopError
from services.core.http.faults import describe_fault_briefly
from services.core.http.limits import GZIP_ONLY, ResponseTooLarge, limit_response
from services.core.redaction import mask, redact

if TYPE_CHECKING:
    from services.cluster.client import Document
    from services.cluster.inspect import Inspector

_SECONDS = 10.0

_LARGEST = 64 << 20
"""Bytes of an answer; 500 projects have 1 MB."""


@dataclass(frozen=True, slots=True)
class AdapterClient:
    """The adapter at `url`, asked with Basic auth where there is a password."""

    url: str
    user: str = ""
    password: str = ""

    def projects(self) -> list[dict[str, Any]]:
        """All projects that it knows, by id."""
        found = self._ask("GET", "/api/projects").get("projects")
        if not isinstance(found, list):
            raise self._is_another()
        return found

    def project(self, project: int) -> dict[str, Any]:
        """One project, with its versions and runs."""
        return self._ask("GET", f"/api/projects/{project}")

    def send_command(self, project: int, action: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask for an action; the answer comes when the wish is stored, before it is carried out."""
        return self._ask("POST", f"/api/projects/{project}/{action}", body)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        auth = (self.user, self.password) if self.password else None
        try:
            with _client() as client:
                answer = client.request(method, self.url.rstrip("/") + path, json=body, auth=auth)
        except ResponseTooLarge as error:
            raise FitloopError(
                f"What {self._shown} answered {error}: check --url and FITLOOP_URL."
            ) from error
        except httpx.HTTPError as error:
            raise FitloopError(
                f"Fitloop at {self._shown} does not answer ({describe_fault_briefly(error)}): start it with `fitloop local`, or name its address "
                "with --url or FITLOOP_URL."
            ) from error
        if answer.is_success:
            return self._json(answer)
        raise _refusal(self._shown, answer)

    @property
    def _shown(self) -> str:
        return mask(self.url)

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            found = answer.json()
        except json.JSONDecodeError as error:
            raise self._is_another() from error
        if not isinstance(found, dict):
            raise self._is_another()
        return found

    def _is_another(self) -> FitloopError:
        return FitloopError(f"What answers at {self._shown} is not Fitloop: check --url and FITLOOP_URL.")


def _client() -> httpx.Client:
    return httpx.Client(
        timeout=_SECONDS, headers=GZIP_ONLY, event_hooks={"response": [limit_response(_LARGEST)]}
    )


def connect(url: str, environment: Mapping[str, str]) -> AdapterClient:
    """The adapter at the address, with the credentials of the environment. Raises BadConfig that repeats no password."""
    from services.core.settings.group import http_url, trim

    try:
        found = http_url(trim(url), login=True)
    except ValueError as error:
        shown = redact(url)
        raise BadConfig(f"{shown!r} is no address: write --url http://host:9090 ({error}).") from error
    return AdapterClient(
        found, *(_credential(name, environment) for name in ("BASIC_AUTH_USER", "BASIC_AUTH_PASS"))
    )


def _credential(name: str, environment: Mapping[str, str]) -> str:
    from services.core.settings.group import Inside, trim, value_problem

    found = trim(environment.get(name, ""), Inside.EXACT)
    if problem := value_problem(found, Inside.EXACT):
        raise BadConfig(f"{name}: {problem}.")
    return found


def _refusal(url: str, answer: httpx.Response) -> FitloopError:
    if answer.status_code in {401, 403}:
        return BadConfig(
            f"Fitloop at {url} refused the credentials: set BASIC_AUTH_USER and BASIC_AUTH_PASS as they are set there."
        )
    sentence = _sentence(answer)
    if answer.status_code == 404:
        return BadRequest(
            sentence or f"Fitloop at {url} knows nothing of that: `fitloop status` lists its projects."
        )
    if answer.status_code == 503:
        return FitloopError(sentence or f"Fitloop at {url} is still starting: try again in a few seconds.")
    return FitloopError(
        sentence or f"Fitloop at {url} answered with status {answer.status_code}: see its log."
    )


def _sentence(answer: httpx.Response) -> str:
    """What the adapter says is wrong, where it says something."""
    try:
        found = answer.json()
    except json.JSONDecodeError:
        return ""
    detail = found.get("detail") if isinstance(found, dict) else ""
    # A bare "Not Found" is a router's, and helps nobody.
    return detail if isinstance(detail, str) and " " in detail and detail != "Not Found" else ""


PORT, MANAGEMENT = 9090, 9091

_SELECTOR = "app.kubernetes.io/component=adapter,app.kubernetes.io/part-of=fitloop"

_SAMPLE = re.compile(r"^(\w+\{[^}]*\}) ([0-9.e+]+)$", re.MULTILINE)

_PROBE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Adapters:
    """Without an inspector: the one process at `url`."""

    url: str
    login: tuple[str, str] | None = None
    inspector: Inspector | None = None
    release: str = ""
    in_pod: bool = False
    """Whether pods are reached at their own addresses."""

    def pods(self) -> list[Document]:
        """Those of the release that run. Raises ClusterError."""
        assert self.inspector is not None  # noqa: S101  # for the type checker: asked on a cluster alone
        account = f"{self.release}-adapter"
        return [
            pod
            for pod in self.inspector.kube.pods(_SELECTOR)
            if pod["spec"].get("serviceAccountName") == account
            and pod["status"].get("phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def counters(self) -> Counter[str]:
        """What all of them have counted, by metric with labels. Raises FitloopError."""
        total: Counter[str] = Counter()
        for text in self._each("/metrics", MANAGEMENT):
            total.update({name: int(float(value)) for name, value in _SAMPLE.findall(text)})
        return total

    def releases(self) -> dict[str, str]:
        """By pod: which release answers. Raises FitloopError."""
        return {
            str(pod["metadata"]["name"]): str(
                _parsed(self.fetch(pod, PORT, "/health")).get("version", "an older one")
            )
            for pod in self.pods()
        }

    def get_object(self, path: str) -> dict[str, Any]:
        """A JSON object from one of them; {} where it knows nothing of that. Raises FitloopError."""
        if self.inspector is None or self.in_pod:
            url = self.url if self.inspector is None else f"http://127.0.0.1:{PORT}"
            return _parsed(_get(url + path, self.login))
        pods = self.pods()
        return _parsed(self.fetch(pods[0], PORT, path)) if pods else {}

    def fetch(self, pod: Document, port: int, path: str) -> str:
        """What a pod answers. Raises FitloopError."""
        if self.in_pod:
            address = str(pod["status"].get("podIP") or "")
            host = f"[{address}]" if ":" in address else address
            return _get(f"http://{host}:{port}{path}", self.login if port == PORT else None)
        assert self.inspector is not None  # noqa: S101  # as above
        return self.inspector.proxied(str(pod["metadata"]["name"]), port, path)

    def _each(self, path: str, port: int) -> list[str]:
        if self.inspector is None:
            return [_get(self.url + path, self.login)]
        pods = self.pods()
        if not pods:
            raise FitloopError(
                f"No adapter pod of release {self.release} is running: see `kubectl get pods`."
            )
        return [self.fetch(pod, port, path) for pod in pods]


def _get(url: str, login: tuple[str, str] | None) -> str:
    try:
        answer = httpx.get(url, auth=login, timeout=_PROBE_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FitloopError(
            f"Fitloop does not answer ({describe_fault_briefly(error)}): does it run, and is FITLOOP_URL its address?"
        ) from error
    if answer.status_code in {401, 403}:
        raise FitloopError(
            "Fitloop refused the credentials: set BASIC_AUTH_USER and BASIC_AUTH_PASS as they are set there."
        )
    return answer.text if answer.status_code != httpx.codes.NOT_FOUND else "{}"


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise FitloopError("What answers is not Fitloop: is FITLOOP_URL its address?") from error
    return found if isinstance(found, dict) else {}

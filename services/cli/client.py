"""HTTP clients of running adapters: `AdapterClient` for commands, `Adapters` for the doctor. All errors are FitloopErrors."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from services.core.errors import BadConfig, BadRequest, FitloopError
from services.core.http.faults import describe_fault_briefly
from services.core.http.limits import GZIP_ONLY, ResponseTooLarge, limit_response
from services.core.redaction import mask, redact

if TYPE_CHECKING:
    from services.cluster.client import Document
    from services.cluster.inspect import Inspector

ADAPTER_PORT, MANAGEMENT_PORT = 9090, 9091
_COMMAND_SECONDS, _PROBE_SECONDS = 10.0, 3.0
_MAX_BYTES = 64 << 20
"""Of an answer; 500 projects need 1 MB."""
_SET_CREDENTIALS = "set BASIC_AUTH_USER and BASIC_AUTH_PASS to the values that it was started with."
_SELECTOR = "app.kubernetes.io/component=adapter,app.kubernetes.io/part-of=fitloop"
_SAMPLE = re.compile(r"^(\w+\{[^}]*\}) ([0-9.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class AdapterClient:
    """A client of the adapter at `url`, with Basic auth if there is a password."""

    url: str
    user: str = ""
    password: str = ""

    def projects(self) -> list[dict[str, Any]]:
        found = self._ask("GET", "/api/projects").get("projects")
        if not isinstance(found, list):
            raise self._not_fitloop()
        return found

    def encoders(self) -> list[dict[str, Any]]:
        """Return what the leader has seen below encoders/."""
        found = self._ask("GET", "/api/encoders").get("encoders")
        if not isinstance(found, list):
            raise self._not_fitloop()
        return found

    def project(self, project: int) -> dict[str, Any]:
        """Return one project with its versions and runs."""
        return self._ask("GET", f"/api/projects/{project}")

    def report(self, project: int, version: str) -> dict[str, Any]:
        """Return a version's report, with what it comes to."""
        return self._ask("GET", f"/api/projects/{project}/versions/{quote(version, safe='')}/report")

    def send_command(self, project: int, action: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send a command. It is answered once it is stored, before it is carried out."""
        return self._ask("POST", f"/api/projects/{project}/{action}", body)

    def collect_garbage(self, project: int, *, dry_run: bool) -> str:
        """Send a GC command, for all projects if `project` is 0; return its id."""
        answer = self._ask("POST", "/api/gc", {"project": project, "dry_run": dry_run})
        return str(answer.get("command", ""))

    def gc_report(self, command: str) -> dict[str, Any] | None:
        """Return what the command has deleted; None before it has been carried out."""
        try:
            return self._ask("GET", f"/api/gc/{command}")
        except BadRequest:
            return None

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        auth = (self.user, self.password) if self.password else None
        try:
            with httpx.Client(
                timeout=_COMMAND_SECONDS,
                headers=GZIP_ONLY,
                event_hooks={"response": [limit_response(_MAX_BYTES)]},
            ) as client:
                answer = client.request(method, self.url.rstrip("/") + path, json=body, auth=auth)
        except ResponseTooLarge as error:
            raise FitloopError(
                f"The answer of {self._safe_url} {error}: check --url and FITLOOP_URL."
            ) from error
        except httpx.HTTPError as error:
            raise FitloopError(
                f"Fitloop at {self._safe_url} does not answer ({describe_fault_briefly(error)}): start it with `fitloop local`, or pass its "
                "address with --url or FITLOOP_URL."
            ) from error
        if answer.is_success:
            return self._json(answer)
        raise _refusal(self._safe_url, answer)

    @property
    def _safe_url(self) -> str:
        return mask(self.url)

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            found = answer.json()
        except json.JSONDecodeError as error:
            raise self._not_fitloop() from error
        if not isinstance(found, dict):
            raise self._not_fitloop()
        return found

    def _not_fitloop(self) -> FitloopError:
        return FitloopError(f"The server at {self._safe_url} is not Fitloop: check --url and FITLOOP_URL.")


def connect(url: str, environment: Mapping[str, str]) -> AdapterClient:
    """Return a client with the credentials of the environment. Raises BadConfig, which repeats no password."""
    from services.core.settings.group import http_url, trim

    try:
        found = http_url(trim(url), login=True)
    except ValueError as error:
        shown = redact(url)
        raise BadConfig(f"{shown!r} is not a valid address: use --url http://host:9090 ({error}).") from error
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
        return BadConfig(f"Fitloop at {url} refused the credentials: {_SET_CREDENTIALS}")
    detail = _detail(answer)
    if answer.status_code == 404:
        return BadRequest(
            detail or f"Fitloop at {url} does not know that: `fitloop status` lists its projects."
        )
    if answer.status_code == 503:
        return FitloopError(detail or f"Fitloop at {url} is still starting: try again in a few seconds.")
    return FitloopError(detail or f"Fitloop at {url} answered with status {answer.status_code}: see its log.")


def _detail(answer: httpx.Response) -> str:
    """Return the adapter's own error message, or ""."""
    try:
        found = answer.json()
    except json.JSONDecodeError:
        return ""
    detail = found.get("detail") if isinstance(found, dict) else ""
    # A bare "Not Found" is the router's, and does not help.
    return detail if isinstance(detail, str) and " " in detail and detail != "Not Found" else ""


@dataclass(frozen=True, slots=True)
class Adapters:
    """The adapters of a release; without an inspector, the one process at `url`."""

    url: str
    login: tuple[str, str] | None = None
    inspector: Inspector | None = None
    release: str = ""
    in_pod: bool = False
    """Whether this runs in a pod, which reaches other pods at their own addresses."""

    def pods(self) -> list[Document]:
        """Return the release's running pods. Raises ClusterError."""
        assert self.inspector is not None  # noqa: S101  # for the type checker: only called on a cluster
        account = f"{self.release}-adapter"
        return [
            pod
            for pod in self.inspector.kube.pods(_SELECTOR)
            if pod["spec"].get("serviceAccountName") == account
            and pod["status"].get("phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
        ]

    def counters(self) -> Counter[str]:
        """Return the sum of all adapters' counters, by metric and labels. Raises FitloopError."""
        total: Counter[str] = Counter()
        for text in self._each("/metrics", MANAGEMENT_PORT):
            total.update({name: int(float(value)) for name, value in _SAMPLE.findall(text)})
        return total

    def releases(self) -> dict[str, str]:
        """Return the release of Fitloop that each pod runs. Raises FitloopError."""
        return {
            str(pod["metadata"]["name"]): str(
                _parsed(self.fetch(pod, ADAPTER_PORT, "/health")).get("version", "older")
            )
            for pod in self.pods()
        }

    def get_object(self, path: str) -> dict[str, Any]:
        """Return a JSON object from one adapter, or {} if it has none. Raises FitloopError."""
        if self.inspector is None or self.in_pod:
            url = self.url if self.inspector is None else f"http://127.0.0.1:{ADAPTER_PORT}"
            return _parsed(_get(url + path, self.login))
        pods = self.pods()
        return _parsed(self.fetch(pods[0], ADAPTER_PORT, path)) if pods else {}

    def fetch(self, pod: Document, port: int, path: str) -> str:
        """Return a pod's answer. Raises FitloopError."""
        if self.in_pod:
            address = str(pod["status"].get("podIP") or "")
            host = f"[{address}]" if ":" in address else address
            return _get(f"http://{host}:{port}{path}", self.login if port == ADAPTER_PORT else None)
        assert self.inspector is not None  # noqa: S101  # as above
        return self.inspector.get_from_pod(str(pod["metadata"]["name"]), port, path)

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
            f"Fitloop does not answer ({describe_fault_briefly(error)}): check that it runs, and that FITLOOP_URL is its address."
        ) from error
    if answer.status_code in {401, 403}:
        raise FitloopError(f"Fitloop refused the credentials: {_SET_CREDENTIALS}")
    return answer.text if answer.status_code != httpx.codes.NOT_FOUND else "{}"


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise FitloopError(
            "The server that answers is not Fitloop: check that FITLOOP_URL is its address."
        ) from error
    return found if isinstance(found, dict) else {}

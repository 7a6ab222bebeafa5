"""The Kubernetes API as this package uses it: plain dicts, a timeout on every call, errors that say what to do.

The official client's typed models change with each release; plain documents do not. Idempotent requests are retried, for a
second at most, if the API is busy or a connection is lost; creating an object is not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubernetes import client, config
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as RequestTimeout

from services.cluster import metrics
from services.core.errors import BadConfig, FitloopError
from services.core.http.faults import describe_fault_briefly
from services.core.redaction import redact, safe_reason

Document = dict[str, Any]
TIMEOUT_SECONDS: Final = (3.05, 10.0)
"""Connect and read timeout."""
WATCH_SECONDS: Final = 60
"""After which the server ends a watch, and all objects are listed again."""
_WATCH_TIMEOUT_SECONDS: Final = 75
"""Without an event or bookmark for this long, a watch has lost its connection unnoticed."""
_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
KINDS: Final = {
    "job": ("batch", "v1", "jobs"),
    "lease": ("coordination.k8s.io", "v1", "leases"),
    "deployment": ("apps", "v1", "deployments"),
    "inferenceservice": ("serving.kserve.io", "v1beta1", "inferenceservices"),
    "event": ("events.k8s.io", "v1", "events"),
    "pod": ("", "v1", "pods"),
}
_RETRYABLE: Final = frozenset({429, 500, 502, 503, 504})
_TRIES: Final = 3
_MAX_PAUSE: Final = 1.0


class ClusterError(FitloopError):
    """The Kubernetes API refused, or did not answer (status 0)."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Kube:
    """Client of one namespace. Every method raises ClusterError."""

    namespace: str
    _custom: client.CustomObjectsApi
    _core: client.CoreV1Api
    timeout: tuple[float, float] = TIMEOUT_SECONDS
    tries: int = _TRIES

    def get(self, kind: str, name: str) -> Document | None:
        """Return the object; None if there is none."""
        try:
            return self._request_object("get", kind, self._custom.get_namespaced_custom_object, name)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def items(self, kind: str, selector: str) -> tuple[list[Document], str]:
        """Return the objects that match the label selector, and the list's version to watch from."""
        answer: Any = self._request("list", kind, self._lister(), label_selector=selector)
        listed = json.loads(answer.data)
        return list(listed["items"]), str(listed["metadata"]["resourceVersion"])

    def pods(self, selector: str) -> list[Document]:
        return self.items("pod", selector)[0]

    def create(self, kind: str, body: Document, **options: Any) -> Document:
        """Create an object; status 409 if the name is taken. Not retried: the caller knows what creating twice means."""
        return self._request_object(
            "create", kind, self._custom.create_namespaced_custom_object, body, tries=1, **options
        )

    def replace(self, kind: str, name: str, body: Document) -> Document:
        """Replace the object; status 409 if it changed since `body` was read."""
        return self._request_object(
            "update", kind, self._custom.replace_namespaced_custom_object, name, body, tries=1
        )

    def patch(self, kind: str, name: str, body: Document) -> Document:
        """Apply a merge patch."""
        return self._request_object("patch", kind, self._custom.patch_namespaced_custom_object, name, body)

    def delete(self, kind: str, name: str) -> None:
        """Delete the object and, in the background, what it owns, if it exists."""
        try:
            self._request(
                "delete",
                kind,
                self._custom.delete_namespaced_custom_object,
                name,
                propagation_policy="Background",
            )
        except ClusterError as error:
            if error.status != 404:
                raise

    def watch(self, kind: str, selector: str, version: str) -> Iterator[Document]:
        """Yield events after that version until the server ends the watch. Status 410 if the version is too old."""
        answer: Any = self._request(
            "watch",
            kind,
            self._lister(),
            tries=1,
            label_selector=selector,
            resource_version=version,
            watch=True,
            allow_watch_bookmarks=True,
            timeout_seconds=WATCH_SECONDS,
            _request_timeout=(self.timeout[0], _WATCH_TIMEOUT_SECONDS),
        )
        try:
            for line in _lines(answer):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise ClusterError(
                        f"The watch of {kind}s ended: {status.get('message')}", int(status.get("code") or 0)
                    )
                yield event
        except (HTTPError, OSError, ValueError, KeyError) as error:
            raise ClusterError(
                f"The Kubernetes API closed the watch of {kind}s ({describe_fault_briefly(error)})."
            ) from error
        finally:
            answer.close()  # not returned to the pool: it may be in the middle of a line

    def _lister(self) -> Callable[..., Any]:
        """Return a call that lists or watches. Its answer is not decoded: the client would look for a typed model."""

        def call(*path: Any, **options: Any) -> Any:
            raw: dict[str, Any] = {**options, "_preload_content": False}
            answer: Any = (
                self._custom.list_namespaced_custom_object(*path, **raw)
                if path[0]
                else self._core.list_namespaced_pod(path[2], **raw)
            )
            if answer.status >= 400:  # client versions before 36 raise by themselves
                raise client.ApiException(http_resp=answer)
            return answer

        return call

    def _request_object(
        self, verb: str, kind: str, call: Callable[..., Any], *arguments: Any, **options: Any
    ) -> Document:
        return dict(self._request(verb, kind, call, *arguments, **options))

    def _request(
        self, verb: str, kind: str, call: Callable[..., Any], *arguments: Any, tries: int = 0, **options: Any
    ) -> Any:
        """Return the answer and count the request by its outcome."""
        try:
            answer = self._request_with_retries(verb, kind, call, *arguments, tries=tries, **options)
        except ClusterError as error:
            metrics.count_request(error.status)
            raise
        metrics.count_request(200)
        return answer

    def _request_with_retries(
        self, verb: str, kind: str, call: Callable[..., Any], *arguments: Any, tries: int, **options: Any
    ) -> Any:
        group, version, plural = KINDS[kind]
        options.setdefault("_request_timeout", self.timeout)
        left = tries or self.tries
        while True:
            left -= 1
            try:
                return call(group, version, self.namespace, plural, *arguments, **options)
            except client.ApiException as error:
                if error.status not in _RETRYABLE or not left:
                    raise api_error(verb, kind, self.namespace, error) from error
                pause = _pause(error, left)
            except (HTTPError, OSError) as error:
                if not left or isinstance(error, RequestTimeout | TimeoutError):
                    raise ClusterError(
                        f"The Kubernetes API does not answer ({verb} {plural}: {describe_fault_briefly(error)})."
                    ) from error
                pause = 0.2
            time.sleep(pause)


def connect(namespace: str = "", context: str | None = None) -> Kube:
    """Return a client of the cluster this pod runs in, else of KUBECONFIG's. Sends no request. Raises BadConfig."""
    configuration = client.Configuration()
    configuration.retries = False
    try:
        if _NAMESPACE.exists():
            config.load_incluster_config(client_configuration=configuration)
            namespace = namespace or _NAMESPACE.read_text().strip()
        else:
            config.load_kube_config(client_configuration=configuration, context=context)
    except (config.ConfigException, OSError) as error:
        raise BadConfig(
            f"No Kubernetes cluster is configured ({safe_reason(error)}): run in a pod with a service account token, or set KUBECONFIG."
        ) from error
    api = client.ApiClient(configuration)
    return Kube(namespace or "default", client.CustomObjectsApi(api), client.CoreV1Api(api))


def api_error(verb: str, kind: str, namespace: str, error: client.ApiException) -> ClusterError:
    """Return the API's error as a message that says what to do."""
    group, _, plural = KINDS[kind]
    resource, status = f"{plural}.{group}" if group else plural, int(error.status or 0)
    reason = _message_of(error)
    if status == 403 and f"cannot {verb} resource" in reason:
        message = (
            f"No permission to {verb} {resource} in namespace {namespace}: the Role of this service account must allow it "
            f"(the chart's does, with rbac.create=true). Kubernetes says: {reason}"
        )
    else:
        message = f"Kubernetes refused to {verb} {resource} in namespace {namespace} ({status}): {reason}"
    return ClusterError(message, status)


def _message_of(error: client.ApiException) -> str:
    try:
        return redact(json.loads(error.body or "{}").get("message") or error.reason)
    except (ValueError, AttributeError, TypeError):
        return redact(error.reason)


def _pause(error: client.ApiException, left: int) -> float:
    """Return the seconds until the next try: the API's Retry-After, bounded."""
    try:
        return min(_MAX_PAUSE, float((error.headers or {}).get("Retry-After", "")))
    except ValueError:
        return 0.2 * (_TRIES - left)


def _lines(answer: Any) -> Iterator[bytes]:
    rest = b""
    for piece in answer.stream(amt=None, decode_content=False):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line.strip())

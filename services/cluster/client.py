"""The Kubernetes API as this room uses it: plain dicts, a time limit on every call, errors that say what to do.

The client's typed models change with each of its releases; what is sent and read here does not. What may be asked twice is
tried again, for a second at most, where the API is too busy or a connection was cut; a new object is not.
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
from urllib3.exceptions import TimeoutError as TookTooLong

from services.cluster import metrics
from services.core.errors import BadConfig, FitloopError
from services.core.http.faults import describe_fault_briefly
from services.core.redaction import redact, safe_reason

Document = dict[str, Any]
TIMEOUT_SECONDS: Final = (3.05, 10.0)
"""To connect, and to answer."""
WATCH_SECONDS: Final = 60
"""After which the server ends a watch in good order, and all is listed anew."""
_WATCH_TIMEOUT_SECONDS: Final = 75
"""Without a word for so long, bookmarks included, a watch has been cut off without our noticing."""
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
        """`status` is HTTP's."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Kube:
    """One namespace. Every method raises ClusterError."""

    namespace: str
    _custom: client.CustomObjectsApi
    _core: client.CoreV1Api
    timeout: tuple[float, float] = TIMEOUT_SECONDS
    tries: int = _TRIES

    def get(self, kind: str, name: str) -> Document | None:
        """The object; None where there is none."""
        try:
            return self._request_object("get", kind, self._custom.get_namespaced_custom_object, name)
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def items(self, kind: str, selector: str) -> tuple[list[Document], str]:
        """Objects that the labels choose, and the version of the list, to watch from."""
        answer: Any = self._request("list", kind, self._lister(), label_selector=selector)
        listed = json.loads(answer.data)
        return list(listed["items"]), str(listed["metadata"]["resourceVersion"])

    def pods(self, selector: str) -> list[Document]:
        """Pods that the labels choose."""
        return self.items("pod", selector)[0]

    def create(self, kind: str, body: Document, **options: Any) -> Document:
        """A new object; status 409 where the name is taken. Tried once: whoever calls knows what twice would mean."""
        return self._request_object(
            "create", kind, self._custom.create_namespaced_custom_object, body, tries=1, **options
        )

    def replace(self, kind: str, name: str, body: Document) -> Document:
        """The object, if nobody changed it since `body` was read; else status 409."""
        return self._request_object(
            "update", kind, self._custom.replace_namespaced_custom_object, name, body, tries=1
        )

    def patch(self, kind: str, name: str, body: Document) -> Document:
        """A merge patch."""
        return self._request_object("patch", kind, self._custom.patch_namespaced_custom_object, name, body)

    def delete(self, kind: str, name: str) -> None:
        """The object and, in the background, what it owns; nothing happens where there is none."""
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
        """Events after that version, until the server ends the watch. Status 410 where the version is too old."""
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
                    said = event["object"]
                    raise ClusterError(
                        f"The watch of {kind}s ended: {said.get('message')}", int(said.get("code") or 0)
                    )
                yield event
        except (HTTPError, OSError, ValueError, KeyError) as error:
            raise ClusterError(
                f"The Kubernetes API broke off the watch of {kind}s ({describe_fault_briefly(error)})."
            ) from error
        finally:
            answer.close()  # not back to the pool: it may be in the middle of a line

    def _lister(self) -> Callable[..., Any]:
        """Lists and watches. The answer comes unread, or the client would look for a model of its release in it."""

        def ask(*place: Any, **options: Any) -> Any:
            unread: dict[str, Any] = {**options, "_preload_content": False}
            answer: Any = (
                self._custom.list_namespaced_custom_object(*place, **unread)
                if place[0]
                else self._core.list_namespaced_pod(place[2], **unread)
            )
            if answer.status >= 400:  # a client of before 36 raises of itself
                raise client.ApiException(http_resp=answer)
            return answer

        return ask

    def _request_object(
        self, verb: str, kind: str, call: Callable[..., Any], *arguments: Any, **options: Any
    ) -> Document:
        return dict(self._request(verb, kind, call, *arguments, **options))

    def _request(
        self, verb: str, kind: str, call: Callable[..., Any], *arguments: Any, tries: int = 0, **options: Any
    ) -> Any:
        """The answer; every request is counted here, by its outcome."""
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
                if not left or isinstance(error, TookTooLong | TimeoutError):
                    raise ClusterError(
                        f"The Kubernetes API does not answer ({verb} {plural}: {describe_fault_briefly(error)})."
                    ) from error
                pause = 0.2
            time.sleep(pause)


def connect(namespace: str = "", context: str | None = None) -> Kube:
    """The cluster of the pod that this runs in, else that of KUBECONFIG. Nothing is asked yet. Raises BadConfig."""
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
            f"There is no cluster to speak to ({safe_reason(error)}): run in a pod with a service account token, or set KUBECONFIG."
        ) from error
    api = client.ApiClient(configuration)
    return Kube(namespace or "default", client.CustomObjectsApi(api), client.CoreV1Api(api))


def api_error(verb: str, kind: str, namespace: str, error: client.ApiException) -> ClusterError:
    """The API's answer as a sentence that says what to do."""
    group, _, plural = KINDS[kind]
    resource, status = f"{plural}.{group}" if group else plural, int(error.status or 0)
    said = _message_of(error)
    if status == 403 and f"cannot {verb} resource" in said:
        sentence = (
            f"No right to {verb} {resource} in namespace {namespace}: the Role of this service account must allow it "
            f"(the chart's does, with rbac.create=true). Kubernetes says: {said}"
        )
    else:
        sentence = f"Kubernetes refused to {verb} {resource} in namespace {namespace} ({status}): {said}"
    return ClusterError(sentence, status)


def _message_of(error: client.ApiException) -> str:
    try:
        return redact(json.loads(error.body or "{}").get("message") or error.reason)
    except (ValueError, AttributeError, TypeError):
        return redact(error.reason)


def _pause(error: client.ApiException, left: int) -> float:
    """Seconds until the next try: what the API asks for, within reason."""
    try:
        return min(_MAX_PAUSE, float((error.headers or {}).get("Retry-After", "")))
    except ValueError:
        return 0.2 * (_TRIES - left)


def _lines(answer: Any) -> Iterator[bytes]:
    rest = b""
    for piece in answer.stream(amt=None, decode_content=False):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line.strip())

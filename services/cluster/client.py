"""The Kubernetes API as this room uses it: plain dicts, a time limit on every call, errors that say what to do.

The client's typed models change with each of its releases; what is sent and read here does not.
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

from services.core.errors import BadConfig, FitloopError

Document = dict[str, Any]
SECONDS: Final = (3.05, 10.0)
"""To connect, and to answer."""
WATCH_SECONDS: Final = 240
_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
KINDS: Final = {
    "job": ("batch", "v1", "jobs"),
    "lease": ("coordination.k8s.io", "v1", "leases"),
    "deployment": ("apps", "v1", "deployments"),
    "inferenceservice": ("serving.kserve.io", "v1beta1", "inferenceservices"),
    "event": ("events.k8s.io", "v1", "events"),
}
_BUSY: Final = frozenset({429, 500, 502, 503, 504})
_TRIES: Final = 3


class ClusterError(FitloopError):
    """The Kubernetes API refused, or did not answer (status 0)."""

    def __init__(self, sentence: str, status: int = 0) -> None:
        """`status` is HTTP's."""
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Kube:
    """One namespace. Every method raises ClusterError."""

    namespace: str
    _custom: client.CustomObjectsApi
    _core: client.CoreV1Api

    def get(self, kind: str, name: str) -> Document | None:
        """The object; None where there is none."""
        try:
            return self._call(
                f"get {kind} {name}", self._custom.get_namespaced_custom_object, *self._at(kind), name
            )
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def items(self, kind: str, selector: str) -> tuple[list[Document], str]:
        """Objects that the labels choose, and the version of the list, to watch from."""
        listed = self._call(
            f"list {kind}s",
            self._custom.list_namespaced_custom_object,
            *self._at(kind),
            label_selector=selector,
        )
        return list(listed["items"]), str(listed["metadata"]["resourceVersion"])

    def pods(self, selector: str) -> list[Document]:
        """Pods that the labels choose."""

        def ask(**options: Any) -> Document:
            answer: Any = self._core.list_namespaced_pod(
                self.namespace, label_selector=selector, _preload_content=False, **options
            )
            return dict(json.loads(answer.data))

        return list(self._call("list pods", ask)["items"])

    def create(self, kind: str, body: Document, **options: Any) -> Document:
        """A new object; status 409 where the name is taken. Not tried again: whoever calls knows what twice would mean."""
        return self._call(
            f"create {kind}",
            self._custom.create_namespaced_custom_object,
            *self._at(kind),
            body,
            tries=1,
            **options,
        )

    def replace(self, kind: str, name: str, body: Document) -> Document:
        """The object, if nobody changed it since `body` was read; else status 409."""
        return self._call(
            f"update {kind} {name}",
            self._custom.replace_namespaced_custom_object,
            *self._at(kind),
            name,
            body,
            tries=1,
        )

    def patch(self, kind: str, name: str, body: Document) -> Document:
        """A merge patch."""
        return self._call(
            f"patch {kind} {name}", self._custom.patch_namespaced_custom_object, *self._at(kind), name, body
        )

    def delete(self, kind: str, name: str) -> None:
        """The object and, in the background, what it owns; nothing happens where there is none."""
        try:
            self._call(
                f"delete {kind} {name}",
                self._custom.delete_namespaced_custom_object,
                *self._at(kind),
                name,
                propagation_policy="Background",
            )
        except ClusterError as error:
            if error.status != 404:
                raise

    def watch(self, kind: str, selector: str, version: str) -> Iterator[Document]:
        """Events after that version, until the server ends the watch. Status 410 where the version is too old."""
        options: dict[str, Any] = {
            "label_selector": selector,
            "resource_version": version,
            "watch": True,
            "allow_watch_bookmarks": True,
            "timeout_seconds": WATCH_SECONDS,
            "_preload_content": False,
            "_request_timeout": (SECONDS[0], WATCH_SECONDS + 30),
        }
        try:
            answer: Any = self._custom.list_namespaced_custom_object(*self._at(kind), **options)
            for line in _lines(answer):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ClusterError(
                        f"The watch of {kind}s ended: {event['object'].get('message')}",
                        event["object"].get("code", 0),
                    )
                yield event
        except client.ApiException as error:
            raise _refused(f"watch {kind}s", self.namespace, error) from error
        except (HTTPError, OSError, ValueError) as error:
            raise ClusterError(f"The Kubernetes API broke off the watch of {kind}s: {error}") from error

    def _at(self, kind: str) -> tuple[str, str, str, str]:
        group, version, plural = KINDS[kind]
        return group, version, self.namespace, plural

    def _call(
        self, what: str, call: Callable[..., Any], *arguments: Any, tries: int = _TRIES, **options: Any
    ) -> Document:
        for attempt in range(1, tries + 1):
            try:
                return dict(call(*arguments, _request_timeout=SECONDS, **options))
            except client.ApiException as error:
                if error.status not in _BUSY or attempt == tries:
                    raise _refused(what, self.namespace, error) from error
            except (HTTPError, OSError) as error:
                raise ClusterError(
                    f"The Kubernetes API does not answer ({what}): {type(error).__name__}."
                ) from error
            time.sleep(0.2 * attempt)
        raise AssertionError("the last try returns or raises")  # pragma: no cover


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
            f"There is no cluster to speak to ({error}): run in a pod with a service account token, or set KUBECONFIG."
        ) from error
    api = client.ApiClient(configuration)
    return Kube(namespace or "default", client.CustomObjectsApi(api), client.CoreV1Api(api))


def _lines(answer: Any) -> Iterator[bytes]:
    rest = b""
    for piece in answer.stream(amt=None, decode_content=False):
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line.strip())


def _refused(what: str, namespace: str, error: client.ApiException) -> ClusterError:
    try:
        said = str(json.loads(error.body or "{}").get("message") or error.reason)
    except (ValueError, AttributeError):
        said = str(error.reason)
    if error.status == 403:
        said = f"{said}. The chart's Role allows it: was rbac.create switched off?"
    return ClusterError(
        f"Kubernetes refused to {what} in namespace {namespace}: {said}", int(error.status or 0)
    )

"""Inspect a cluster for the doctor: permissions, nodes, clock, ConfigMaps.

A running Fitloop needs none of this, and the chart's pods lack the permission for most.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kubernetes import client
from urllib3.exceptions import HTTPError

from services.cluster.client import ClusterError, Document, Kube
from services.core.http.faults import describe_fault_briefly


@dataclass(frozen=True, slots=True)
class Inspector:
    """Inspects one namespace. Every method raises ClusterError."""

    kube: Kube

    def version(self) -> tuple[str, str]:
        """Return Kubernetes' version and its HTTP `Date`."""
        api = client.VersionApi(self.kube._core.api_client)  # noqa: SLF001  # a second half of Kube, for the doctor only
        answer = self._request("read the version", api.get_code)
        return str(json.loads(answer.data).get("gitVersion")), str(answer.headers.get("Date", ""))

    def is_allowed(self, verb: str, resource: str, name: str = "", account: str = "") -> bool:
        """Return whether the service account (by default the caller) may do that; `resource` as in `jobs.batch`."""
        plural, _, group = resource.partition(".")
        attributes = {
            "namespace": self.kube.namespace,
            "verb": verb,
            "group": group,
            "resource": plural,
            "name": name,
        }
        spec: Document = {"resourceAttributes": attributes}
        kind = "SelfSubjectAccessReview"
        if account:
            kind = "SubjectAccessReview"
            spec["user"] = f"system:serviceaccount:{self.kube.namespace}:{account}"
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec}
        plurals = f"{kind.lower()}s"
        create = self.kube._custom.create_cluster_custom_object  # noqa: SLF001  # as above
        answer = self._request("check permissions", create, "authorization.k8s.io", "v1", plurals, body)
        return bool(json.loads(answer.data)["status"].get("allowed"))

    def ingress_url(self, name: str) -> str:
        """Return the URL that an Ingress with a host exposes; "" without a host."""
        get = self.kube._custom.get_namespaced_custom_object  # noqa: SLF001  # as above
        place = ("networking.k8s.io", "v1", self.kube.namespace, "ingresses", name)
        spec = json.loads(self._request(f"read the Ingress {name}", get, *place).data)["spec"]
        rule = (spec.get("rules") or [{}])[0]
        if not rule.get("host"):
            return ""
        paths = (rule.get("http") or {}).get("paths") or [{}]
        path = str(paths[0].get("path") or "").rstrip("/")
        return f"{'https' if spec.get('tls') else 'http'}://{rule['host']}{path}"

    def nodes(self) -> list[Document]:
        answer = self._request("list nodes", self.kube._core.list_node)  # noqa: SLF001  # as above
        return list(json.loads(answer.data)["items"])

    def config_map(self, name: str) -> dict[str, str]:
        """Return the ConfigMap's data."""
        read = self.kube._core.read_namespaced_config_map  # noqa: SLF001  # as above
        answer = self._request(f"read the ConfigMap {name}", read, name, self.kube.namespace)
        return dict(json.loads(answer.data).get("data") or {})

    def get_from_pod(self, pod: str, port: int, path: str) -> str:
        """Return the answer of a pod's port through the API server; needs permission to get pods/proxy."""
        get = self.kube._core.connect_get_namespaced_pod_proxy_with_path  # noqa: SLF001  # as above
        answer = self._request(
            f"reach pod {pod}", get, f"{pod}:{port}", self.kube.namespace, path.lstrip("/")
        )
        return bytes(answer.data).decode("utf-8", "replace")

    def _request(self, what: str, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            answer = call(*arguments, _preload_content=False, _request_timeout=self.kube.timeout)
        except client.ApiException as error:
            raise _error(what, int(error.status or 0), str(error.reason)) from error
        except (HTTPError, OSError) as error:
            raise ClusterError(
                f"The Kubernetes API does not answer (to {what}: {describe_fault_briefly(error)})."
            ) from error
        if answer.status >= 400:  # client versions before 36 raise by themselves
            raise _error(what, answer.status, str(answer.reason))
        return answer


def _error(what: str, status: int, reason: str) -> ClusterError:
    return ClusterError(f"Kubernetes answered {status} ({reason}) to the request to {what}.", status)

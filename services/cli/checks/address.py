"""URLs as Label Studio sees them: which make a webhook, which it refuses to call, and how one is shown. Pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

from services.core.advice import is_address, problem_of

__all__ = ["host_and_path", "is_address", "is_cluster_local", "is_private", "problem_of", "redact_url"]


def is_private(address: str) -> bool:
    """Whether Label Studio refuses it by default: no address of the public internet."""
    return not ipaddress.ip_address(address.partition("%")[0]).is_global


def is_cluster_local(url: str) -> bool:
    """Whether only pods know the host: a Service's name, whole or short."""
    host = urlsplit(url).hostname or ""
    return not is_address(host) and host != "localhost" and bool(_SERVICE.search(host) or "." not in host)


_SERVICE = re.compile(r"\.svc(\.|$)")


def host_and_path(url: str) -> tuple[str, str]:
    """Host with port, and path: what tells two backends apart."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return f"{parts.hostname}:{port}", parts.path.rstrip("/")


def redact_url(url: str, *secrets: str) -> str:
    """The URL without its credentials, its query and the secret path."""
    parts = urlsplit(url)
    path = parts.path
    for secret in filter(None, secrets):
        path = path.replace(f"/{secret}", "/<secret>")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"

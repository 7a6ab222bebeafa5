"""URLs as Label Studio sees them: which make a webhook, which it refuses to call, and how one is shown. Pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_PART = r"[a-z0-9\u00a1-\uffff](?:[a-z0-9\u00a1-\uffff-]{0,61}[a-z0-9\u00a1-\uffff])?"
_HOST = re.compile(
    rf"(?:{_PART}(?:\.{_PART})*\.(?:[a-z\u00a1-\uffff-]{{2,63}}|xn--[a-z0-9]{{1,59}})\.?|localhost)",
    re.IGNORECASE,
)
"""Django's rule for the host of a URL."""
_ROUTES = ("/webhook", "/health", "/setup", "/predict", "/versions")


def problem_of(url: str) -> str:
    """Why Label Studio, connected to that URL, would send no events or wrong requests; "" for a good one."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it cannot be read"
    if parts.scheme not in {"http", "https"} or not host:
        return "it must be http://<host> or https://<host>"
    if parts.query or parts.fragment:
        return "it has a '?' or a '#', and Label Studio puts its paths behind that"
    if parts.path.rstrip("/").endswith(_ROUTES):
        return "it ends in a route: Label Studio adds /health, /predict and so on of itself"
    return _problem_of_host(host)


def _problem_of_host(host: str) -> str:
    if is_address(host) or _HOST.fullmatch(host):
        return ""
    if "." not in host:
        return f"its host {host!r} is one word: Label Studio connects to it and then makes no webhook, without a word"
    if "_" in host:
        return f"its host {host!r} has a '_': Label Studio makes no webhook for it, without a word"
    return f"its host {host!r} does not end as a domain does (letters alone): Label Studio makes no webhook for it"


def is_address(host: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_private(address: str) -> bool:
    """Whether Label Studio refuses it by default: no address of the public internet."""
    return not ipaddress.ip_address(address.partition("%")[0]).is_global


def is_of_a_cluster(url: str) -> bool:
    """Whether only pods know the host: a Service's name, whole or short."""
    host = urlsplit(url).hostname or ""
    return not is_address(host) and host != "localhost" and bool(_SERVICE.search(host) or "." not in host)


_SERVICE = re.compile(r"\.svc(\.|$)")


def place(url: str) -> tuple[str, str]:
    """Host with port, and path: what tells two backends apart."""
    parts = urlsplit(url)
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    return f"{parts.hostname}:{port}", parts.path.rstrip("/")


def shown(url: str, *secrets: str) -> str:
    """The URL without its credentials, its query and the secret path."""
    parts = urlsplit(url)
    path = parts.path
    for secret in filter(None, secrets):
        path = path.replace(f"/{secret}", "/<secret>")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"

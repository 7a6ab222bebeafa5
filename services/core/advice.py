"""Sentences that the doctor and the status page have in common: what keeps a Label Studio from working with us, and what to do.

Pure.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

URL_ADVICE: Final = (
    "Use the whole name, as http://fitloop.<namespace>.svc.cluster.local, an IP address, or a host of the ingress with a "
    "dot in it."
)
AUTH_ADVICE: Final = (
    "Connect the URL with FITLOOP_SECRET_PATH as its path, or with http://<user>:<password>@ before the host."
)
_HOST_LABEL = r"[a-z0-9\u00a1-\uffff](?:[a-z0-9\u00a1-\uffff-]{0,61}[a-z0-9\u00a1-\uffff])?"
_HOST = re.compile(
    rf"(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*\.(?:[a-z\u00a1-\uffff-]{{2,63}}|xn--[a-z0-9]{{1,59}})\.?|localhost)",
    re.IGNORECASE,
)
"""Django's rule for the host of a URL."""
_ROUTES = ("/webhook", "/health", "/setup", "/predict", "/versions")


def missing_token_message(url: str) -> str:
    """There is no token for Label Studio."""
    return (
        f"LABEL_STUDIO_API_KEY is not set, so labels cannot be read from {url} and nothing will be trained: copy a token "
        "from Label Studio (Account & Settings), set it, and start again."
    )


def backend_url_problem(url: str) -> str:
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
    return _host_problem(host)


def is_ip_address(host: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host_problem(host: str) -> str:
    if is_ip_address(host) or _HOST.fullmatch(host):
        return ""
    if "." not in host:
        return f"its host {host!r} is one word: Label Studio connects to it and then makes no webhook, without a word"
    if "_" in host:
        return f"its host {host!r} has a '_': Label Studio makes no webhook for it, without a word"
    return f"its host {host!r} does not end as a domain does (letters alone): Label Studio makes no webhook for it"

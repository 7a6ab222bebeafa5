"""HTTP requests to Label Studio, and the interpretation of each answer: its JSON, or one of our errors with a message.

No request is retried and no redirect followed: a redirected POST becomes a GET, and the token would go along.
"""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from services import __version__
from services.core.errors import (
    LabelStudioAnswerTooLarge,
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioRejected,
    LabelStudioUnreachable,
    TokenRefused,
)
from services.core.http.faults import Fault, Server, client_ssl_context, describe_fault
from services.core.http.limits import GZIP_ONLY, ResponseTooLarge, limit_response, memory_limit
from services.core.labelstudio.access import RefreshRefused, TokenAuth, token_problem
from services.core.redaction import safe_reason
from services.core.settings import LabelStudioSettings
from services.core.telemetry import metrics

URL: Final = "LABEL_STUDIO_URL"
CA_FILE: Final = "FITLOOP_LABEL_STUDIO_CA_FILE"
_CONNECT_SECONDS: Final = 5.0
_MB: Final = 1 << 20
_LARGE_BYTES: Final = 1 << 16
PARSING: Final = threading.Lock()
"""Held while a large answer is parsed or indexed: several threads at once would let every other thread wait for the interpreter."""
_LOGIN_WORDS: Final = ("login", "signin", "sign-in", "sso", "oauth", "saml", "authorize", "/auth")
_PROXY_SCHEMES: Final = ("basic", "digest", "negotiate", "ntlm")
"""Schemes by which Label Studio itself never requires a login."""


@dataclass(frozen=True)
class Transport:
    """Requests to one Label Studio over pooled connections, from any thread."""

    settings: LabelStudioSettings

    def __post_init__(self) -> None:
        """Check the CA file at start. Raises BadConfig."""
        if self.settings.ca_file:
            client_ssl_context(self.settings.ca_file, CA_FILE)

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Return the answer's JSON, and count the request. Raises LabelStudioError. Options are httpx's `params` and `json`."""
        with metrics.observe_label_studio_request(path):
            response = self._send(method, path, options)
            if error := response_error(response, self.settings.url, f"{method} {path}"):
                raise error
            return _json(response, self.settings.url, f"{method} {path}")

    def _send(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        url = self.settings.url
        try:
            return self._client.request(method, f"{url}/{path}", **options)
        except ResponseTooLarge as error:
            raise LabelStudioAnswerTooLarge(
                f"{_too_large(error, url, f'{method} {path}')}: {_advice(path)}"
            ) from error
        except RefreshRefused as refused:
            raise _refresh_error(refused.response, url) from refused
        except httpx.HTTPError as error:
            raise LabelStudioUnreachable(unreachable_message(error, url)) from error
        except (httpx.InvalidURL, ValueError) as error:
            raise LabelStudioError(
                f"Label Studio at {url} cannot be queried ({safe_reason(error)}): correct {URL} or LABEL_STUDIO_API_KEY."
            ) from error

    @cached_property
    def _client(self) -> httpx.Client:
        known = self.settings
        key = known.api_key.get_secret_value()
        if problem := token_problem(key, time.time()):
            raise TokenRefused(problem)
        return client(known, TokenAuth(key, known.url))


def client(settings: LabelStudioSettings, auth: httpx.Auth | None = None) -> httpx.Client:
    """Return a client that trusts Label Studio's CA. Raises BadConfig, LabelStudioError."""
    seconds = settings.timeout_seconds
    try:
        return httpx.Client(
            auth=auth,
            verify=client_ssl_context(settings.ca_file, CA_FILE),
            # Detect a host that drops packets sooner: all projects wait for it.
            timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS)),
            headers={"User-Agent": f"fitloop/{__version__}", **GZIP_ONLY},
            event_hooks={"response": [limit_response(max_response_bytes(memory_limit()))]},
            follow_redirects=False,
        )
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        raise LabelStudioError(
            f"The proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names cannot be used ({safe_reason(error)}): correct it, or name "
            "Label Studio's host in NO_PROXY."
        ) from error


def max_response_bytes(memory: int) -> int:
    """Return the limit of an answer's size: parsed, it needs about five times as much memory."""
    return min(128 * _MB, max(8 * _MB, memory // 16))


def unreachable_message(error: Exception, url: str) -> str:
    """Return the message for a request without an answer, or with one that is too large."""
    if isinstance(error, ResponseTooLarge):
        return f"{_too_large(error, url)}: is it a Label Studio?"
    return describe_fault(
        error, Server(f"Label Studio at {url}", URL, CA_FILE), plain=url.startswith("http:")
    )


def _too_large(error: ResponseTooLarge, url: str, asked: str = "") -> str:
    return f"The answer of Label Studio at {url}{f' to {asked}' if asked else ''} {error}"


def _advice(path: str) -> str:
    if path.startswith("api/tasks"):
        return "shorten that task, or raise the memory limit of this process."
    return "is it a Label Studio?"


def response_error(response: httpx.Response, url: str, asked: str) -> LabelStudioError | None:
    """Return the error for an unsuccessful answer, else None. `asked` is like "GET api/projects/"."""
    status = response.status_code
    if response.has_redirect_location:
        return LabelStudioError(_redirected(response, url, asked))
    if status in (401, 403):
        return _access_denied(response, url)
    if status == httpx.codes.NOT_FOUND and _is_label_studio_404(response):
        return LabelStudioNotFound(
            f"Label Studio at {url} has no {asked.partition(' ')[2]!r} that this token can see."
        )
    return _failure(response, url, asked) if status >= httpx.codes.BAD_REQUEST else None


def _failure(response: httpx.Response, url: str, asked: str) -> LabelStudioError:
    """Return the error for a status of 400 or more that is not about the token or the object."""
    status, at = response.status_code, f"Label Studio at {url}"
    message = f"{at} answered {status} to {asked}."
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return LabelStudioUnreachable(message)
    if status == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
        return LabelStudioUnreachable(Fault.PROXY.value.format(at=at))
    if status != httpx.codes.BAD_REQUEST:
        return LabelStudioError(message)
    if url.startswith("http:") and "HTTPS" in response.text.upper():
        return LabelStudioError(Fault.SPEAKS_TLS.value.format(at=at, url=URL))
    return LabelStudioRejected(message)


def _json(response: httpx.Response, url: str, asked: str) -> Any:
    try:
        with PARSING if len(response.content) > _LARGE_BYTES else nullcontext():
            return response.json() if response.content else None
    except (ValueError, RecursionError) as error:
        page = "html" in response.headers.get("content-type", "").lower()
        advice = (
            f" It answered with a web page: a login in front of it must let {url}/api/ pass, or {URL} lacks its path."
            if page
            else ""
        )
        raise LabelStudioError(
            f"{url} answered {asked} without JSON: is it a Label Studio?{advice}"
        ) from error


def _redirected(response: httpx.Response, url: str, asked: str) -> str:
    """Name the target without its query, which may hold secrets of a login."""
    target = response.request.url.join(response.headers["location"])
    shown = f"{target.scheme}://{target.netloc.decode('ascii').rpartition('@')[2]}{target.path}"
    message = f"Label Studio at {url} redirects {asked} to {shown}"
    if any(word in shown.lower() for word in _LOGIN_WORDS):
        return f"{message}, a login page: let the proxy that requires the login pass {url}/api/, or set {URL} to another address."
    if urlsplit(url).scheme == "http" and target.scheme == "https":
        return f"{message}: use https:// in {URL}."
    return f"{message}: set {URL} to the address that answers without a redirect."


def _access_denied(response: httpx.Response, url: str) -> LabelStudioError:
    asked = response.headers.get("www-authenticate", "").lower()
    if asked.startswith(_PROXY_SCHEMES):
        return LabelStudioError(
            f"A proxy before Label Studio at {url} requires a login of its own ({response.status_code}): let it pass "
            f"{url}/api/, or set {URL} to another address."
        )
    return TokenRefused(_token_refused(url, response.status_code))


def _refresh_error(response: httpx.Response, url: str) -> LabelStudioError:
    """Return why a personal access token was not exchanged."""
    asked, status = "the refresh of the token", response.status_code
    if response.is_success or status == httpx.codes.NOT_FOUND:
        return LabelStudioUnreachable(
            f"{url} answered {asked} without one ({status}): is it a Label Studio, and is its path in {URL}?"
        )
    found = response_error(response, url, asked)
    if found is None or isinstance(found, LabelStudioRejected):
        return TokenRefused(_token_refused(url, status))
    return found


def _is_label_studio_404(response: httpx.Response) -> bool:
    """Return whether Label Studio itself wrote this 404. A proxy's, or that of an unknown route, is HTML."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return False
    return isinstance(body, dict) and body.get("status_code") == httpx.codes.NOT_FOUND and "detail" in body


def _token_refused(url: str, status: int | None) -> str:
    return (
        f"Label Studio at {url} refused LABEL_STUDIO_API_KEY ({status}): use a personal access token of a user who may "
        "see the project, or enable legacy tokens."
    )

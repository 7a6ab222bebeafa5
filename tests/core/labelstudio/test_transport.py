"""core.labelstudio.wire over real sockets: TLS, a path, redirects and whatever else stands before a Label Studio."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from structlog.testing import capture_logs

from services.core.errors import (
    BadConfig,
    LabelStudioAnswerTooLarge,
    LabelStudioError,
    LabelStudioUnreachable,
    TokenRefused,
)
from services.core.labelstudio import LabelStudio, transport
from services.core.settings import LabelStudioSettings
from tests.support.certificates import CertificateAuthority
from tests.support.http_server import serve_http

PERSONAL = jwt.encode({"exp": 4_000_000_000, "token_type": "refresh"}, "k" * 32)
ACCESS = jwt.encode({"iat": 1000, "exp": 1300, "token_type": "access"}, "k" * 32)
"""By Label Studio's clock, which is far behind: what counts is that it lasts 300 s."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path_factory.mktemp("authority"))


class _Handler(BaseHTTPRequestHandler):
    def answer(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        actual = {"Content_Type": kind, "Content_Length": str(len(body)), **headers}
        for name, value in actual.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, *_: object) -> None:
        pass


class _Studio(_Handler):
    """As much of Label Studio as exchanges a personal token and lists backends."""

    def do_POST(self) -> None:
        asked = json.loads(self.body())
        if self.path == "/api/token/refresh/" and asked == {"refresh": PERSONAL}:
            self.answer(200, json.dumps({"access": ACCESS}).encode())
        else:
            self.answer(401, b'{"detail": "Token is blacklisted"}')

    def do_GET(self) -> None:
        if self.headers["Authorization"] == f"Bearer {ACCESS}":
            self.answer(200, b"[]")
        else:
            self.answer(401, b'{"detail": "Invalid token."}')


def _answering(
    status: int, body: bytes, kind: str = "application/json", **headers: str
) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        def do_GET(self) -> None:
            self.body()
            self.answer(status, body, kind, **headers)

        do_POST = do_GET  # noqa: N815 - the name is http.server's

    return Handler


@contextmanager
def _proxied(path: str, tls: ssl.SSLContext | None) -> Iterator[str]:
    """A reverse proxy that serves a Label Studio below the path, and a page of its own elsewhere."""
    with serve_http(_Studio) as inner:

        class Proxy(_Handler):
            def do_GET(self) -> None:
                body = self.body()
                if not self.path.startswith(f"{path}/"):
                    self.answer(404, b"<h1>nothing here</h1>", "text/html")
                    return
                headers = {
                    name: self.headers[name]
                    for name in ("Authorization", "Content-Type")
                    if name in self.headers
                }
                found = httpx.request(
                    self.command, inner + self.path.removeprefix(path), content=body, headers=headers
                )
                self.answer(found.status_code, found.content)

            do_POST = do_GET  # noqa: N815 - the name is http.server's

        with serve_http(Proxy, tls=tls) as outer:
            yield outer


def _client(url: str, ca_file: Path | None = None, key: str = "0" * 40, seconds: float = 5.0) -> LabelStudio:
    return LabelStudio(LabelStudioSettings(url=url, api_key=key, ca_file=ca_file, timeout_seconds=seconds))


@pytest.mark.parametrize("path", ["", "/label-studio", "/a/b-c"])
@pytest.mark.parametrize("is_tls", [True, False])
def test_a_personal_token_is_exchanged_below_the_path(
    authority: CertificateAuthority, path: str, *, is_tls: bool
) -> None:
    with _proxied(path, authority.server_context() if is_tls else None) as url:
        studio = _client(f"{url}{path}/", authority.path, PERSONAL)
        assert studio.backends(1) == []
        assert studio.backends(1) == []


def test_a_missing_path_is_reported() -> None:
    with (
        _proxied("/label-studio", None) as url,
        pytest.raises(LabelStudioUnreachable, match="is its path in LABEL_STUDIO_URL"),
    ):
        _client(url, key=PERSONAL).backends(1)


@pytest.mark.parametrize(
    ("made", "trusts", "actual"),
    [
        ({}, False, "signed by a CA that is not trusted here: set FITLOOP_LABEL_STUDIO_CA_FILE"),
        ({"begins": -3, "ends": -1}, True, "has expired: renew it"),
        ({"begins": 1, "ends": 2}, True, "is not valid yet"),
        (
            {"address": "127.0.0.2"},
            True,
            "is for other host names: use one of its names in LABEL_STUDIO_URL",
        ),
    ],
)
def test_each_certificate_fault_has_its_message(
    authority: CertificateAuthority, made: dict[str, str | float], *, trusts: bool, actual: str
) -> None:
    context = authority.server_context("studio.example", **made)  # type: ignore[arg-type]  # by name
    with serve_http(_Studio, tls=context) as url:
        with pytest.raises(LabelStudioUnreachable, match=actual) as raised:
            _client(url, authority.path if trusts else None).backends(1)
        assert url in str(raised.value)


def test_a_certificate_for_another_name_of_the_same_server(authority: CertificateAuthority) -> None:
    context = authority.server_context("studio.example", address="")
    with (
        serve_http(_Studio, tls=context) as url,
        pytest.raises(LabelStudioUnreachable, match="other host names"),
    ):
        _client(url.replace("127.0.0.1", "localhost"), authority.path).backends(1)


def test_https_spoken_to_a_plain_port() -> None:
    with (
        serve_http(_Studio) as url,
        pytest.raises(LabelStudioUnreachable, match="does not speak TLS: use http:// in LABEL_STUDIO_URL"),
    ):
        _client(url.replace("http:", "https:")).backends(1)


def test_http_spoken_to_a_tls_port(authority: CertificateAuthority) -> None:
    with (
        serve_http(_Studio, tls=authority.server_context()) as url,
        pytest.raises(LabelStudioUnreachable, match="use https:// in LABEL_STUDIO_URL if it speaks TLS"),
    ):
        _client(url.replace("https:", "http:")).backends(1)
    nginx = _answering(400, b"<title>400 The plain HTTP request was sent to HTTPS port</title>", "text/html")
    with (
        serve_http(nginx) as url,
        pytest.raises(LabelStudioError, match="speaks TLS: use https:// in LABEL_STUDIO_URL"),
    ):
        _client(url).backends(1)


@pytest.mark.parametrize(
    ("location", "actual"),
    [
        (
            "https://studio.example/api/ml/",
            "to https://studio.example/api/ml/: use https:// in LABEL_STUDIO_URL",
        ),
        ("/user/login/?next=/hush", "to http://127.0.0.1:.*/user/login/, a login page: let the proxy"),
        (
            "https://me:hush@idp.example/oauth2/authorize?state=hush",
            "to https://idp.example/oauth2/authorize, a login page",
        ),
        ("http://elsewhere.example/x", "set LABEL_STUDIO_URL to the address that answers without a redirect"),
    ],
)
def test_a_redirect_is_reported_not_followed(location: str, actual: str) -> None:
    with serve_http(_answering(302, b"", "text/html", Location=location)) as url:
        with pytest.raises(LabelStudioError, match=actual) as raised:
            _client(url).backends(1)
        assert "hush" not in str(raised.value)


@pytest.mark.parametrize(
    ("status", "headers", "error", "actual"),
    [
        (
            401,
            {"WWW_Authenticate": 'Basic realm="office"'},
            LabelStudioError,
            "A proxy before Label Studio at .* requires a login of its own",
        ),
        (401, {"WWW_Authenticate": 'Bearer realm="api"'}, TokenRefused, "refused LABEL_STUDIO_API_KEY"),
        (407, {}, LabelStudioUnreachable, "The proxy set in HTTP_PROXY"),
        (200, {}, LabelStudioError, "It answered with a web page: a login in front of it must let"),
        (502, {}, LabelStudioUnreachable, "answered 502"),
    ],
)
def test_what_stands_before_it_is_told_from_label_studio(
    status: int, headers: dict[str, str], error: type[Exception], actual: str
) -> None:
    before = _answering(status, b"<html>", "text/html", **headers)
    with serve_http(before) as url, pytest.raises(error, match=actual):
        _client(url).backends(1)


class _LargeTasks(_Handler):
    """Tasks of which more than three are too much for a page: 1 to 5."""

    most = 3
    asked: ClassVar[list[int]] = []

    def do_GET(self) -> None:
        query = {name: one[0] for name, one in parse_qs(urlsplit(self.path).query).items()}
        size, items = int(query["page_size"]), json.loads(query["query"])["filters"]["items"]
        self.asked.append(size)
        if size > self.most:
            self.answer(200, b"", Content_Length=str((8 << 20) + 1))
            return
        left = range(items[1]["value"] + 1 if len(items) > 1 else 1, 6)
        rows = [{"id": one} for one in left[:size]]
        self.answer(200, json.dumps({"tasks": rows, "total": len(left)}).encode())


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "memory_limit", lambda: 1)


@pytest.mark.usefixtures("little_memory")
def test_a_page_that_is_too_large_is_halved() -> None:
    with serve_http(_LargeTasks) as url, capture_logs() as logged:
        _LargeTasks.asked.clear()
        found = _client(url).annotated_tasks(1)
        assert [row["id"] for row in found] == [1, 2, 3, 4, 5]
    assert logged[-1]["advice"] == "set FITLOOP_LABEL_STUDIO_PAGE_SIZE to 3 or less"
    assert _LargeTasks.asked == [500, 250, 125, 62, 31, 15, 7, 3, 3]


@pytest.mark.usefixtures("little_memory")
def test_an_answer_that_is_too_large_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_LargeTasks, "most", 0)
    with serve_http(_LargeTasks) as url, pytest.raises(LabelStudioAnswerTooLarge) as raised:
        list(_client(url).annotated_tasks(1))
    assert str(raised.value) == (
        f"The answer of Label Studio at {url} to GET api/tasks/ is larger than the limit of 8 MB: shorten that "
        "task, or raise the memory limit of this process."
    )


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("key", ["0" * 40, PERSONAL])
def test_only_pages_of_tasks_may_shrink(key: str) -> None:
    large = _answering(200, b"", Content_Length=str((8 << 20) + 1))
    with (
        serve_http(large) as url,
        pytest.raises(LabelStudioAnswerTooLarge, match="the limit of 8 MB: is it a Label Studio"),
    ):
        _client(url, key=key).backends(1)


@pytest.mark.parametrize(("memory", "most"), [(64 << 20, 8), (512 << 20, 32), (1 << 40, 128)])
def test_what_is_read_fits_the_memory(memory: int, most: int) -> None:
    assert transport.max_response_bytes(memory) == most << 20


def test_an_endlessly_nested_answer_is_an_error() -> None:
    with (
        serve_http(_answering(200, b"[" * 100_000)) as url,
        pytest.raises(LabelStudioError, match="without JSON"),
    ):
        _client(url).backends(1)


def test_a_refused_connection_is_recognised() -> None:
    with serve_http(_Studio) as url:
        pass
    with pytest.raises(LabelStudioUnreachable, match="accepts no connections: start it"):
        _client(url).backends(1)
    with pytest.raises(LabelStudioUnreachable, match="cannot be resolved: correct LABEL_STUDIO_URL"):
        _client("http://no.such.host.invalid").backends(1)


def test_a_read_timeout_is_recognised() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(
            LabelStudioUnreachable, match="accepts the connection but does not answer in time"
        ):
            _client(url, seconds=0.1).backends(1)


@pytest.mark.parametrize(
    "text", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_an_invalid_ca_file_fails_at_start(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadConfig, match="FITLOOP_LABEL_STUDIO_CA_FILE .* contains no readable certificate"):
        _client("https://studio.example", path)


@pytest.mark.parametrize("proxy", ["socks5://me:hush@proxy:1080", "ftp://me:hush@proxy"])
def test_an_unusable_proxy_is_reported(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(LabelStudioError, match="names cannot be used .* correct it") as raised:
        _client("https://studio.example").backends(1)
    assert "hush" not in str(raised.value)


def test_no_message_contains_a_token() -> None:
    actual = []
    for handler in (
        _answering(401, b"{}"),
        _answering(302, b"", Location="/x?token=y"),
        _answering(400, PERSONAL.encode()),
    ):
        with serve_http(handler) as url:
            for key in (PERSONAL, "a-legacy-token-of-somebody"):
                with pytest.raises(LabelStudioError) as raised:
                    _client(url, key=key).backends(1)
                actual.append(str(raised.value))
    assert not [one for one in actual if PERSONAL[:20] in one or "legacy-token-of" in one]

"""What an S3 storage may answer, and may not: each is one sentence that says what to do, or is tried again and passes."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.core.errors import (
    BadConfig,
    NotFound,
    ObjectTooLarge,
    StoreError,
    StoreRefused,
    StoreUnreachable,
)
from services.core.settings import S3Settings, StorageSettings
from services.core.store import check_store, open_store
from services.core.store.s3 import S3Store
from services.trainer.process.lifecycle import is_transient
from tests.core.store.faults import Answer, Faults, refusal, serving
from tests.support.buckets import build_s3_settings, build_s3_store
from tests.support.certificates import CertificateAuthority
from tests.support.http_server import serve_http

OK = Answer(200, b"one", {"ETag": '"e1"'})
SECRET = "very-secret-key"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def store_at(faults: Faults, cache: Path, timeout: float = 0.5) -> S3Store:
    settings = build_s3_settings(
        faults.endpoint, "someone", SECRET, region="us-east-1", timeout_seconds=timeout
    )
    return build_s3_store("s3://bucket/prefix/", cache, settings)


def test_a_document_beyond_its_limit_is_not_retried(cache: Path) -> None:
    large = Answer(200, b"x" * ((1 << 20) + 1), {"ETag": '"e1"'})
    with serving(large, OK) as faults:
        with pytest.raises(ObjectTooLarge, match=r"^'runs/5-1/status.json' in s3://bucket/prefix is 1\.0 MB"):
            store_at(faults, cache).read("runs/5-1/status.json")
        assert store_at(faults, cache).read("a") == b"one"


@pytest.mark.parametrize(
    "busy",
    [refusal("SlowDown", 503), Answer(502, b"<html>bad gateway</html>"), refusal("InternalError", 500)],
)
def test_a_busy_storage_is_retried(cache: Path, busy: Answer) -> None:
    """And Retry-After, of two minutes, is not waited for."""
    with serving(busy, busy, OK) as faults:
        assert store_at(faults, cache).read("a") == b"one"
    with serving(busy, busy, OK) as faults:
        store_at(faults, cache).write("a", b"two")
    assert [method for method, _, _ in faults.asked] == ["PUT"] * 3


@pytest.mark.parametrize(
    "busy", [refusal("SlowDown", 503), Answer(503, b"starting"), refusal("RequestTimeout", 400)]
)
def test_a_storage_that_stays_busy_is_transient(cache: Path, busy: Answer) -> None:
    with serving(busy) as faults:
        store = store_at(faults, cache)
        with pytest.raises(StoreUnreachable, match="busy or starting") as raised:
            store.write("a", b"x")
        assert is_transient(raised.value)
        assert len(faults.asked) <= 4


@pytest.mark.parametrize(
    ("code", "status", "sentence"),
    [
        ("NoSuchBucket", 404, "there is no bucket 'bucket' at http://127.0.0.1:.* Create it"),
        (
            "AccessDenied",
            403,
            "the access key lacks a permission. Allow it s3:ListBucket on the bucket 'bucket'",
        ),
        ("InvalidAccessKeyId", 403, "does not know the access key. Correct AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, "Correct AWS_SECRET_ACCESS_KEY"),
        ("ExpiredToken", 400, "temporary keys have expired"),
        ("RequestTimeTooSkewed", 403, "the clock here and that of .* differ too much"),
        ("AuthorizationHeaderMalformed", 400, "Set FITLOOP_S3_REGION"),
        ("SomethingNew", 400, "answered SomethingNew"),
    ],
)
def test_config_errors_say_what_to_change(cache: Path, code: str, status: int, sentence: str) -> None:
    with serving(refusal(code, status)) as faults:
        store = store_at(faults, cache)
        for act in (
            lambda: store.read("a"),
            lambda: store.write("a", b""),
            lambda: store.delete("a"),
            lambda: store.folders("a/"),
            lambda: store.local("a"),
        ):
            with pytest.raises(StoreRefused, match=sentence) as raised:
                act()
            assert not is_transient(raised.value)
            assert not isinstance(raised.value, NotFound)
            assert SECRET not in str(raised.value)
        with pytest.raises(BadConfig, match=sentence):
            check_store(store, write=True)


def test_a_full_storage_is_not_retried(cache: Path) -> None:
    with (
        serving(refusal("XMinioStorageFull", 507)) as faults,
        pytest.raises(StoreError, match="is full") as raised,
    ):
        store_at(faults, cache).write("a", b"x")
    assert not is_transient(raised.value)
    assert raised.value.exit_code == 1


def test_a_transient_refusal_is_retried(cache: Path) -> None:
    """MinIO refuses a write while another process removes the folder's last object."""
    with serving(refusal("AccessDenied", 403), OK) as faults:
        store_at(faults, cache).write("a", b"x")  # must not raise


def test_an_object_that_is_not_there(cache: Path) -> None:
    with (
        serving(refusal("NoSuchKey", 404)) as faults,
        pytest.raises(NotFound, match="s3://bucket/prefix has no object 'a'"),
    ):
        store_at(faults, cache).read("a")


def test_an_interrupted_body_is_retried(cache: Path) -> None:
    half = Answer(200, b"on", {"ETag": '"e1"'}, promised=3)
    with serving(half, half, OK) as faults:
        assert store_at(faults, cache).read("a") == b"one"
    with serving(half, OK) as faults:
        assert store_at(faults, cache).local("a").read_bytes() == b"one"
    with serving(half) as faults:
        store = store_at(faults, cache)
        with pytest.raises(
            StoreUnreachable, match="closes connections before it answers|did not answer in time"
        ):
            store.read("b")
        with pytest.raises(StoreUnreachable):
            store.local("b")
    assert not [path for path in cache.rglob("*") if path.is_file() and path.name != "a"]


def test_an_answer_that_never_comes_times_out(cache: Path) -> None:
    never = threading.Event()
    with serving(Answer(wait=never)) as faults:
        began = time.monotonic()
        with pytest.raises(StoreUnreachable, match=r"did not answer in time \(0.2 s for a document\)"):
            store_at(faults, cache, timeout=0.2).read("serving.json")
        assert time.monotonic() - began < 2
        never.set()


def test_a_write_takes_no_longer_than_the_settings_say(cache: Path) -> None:
    """Slow and busy answers in a row: an adapter that leads counts on the bound."""
    slow = threading.Event()
    with serving(replace(refusal("SlowDown", 503), wait=slow, longest=0.5)) as faults:
        store = store_at(faults, cache, timeout=1.5)
        began = time.monotonic()
        with pytest.raises(StoreUnreachable):
            store.write("serving.json", b"x")
        assert time.monotonic() - began < 3.0
        assert len(faults.asked) == 2
        slow.set()


def test_a_refused_connection_is_recognised(cache: Path) -> None:
    with serving(OK) as faults:
        pass
    for endpoint, sentence in (
        (
            faults.endpoint,
            "accepts no connections: start it, or correct the host and the port in FITLOOP_S3_ENDPOINT",
        ),
        ("http://no.such.host.invalid", "The host of .* cannot be resolved: correct FITLOOP_S3_ENDPOINT"),
    ):
        store = build_s3_store("s3://bucket", cache, build_s3_settings(endpoint, "someone", SECRET))
        with pytest.raises(StoreUnreachable, match=sentence) as raised:
            check_store(store, write=False)
        assert is_transient(raised.value)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (Answer(400, b"Client sent an HTTP request to an HTTPS server."), "speaks TLS. Use https://"),
        (Answer(308, b"", {"Location": "https://elsewhere"}), "redirects requests"),
        (Answer(404, b"<html>", {"Content-Type": "text/html"}), "is not an S3 storage"),
        (Answer(200, b"<!doctype html><p>hello", {"Content-Type": "text/html"}), "is not an S3 storage"),
    ],
)
def test_another_server_is_recognised(cache: Path, answer: Answer, sentence: str) -> None:
    with serving(answer) as faults, pytest.raises(BadConfig, match=sentence):
        check_store(store_at(faults, cache), write=False)


def test_an_unchanged_object_is_not_transferred(cache: Path) -> None:
    with serving(OK, Answer(304)) as faults:
        store = store_at(faults, cache)
        found = store.read_changed("a")
        assert found == (b"one", "e1")
        assert store.read_changed("a", "e1") is None
        assert faults.asked[1][2]["If-None-Match"] == '"e1"'
        with pytest.raises(StoreRefused):
            store.read("a")  # unchanged from what?


def test_a_copy_is_kept_until_the_object_changes(cache: Path) -> None:
    with serving(OK, Answer(304), Answer(200, b"two", {"ETag": '"e2"'})) as faults:
        store = store_at(faults, cache)
        path = store.local("a")
        assert store.local("a") == path
        assert path.read_bytes() == b"one"
        assert len(faults.asked) == 2
        assert store.local("a").read_bytes() == b"two"
        assert store.forget("a")
        assert not store.forget("a")


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with serving(OK) as faults, pytest.raises(StoreError, match="'a' cannot be copied from"):
        store_at(faults, tmp_path / "file").local("a")


@pytest.mark.parametrize("url", ["s3://", "s3:///key", "s3://bucket/a//b", "s3://bucket/x?y", "file:///x"])
def test_a_url_without_a_bucket_is_refused(url: str, cache: Path) -> None:
    with pytest.raises(BadConfig, match="names no bucket"):
        build_s3_store(url, cache, build_s3_settings("http://minio", "a", "b"))


@pytest.mark.parametrize(("addressing", "path"), [("path", "/bucket/prefix/a"), ("auto", "/bucket/prefix/a")])
def test_the_bucket_is_in_the_path_outside_aws(addressing: str, path: str, cache: Path) -> None:
    with serving(OK) as faults:
        settings = build_s3_settings(faults.endpoint, "a", "b", region="r", addressing=addressing)
        build_s3_store("s3://bucket/prefix", cache, settings).read("a")
    assert faults.asked[0][1] == path


def test_the_bucket_is_in_the_host_where_that_is_set(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda _host, *others, **more: look_up("127.0.0.1", *others, **more)
    )
    with serving(OK) as faults:
        endpoint = faults.endpoint.replace("127.0.0.1", "storage.test")
        settings = build_s3_settings(endpoint, "a", "b", region="r", addressing="host")
        build_s3_store("s3://bucket/prefix", cache, settings).read("a")
    assert faults.asked[0][1] == "/prefix/a"
    assert faults.asked[0][2]["Host"].startswith("bucket.storage.test")


class TestKeys:
    def test_settings_come_from_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        with serving(OK) as faults:
            for name, value in {
                "FITLOOP_S3_ENDPOINT": faults.endpoint,
                "FITLOOP_S3_REGION": "r",
                "AWS_ACCESS_KEY_ID": "from-env",
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "FITLOOP_CACHE_DIR": str(tmp_path),
            }.items():
                monkeypatch.setenv(name, value)
            store = open_store("s3://bucket/prefix/")
            assert store.read("a") == b"one"
            assert tmp_path in store.local("a").parents
        assert "from-env/" in faults.asked[0][2]["Authorization"]

    def test_a_mounted_secret_is_read_again(self, cache: Path, tmp_path: Path) -> None:
        def secret(name: str, key: str) -> None:
            (tmp_path / name).mkdir()
            for file, text in (("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", f"{key}-secret\n")):
                (tmp_path / name / file).write_text(text)

        secret("..one", "first")
        secret("..two", "second")
        (tmp_path / "..two" / "AWS_SESSION_TOKEN").write_text("token")
        (tmp_path / "..data").symlink_to("..one")
        with serving(OK) as faults:
            settings = S3Settings(endpoint=faults.endpoint, region="r", credentials_dir=tmp_path)
            store = build_s3_store("s3://bucket", cache, settings)
            store.read("a")
            (tmp_path / "..data").unlink()
            (tmp_path / "..data").symlink_to("..two")
            store.read("a")
            assert [
                "first/" in faults.asked[0][2]["Authorization"],
                "second/" in faults.asked[1][2]["Authorization"],
            ] == [True, True]
            assert faults.asked[1][2]["X-Amz-Security-Token"] == "token"
            (tmp_path / "..two" / "AWS_SECRET_ACCESS_KEY").write_text(" ")
            with pytest.raises(StoreRefused, match="is empty in"):
                store.read("a")
            shutil.rmtree(tmp_path / "..two")
            with pytest.raises(StoreRefused, match="cannot be read from .*FITLOOP_S3_CREDENTIALS_DIR"):
                store.write("a", b"")

    @pytest.mark.parametrize("key", ["first\n", "first", " first\r\n", "\ufefffirst\u200b\0"])
    def test_white_space_around_a_mounted_key_is_stripped(
        self, cache: Path, tmp_path: Path, key: str
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            (tmp_path / name).write_text(key, encoding="utf-8", newline="")
        with serving(OK) as faults:
            settings = S3Settings(endpoint=faults.endpoint, region="r", credentials_dir=tmp_path)
            assert build_s3_store("s3://bucket", cache, settings).read("a") == b"one"
            assert "Credential=first/" in faults.asked[0][2]["Authorization"]

    @pytest.mark.parametrize("bad", ["in\nside", "in side", "in\u200bside", "kéy"])
    def test_an_invalid_mounted_key_is_refused_unrepeated(
        self, cache: Path, tmp_path: Path, bad: str
    ) -> None:
        for name, text in (("AWS_ACCESS_KEY_ID", "someone"), ("AWS_SECRET_ACCESS_KEY", f"{SECRET}{bad}")):
            (tmp_path / name).write_text(text, encoding="utf-8")
        settings = S3Settings(endpoint="http://minio.invalid", region="r", credentials_dir=tmp_path)
        with pytest.raises(StoreRefused, match="The file AWS_SECRET_ACCESS_KEY in .* it contains") as raised:
            build_s3_store("s3://bucket", cache, settings).read("a")
        assert SECRET not in str(raised.value)

    def test_a_refused_header_is_not_repeated(self, cache: Path) -> None:
        """Whatever got past the settings: http.client's own sentence is the whole header."""
        settings = build_s3_settings("http://127.0.0.1:9", "someone", SECRET, region="r")
        settings = settings.model_copy(update={"access_key": SecretStr("some\none")})
        store = build_s3_store("s3://bucket", cache, settings)
        with pytest.raises(StoreRefused, match="Check s3://bucket, AWS_ACCESS_KEY_ID") as raised:
            store.read("a")
        assert "AWS4" not in str(raised.value)

    def test_half_a_pair_and_none_are_refused(self, cache: Path) -> None:
        for key, sentence in (
            ("someone", "Only one of"),
            ("", "There are no keys for the object storage: set"),
        ):
            with pytest.raises(BadConfig, match=sentence):
                build_s3_store("s3://bucket", cache, build_s3_settings("http://minio", key, ""))

    def test_the_identity_of_the_pod_gives_keys(
        self,
        cache: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """And its token is in no log and in no error."""
        caplog.set_level(logging.DEBUG)
        token = tmp_path / "token"
        token.write_text("jwt-of-the-pod")
        keys = (
            "<AssumeRoleWithWebIdentityResponse xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><AssumeRoleWithWebIdentityResult>"
            "<Credentials><AccessKeyId>lent</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
            "<Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>"
            "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )
        with serving(Answer(200, keys.encode()), OK) as faults:
            monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", faults.endpoint)
            store = build_s3_store(
                "s3://bucket", cache, build_s3_settings(faults.endpoint, "", "", region="r")
            )
            assert store.read("a") == b"one"
            assert "lent/" in faults.asked[1][2]["Authorization"]
        with serving(refusal("AccessDenied", 403)) as faults:
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", faults.endpoint)
            store = build_s3_store(
                "s3://bucket", cache, build_s3_settings(faults.endpoint, "", "", region="r")
            )
            with pytest.raises(StoreRefused, match="identity gives it no keys"):
                store.read("a")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", faults.endpoint)
        store = build_s3_store("s3://bucket", cache, build_s3_settings(faults.endpoint, "", "", region="r"))
        with pytest.raises(StoreUnreachable, match="gives this pod its keys does not answer") as raised:
            store.read("a")
        assert raised.value.__cause__ is None
        assert "jwt-of-the-pod" not in caplog.text


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.create(tmp_path_factory.mktemp("authority"))


class TestTls:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"one")

        def log_message(self, *_: object) -> None:
            pass

    def test_an_own_authority_is_trusted_where_it_is_named(
        self, cache: Path, authority: CertificateAuthority
    ) -> None:
        with serve_http(self.Handler, tls=authority.server_context()) as endpoint:
            settings = build_s3_settings(endpoint, "a", "b", region="r", ca_file=authority.path)
            assert build_s3_store("s3://bucket", cache, settings).read("a") == b"one"
            with pytest.raises(StoreRefused, match="not trusted here: set FITLOOP_S3_CA_FILE"):
                build_s3_store("s3://bucket", cache, build_s3_settings(endpoint, "a", "b", region="r")).read(
                    "a"
                )

    @pytest.mark.parametrize(
        ("made", "expected"),
        [
            ({"begins": -3, "ends": -1}, "has expired: renew it"),
            ({"address": "127.0.0.2"}, "use one of its names in FITLOOP_S3_ENDPOINT"),
        ],
    )
    def test_each_certificate_fault_has_its_message(
        self, cache: Path, authority: CertificateAuthority, made: dict[str, str | float], expected: str
    ) -> None:
        with serve_http(self.Handler, tls=authority.server_context(**made)) as endpoint:  # type: ignore[arg-type]  # by name
            settings = build_s3_settings(endpoint, "a", "b", region="r", ca_file=authority.path)
            with pytest.raises(StoreRefused, match=expected):
                build_s3_store("s3://bucket", cache, settings).read("a")

    def test_http_and_https_are_told_apart(self, cache: Path, authority: CertificateAuthority) -> None:
        with serving(OK) as faults:
            plain = faults.endpoint.replace("http:", "https:")
            with pytest.raises(StoreRefused, match="does not speak TLS: use http:// in FITLOOP_S3_ENDPOINT"):
                build_s3_store("s3://bucket", cache, build_s3_settings(plain, "a", "b", region="r")).read("a")
        with serve_http(self.Handler, tls=authority.server_context()) as endpoint:
            settings = build_s3_settings(endpoint.replace("https:", "http:"), "a", "b", region="r")
            with pytest.raises(StoreError, match="use https:// in FITLOOP_S3_ENDPOINT if it speaks TLS"):
                build_s3_store("s3://bucket", cache, settings).read("a")

    @pytest.mark.parametrize("text", [None, "no certificate"])
    def test_a_file_without_certificates_is_refused(
        self, cache: Path, tmp_path: Path, text: str | None
    ) -> None:
        path = tmp_path / "ca.pem"
        if text:
            path.write_text(text)
        with pytest.raises(BadConfig, match="FITLOOP_S3_CA_FILE .* contains no readable certificate"):
            build_s3_store("s3://bucket", cache, build_s3_settings("https://minio", "a", "b", ca_file=path))


def test_a_temporary_cache_is_made_where_none_is_set() -> None:
    with serving(OK) as faults:
        settings = S3Settings(
            endpoint=faults.endpoint, region="r", access_key=SecretStr("a"), secret_key=SecretStr("b")
        )
        path = S3Store("s3://bucket", settings, StorageSettings()).local("a")
        assert path.read_bytes() == b"one"
        assert os.access(path, os.R_OK)
        shutil.rmtree(path.parents[2])

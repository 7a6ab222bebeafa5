"""core.settings.urls: what is an address, and which sentence each other thing becomes; none repeats it."""

from __future__ import annotations

import pytest

from services.core.settings.group import http_url


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("http://host", "http://host"),
        ("HTTPS://Host:8443/", "https://Host:8443"),
        ("https://host/label-studio/", "https://host/label-studio"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://127.0.0.1:65535", "http://127.0.0.1:65535"),
        ("http://bücher.example/ls", "http://bücher.example/ls"),
        ("http://例え.テスト", "http://例え.テスト"),
        ("http://label_studio:8080", "http://label_studio:8080"),
        ("http://host.", "http://host."),
    ],
)
def test_addresses(value: str, address: str) -> None:
    assert http_url(value) == address


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("never-said", "must begin with http:// or https://"),
        ("never-said:8080", "must begin with"),
        ("ftp://never-said", "must begin with"),
        ("http:/never-said", "must begin with"),
        ("http://", "must begin with"),
        ("http:///never-said", "has no host"),
        ("http://me:never-said@host", "a user name or password"),
        ("http://host?never-said", "a query"),
        ("http://host/#never-said", "a query"),
        ("http://host:0", "port is 0"),
        ("http://host:99999", "a port is a number"),
        ("http://host:never-said", "a port is a number"),
        ("http://host:", "a port must follow"),
        ("http://[::1", "cannot be read"),
        ("http://https://never-said", "two addresses in one"),
        ("http://host//never-said", "two addresses in one"),
        ("http://host\\never-said", "two addresses in one|has no host"),
        ("http://never..said", "has no host"),
        ("http://never%20said", "has no host"),
        ("http://xn--zzzzzz9999", "not a name that can be looked up"),
        (f"http://{'never-said' * 7}.example", "not a name that can be looked up"),
    ],
)
def test_what_is_none_is_refused_and_not_repeated(value: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as raised:
        http_url(value)
    assert "never" not in str(raised.value)


def test_a_path_and_a_login_are_allowed_by_who_asks() -> None:
    assert http_url("http://me:hush@collector:4318/v1", login=True) == "http://me:hush@collector:4318/v1"
    with pytest.raises(ValueError, match="without a path"):
        http_url("http://minio/path", path=False)

"""core.redaction: no secret in any shape, no header and no login, on one line of bounded length."""

from __future__ import annotations

import base64
from urllib.parse import quote, quote_plus

import pytest

from services.core.redaction import mask, redact, register_secrets, safe_reason

SECRET = 'p@ss/wörd "of" 9'


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(f"me:{SECRET}".encode()).decode(),
        base64.b64encode(f"someone:{SECRET}!".encode()).decode(),
        base64.b64encode(f"a:{SECRET}".encode()).decode(),
        repr(SECRET),
    ],
)
def test_a_secret_is_masked_in_every_encoding(written: str) -> None:
    register_secrets([SECRET])
    found = redact(f"refused {written} here")
    assert "[hidden]" in found
    assert not any(part in found for part in (SECRET, written, "w%C3%B6rd", "wörd"))


@pytest.mark.parametrize(
    ("secret", "text", "found"),
    [
        (
            "admin",
            "admin, administrator, admin_2 and badmin",
            "[hidden], administrator, [hidden]_2 and badmin",
        ),
        ("abc", "abc is no word of its own", "abc is no word of its own"),
        ("long-enough", "along-enough", "a[hidden]"),
        ("Пароль", "это Пароль, и Парольный", "это [hidden], и Парольный"),
    ],
)
def test_a_short_secret_is_masked_as_a_whole_word(secret: str, text: str, found: str) -> None:
    assert mask(text, [secret]) == found


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "Invalid header value b'AWS4-HMAC-SHA256 Credential=a/b\\n, Signature=c'",
            "Invalid header value [hidden]",
        ),
        ("Authorization: Token 0123", "Authorization [hidden]"),
        ("{'authorization': 'Bearer abcdefgh.ijk'}", "{'authorization [hidden]"),
        ("illegal header line Bearer abcdefgh.ijk next", "illegal header line Bearer [hidden] next"),
        ("Set-Cookie: sessionid=1; x", "Set-Cookie [hidden]"),
        ("x-amz-security-token=abc", "x-amz-security-token [hidden]"),
        (
            "GET http://h/x?page=2&X-Amz-Signature=abc&y=1",
            "GET http://h/x?page=2&X-Amz-Signature=[hidden]&y=1",
        ),
        ("no proxy at http://me:secret@proxy:3128", "no proxy at http://[hidden]@proxy:3128"),
        ("Basic auth is not a secret", "Basic auth is not a secret"),
        ("one\r\n  two\0three", "one two three"),
    ],
)
def test_headers_logins_and_lines_are_redacted(text: str, kept: str) -> None:
    assert redact(text) == kept


def test_a_long_message_is_cut() -> None:
    assert len(redact("word " * 1000)) == 200


def test_a_safe_reason_fits_into_a_sentence() -> None:
    assert (
        safe_reason(FileNotFoundError(2, "No such file or directory", "/secret/path"))
        == "No such file or directory"
    )
    assert safe_reason(ValueError("it ends with a stop.")) == "it ends with a stop"
    assert safe_reason(ValueError()) == "no reason was given"
    assert safe_reason(ValueError("refused hush-hush"), "hush-hush") == "refused [hidden]"

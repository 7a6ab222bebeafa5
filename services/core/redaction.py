"""Redaction of library messages: one line of bounded length, without secrets, headers and logins.

`redact` cleans any text; `safe_reason` returns an error's reason to embed in a message. `Settings.load` registers the
process's secrets once, so that they need not be passed around; their base64 and URL-quoted forms are redacted too.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from functools import cache
from typing import Final
from urllib.parse import quote, quote_plus

HIDDEN: Final = "[hidden]"
_MAX_CHARACTERS: Final = 200
"""Characters kept of a message."""
_MIN_SUBSTRING: Final = 8
"""Length from which a secret is masked inside words; a shorter one only as a word by itself."""
_MIN_ENCODED: Final = 6
"""Shortest base64 form that is masked."""
_MIN_SECRET: Final = 4
"""Length below which a secret is not masked, since it would match ordinary words: only headers and logins are."""
_SPACE: Final = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")
_WORD: Final = r"[^\W_]"
_HEADERS: Final = (
    re.compile(r"(?i)\b(invalid header value)\b.*"),
    re.compile(
        r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]*(?:token|key|secret)|api[-_]?key)(['\"]?\s*[:=]\s*).*"
    ),
    re.compile(r"(?i)\b(AWS4-HMAC-SHA256|Bearer|Basic|Token)(\s+)[A-Za-z0-9+/=._~:-]{8,}"),
)
_QUERY: Final = re.compile(
    r"(?i)([?&](?:[\w-]*(?:token|signature|credential|password|secret|key|code|sig))=)[^&\s'\"]+"
)
_LOGIN: Final = re.compile(r"(?<=://)[^/\s@\"']+@")
_secrets: list[str] = []


def register_secrets(secrets: Iterable[str]) -> None:
    """Replace the registered secrets, which no message of this process may contain."""
    _secrets[:] = filter(None, secrets)


def redact(text: object, *more: str) -> str:
    """Return the text on one line, truncated, without the registered secrets and `more`."""
    line = _SPACE.sub(" ", str(text)).strip()
    for header in _HEADERS:
        line = header.sub(lambda found: f"{found[1]} {HIDDEN}", line)
    line = _QUERY.sub(rf"\1{HIDDEN}", line)
    line = mask(line, (*more, *_secrets))
    return line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS].rstrip()}…"


def safe_reason(error: BaseException, *more: str) -> str:
    """Return a library error's reason to embed in a message: redacted, without a full stop."""
    reason = getattr(error, "strerror", None) or str(error)
    return redact(reason, *more).rstrip(". ") or "no reason was given"


def mask(text: str, secrets: Iterable[str] = ()) -> str:
    """Remove the secrets, in any encoding, and logins in front of a host."""
    return _LOGIN.sub(f"{HIDDEN}@", _pattern(frozenset(secrets)).sub(HIDDEN, text))


@cache
def _pattern(secrets: frozenset[str]) -> re.Pattern[str]:
    """Match each secret, the longest form first; match nothing if there are none."""
    known = [secret for secret in secrets if len(secret) >= _MIN_SECRET]
    found = {shape: _bounded(shape) for secret in known for shape in _text_forms(secret)}
    found |= {shape: re.escape(shape) for secret in known for shape in _base64_forms(secret)}
    return re.compile("|".join(found[shape] for shape in sorted(found, key=len, reverse=True)) or r"(?!)")


def _bounded(shape: str) -> str:
    escaped = re.escape(shape)
    return escaped if len(shape) >= _MIN_SUBSTRING else rf"(?<!{_WORD}){escaped}(?!{_WORD})"


def _text_forms(secret: str) -> set[str]:
    """Return the secret as it is, and as JSON, Python and URLs write it."""
    data = secret.encode("utf-8", "surrogateescape")
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(data, safe=""), quote_plus(data)}


def _base64_forms(secret: str) -> set[str]:
    """Return its base64 forms, also inside a longer value, if they are long enough to be unambiguous."""
    data = secret.encode("utf-8", "surrogateescape")
    shapes = (
        _middle(encode(b"\0" * before + data).decode(), before, len(data))
        for encode in (base64.b64encode, base64.urlsafe_b64encode)
        for before in range(3)
    )
    return {shape for shape in shapes if len(shape) >= _MIN_ENCODED}


def _middle(encoded: str, before: int, length: int) -> str:
    """Return the base64 characters that depend on the secret alone, whatever surrounds it."""
    return encoded[-(-8 * before // 6) : 8 * (before + length) // 6]

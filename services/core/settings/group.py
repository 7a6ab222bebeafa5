"""The base class of settings groups: read from the environment, frozen, with clean texts and finite numbers.

Values are pasted by people: white space, control characters and invisible characters (a byte order mark, a zero-width space)
are stripped from both ends. What a value may contain is stated by each field's `Inside`; no message repeats a value.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from pydantic import AliasChoices, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

_INVISIBLE: Final = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Cs"})
"""Unicode categories of control and format characters, blanks, line ends and surrogates."""

_BLANKS: Final = frozenset({"Zs"})

_BREAKS: Final = frozenset({"Cc", "Zl", "Zp", "Cs"})

_QUOTES: Final = frozenset("\"'`")

_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {"\n": "a line break", "\r": "a line break", "\t": "a tab", " ": "a blank", "\0": "a NUL character"}
)


class Inside(Enum):
    """What a value may contain."""

    WORD = "no white space and no invisible characters"
    TOKEN = "as WORD, and ASCII only: it is sent in a header"  # noqa: S105  # no password
    LINE = "one line"
    LINES = "any white space, as in JSON"
    EXACT = "one line, used verbatim: a blank at either end is refused, because it may be intended but is not sent"


def trim(text: str, inside: Inside = Inside.WORD) -> str:
    """Strip invisible characters from both ends."""
    kept = _BLANKS if inside is Inside.EXACT else frozenset[str]()
    start, end = 0, len(text)
    while start < end and _is_invisible(text[start], kept):
        start += 1
    while start < end and _is_invisible(text[end - 1], kept):
        end -= 1
    found = text[start:end]
    return found if found.strip() else ""


def value_problem(text: str, inside: Inside) -> str:
    """Return what is wrong inside a trimmed value, without repeating it; "" if nothing is."""
    if inside is Inside.LINES:
        return ""
    if inside is Inside.EXACT and text and (text[0].isspace() or text[-1].isspace()):
        return (
            "it begins or ends with a blank, which Label Studio does not send: remove it, or choose another"
        )
    if inside in {Inside.WORD, Inside.TOKEN} and len(text) > 1 and text[0] == text[-1] and text[0] in _QUOTES:
        return "it is in quotation marks: remove them"
    never = _BREAKS if inside in {Inside.LINE, Inside.EXACT} else _INVISIBLE
    bad = next((one for one in text if unicodedata.category(one) in never), "")
    if not bad and inside is Inside.TOKEN:
        bad = next((one for one in text if not one.isascii()), "")
    return f"it contains {_character_name(bad)}: paste it again without it" if bad else ""


def allowed_inside(field: FieldInfo) -> Inside:
    """Return the field's own rule, else that of its type."""
    own = next((one for one in field.metadata if isinstance(one, Inside)), None)
    if own is not None:
        return own
    if field.annotation is SecretStr:
        return Inside.TOKEN
    return Inside.LINE if _is_path(field) else Inside.WORD


def is_checked(field: FieldInfo) -> bool:
    """Return whether the field takes any text. Numbers and choices are checked by their types, with better messages."""
    return field.annotation in {str, SecretStr, str | None} or _is_path(field)


def _is_path(field: FieldInfo) -> bool:
    return field.annotation in {Path, Path | None}


def _is_invisible(one: str, kept: frozenset[str]) -> bool:
    return unicodedata.category(one) in _INVISIBLE - kept


def _character_name(one: str) -> str:
    known = _NAMES.get(one)
    return known or f"the character U+{ord(one):04X} ({unicodedata.name(one, 'without a name')})"


_MAX_LABEL_BYTES = 63
"""Bytes between two dots of a host's name."""

_BAD_SCHEME = "it must begin with http:// or https://"

_HAS_LOGIN = "it must not contain a user name or password"


def http_url(value: str, *, path: bool = True, login: bool = False, instead: str = "") -> str:
    """Return the URL without a trailing "/". Raises ValueError without repeating it: it may contain a password.

    `path`: whether it may have one. `login`: whether `user:password@` may be in it. `instead`: where credentials
    belong.
    """
    scheme, _, rest = value.partition("://")
    if scheme.lower() not in {"http", "https"} or not rest:
        raise ValueError(_BAD_SCHEME)
    value = f"{scheme.lower()}://{rest}".rstrip("/")
    parts, port = _split_url(value)
    if "@" in parts.netloc and not login:
        raise ValueError(f"{_HAS_LOGIN}: {instead}" if instead else _HAS_LOGIN)
    if "?" in value or "#" in value:
        raise ValueError("it must not contain a query (?…) or a fragment (#…): remove it")
    if "\\" in value or "//" in parts.path:
        raise ValueError("its path contains an empty part or a backslash: is it two addresses in one?")
    if parts.path and not path:
        raise ValueError("it must be a host alone, without a path")
    _check_host(parts, port)
    return value


def _split_url(value: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError("its host or its port cannot be read: a port is a number from 1 to 65535") from error
    if port == 0:
        raise ValueError("its port is 0: a port is a number from 1 to 65535")
    return parts, port


def _check_host(parts: SplitResult, port: int | None) -> None:
    """Check the host as the HTTP client parses it, with names in all scripts. Raises ValueError."""
    import httpx  # noqa: PLC0415  # a tenth of a second, which only those pay who set an address

    host = parts.hostname or ""
    if not host or (":" not in host and ("%" in host or host.startswith(".") or ".." in host)):
        raise ValueError("it has no host")
    if parts.netloc.endswith(":"):
        raise ValueError("a port must follow the ':' after its host")
    try:
        found = httpx.URL(parts.geturl())
        labels = found.raw_host.rstrip(b".").split(b".") if found.host else []
    except (httpx.InvalidURL, ValueError):
        raise ValueError("its host is not a name that can be looked up") from None
    if found.port not in {port, None} or not labels or max(map(len, labels)) > _MAX_LABEL_BYTES:
        raise ValueError("its host is not a name that can be looked up")


class Group(BaseSettings):
    """Settings that belong together, read from variables named by `env_prefix` and the field, or by an alias.

    Values are trimmed, and refused if they contain what their `Inside` rule forbids: `Annotated[str,
    Inside.LINE]` allows blanks.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        populate_by_name=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # there is no such file
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # nor such a folder
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment; a variable of white space alone counts as unset."""
        if isinstance(env_settings, EnvSettingsSource):
            known = {one.lower() for name in settings_cls.model_fields for one in variables(cls, name)}
            given = env_settings.env_vars.items()
            # pydantic-settings would read a variable named as a field (USERNAME, URL) as well.
            env_settings.env_vars = {name: text for name, text in given if name in known and trim(text or "")}
        return init_settings, env_settings

    @model_validator(mode="before")
    @classmethod
    def _are_trimmed(cls, given: Any) -> Any:
        """Trim before any other validator runs."""
        if not isinstance(given, Mapping):
            return given
        inside = {
            name: allowed_inside(field)
            for field_name, field in cls.model_fields.items()
            for name in (field_name, *variables(cls, field_name))
        }
        return {name: _trimmed(value, inside.get(name, Inside.LINES)) for name, value in given.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _holds_no_white_space(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[info.field_name or ""]
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if (
            isinstance(text, str)
            and is_checked(field)
            and (problem := value_problem(text, allowed_inside(field)))
        ):
            raise ValueError(problem)
        return value


def variables(group: type[Group], name: str) -> tuple[str, ...]:
    """Return the environment variables that set a field, the preferred one first: its alias, else prefix and name."""
    alias = group.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(map(str, alias.choices))
    return (str(alias or group.model_config["env_prefix"] + name.upper()),)


def _trimmed(value: Any, inside: Inside) -> Any:
    if isinstance(value, SecretStr):
        return SecretStr(trim(value.get_secret_value(), inside))
    return trim(value, inside) if isinstance(value, str) else value

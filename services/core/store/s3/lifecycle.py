"""Lifecycle rules of a bucket that delete objects by themselves. Only Fitloop may delete versions, runs and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from minio.error import MinioException
from minio.lifecycleconfig import Rule
from urllib3.exceptions import HTTPError

from services.core.errors import StoreError
from services.core.store.s3 import S3Store

_UNREADABLE: Final = frozenset(
    [
        "AccessDenied",
        "AllAccessDisabled",
        "Forbidden",
        "NotImplemented",
        "MethodNotAllowed",
        "UnauthorizedAccess",
    ]
)
"""S3's error codes if the key lacks s3:GetLifecycleConfiguration, or the storage has no lifecycle rules."""


@dataclass(frozen=True, slots=True)
class ExpirationRule:
    """An enabled rule that deletes objects, or makes them unreadable, after some days."""

    rule: str
    prefix: str
    """Prefix of the keys that it deletes, from the bucket's root."""
    days: int
    """0: at a date."""


def expiration_rules(store: S3Store) -> list[ExpirationRule] | None:
    """List the rules that affect the store; None if the key may not read them. Raises StoreError."""
    try:
        found = store._clients.documents.get_bucket_lifecycle(store.bucket)  # noqa: SLF001  # another part of the same store
    except (MinioException, HTTPError, ValueError, OSError) as error:
        if getattr(error, "code", "") in _UNREADABLE:
            return None
        raise _error(store, error) from error
    rules = [_expiry(rule) for rule in (found.rules if found else ())]
    return [one for one in rules if one and prefixes_overlap(one.prefix, store.prefix)]


def prefixes_overlap(rule: str, store: str) -> bool:
    """Return whether keys of the store may begin with the rule's prefix."""
    return rule.startswith(store) or store.startswith(rule)


def _expiry(rule: Rule) -> ExpirationRule | None:
    """Parse a rule. Ours have no tags, so a rule for tagged objects affects none; a colder class makes them slow, or unreadable."""
    deletion = rule.expiration or rule.transition
    chosen = rule.rule_filter
    if rule.status != "Enabled" or deletion is None or (deletion.days is None and deletion.date is None):
        return None
    if chosen and (chosen.tag or (chosen.and_operator and chosen.and_operator.tags)):
        return None
    prefix = (chosen.prefix or (chosen.and_operator and chosen.and_operator.prefix) or "") if chosen else ""
    return ExpirationRule(rule.rule_id or "without a name", prefix, deletion.days or 0)


def _error(store: S3Store, error: Exception) -> StoreError:
    return store._errors.translate(error, "the lifecycle rules", "read from")  # noqa: SLF001  # as above

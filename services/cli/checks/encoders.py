"""Encoders: every version finds its own in the bucket, whole; and what they take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.adapter.state.project_state import read_project_state
from services.cli.checks import Check, Context, Finding, fail, ok, warn
from services.cli.checks.storage import reason_to_skip
from services.core.encoder_listing import EncoderListing, StoredEncoder, list_encoders, missing_encoder
from services.core.encoders import Encoders
from services.core.errors import CorruptVersion, NotFound, StoreError, UnknownFormat
from services.core.registry import Registry
from services.core.store import ObjectStore
from services.core.store.files import FileStore

_MAX_NAMED: Final = 5
_ADVICE: Final = (
    "Restore the folder from a backup, at any time; or roll back to a version that has its encoder, or train again, which makes "
    "the encoder anew. Retention never deletes an encoder that a version names."
)


def encoders(context: Context) -> Finding:
    """Check that each version that is a head has its encoder, by names and sizes; in a folder, by content as well."""
    if skip := reason_to_skip(context):
        return skip
    listing = list_encoders(context.store)
    needed, unreadable = needed_encoders(context.store)
    problems = [
        f"{problem} (needed by {_listed(versions)})"
        for digest, versions in needed.items()
        if (problem := _problem(context.store, listing, digest))
    ]
    if problems:
        return fail(f"{'; '.join(problems)}.", _ADVICE)
    if unreadable:
        return warn(
            f"The manifest of {_listed(unreadable)} cannot be read, so no encoder is ever deleted: it may need any of them.",
            "Restore the manifests from a backup, or delete the folders of these versions.",
        )
    return ok(_summary(listing, needed))


def needed_encoders(store: ObjectStore) -> tuple[dict[str, list[str]], list[str]]:
    """Return the versions that need each encoder, as `<project>/<version>`, and those of which that cannot be read."""
    needed, unreadable = dict[str, list[str]](), list[str]()
    registry, table = Registry(store), Registry(store).serving().projects
    for key in store.folders("projects/"):
        known, broken = _references(registry, key)
        served = table.get(key)
        for version in filter(None, (served.current, served.previous) if served else ()):
            if version not in known:
                known |= _reference(registry, key, version)
        for version, digest in known.items():
            needed.setdefault(digest, []).append(f"{key}/{version}")
        unreadable += [f"{key}/{version}" for version in broken]
    return needed, unreadable


def _references(registry: Registry, key: str) -> tuple[dict[str, str], list[str]]:
    """Return the encoders of a project's versions as its last sweep has found them; without one, by reading all manifests."""
    try:
        state = read_project_state(registry.store, key)
    except UnknownFormat:
        state = None
    if state and state.encoders:
        return dict(state.encoders.versions), list(state.encoders.unreadable)
    manifests, unreadable = registry.all_manifests(key)
    return {one.version: one.encoder for one in manifests if one.encoder}, unreadable


def _reference(registry: Registry, key: str, version: str) -> dict[str, str]:
    try:
        digest = registry.manifest(key, version).encoder
    except (NotFound, CorruptVersion, UnknownFormat):
        return {}  # "held versions" and the project's state name it
    return {version: digest} if digest else {}


def _problem(store: ObjectStore, listing: EncoderListing, digest: str) -> str:
    found = listing.encoders.get(digest)
    if found is None:
        return missing_encoder(digest)
    return found.problem or (_content_problem(store, found) if isinstance(store, FileStore) else "")


def _content_problem(store: ObjectStore, encoder: StoredEncoder) -> str:
    """Read all files of an encoder; return what is wrong with them."""
    if encoder.manifest is None:
        return ""
    try:
        Encoders(store).folder(encoder.manifest, list(encoder.manifest.files))
    except StoreError as error:
        return str(error).rstrip(".")
    return ""


def _summary(listing: EncoderListing, needed: Mapping[str, list[str]]) -> str:
    stored = listing.encoders.values()
    if not stored:
        return "There is no encoder yet, and no version needs one."
    unused = [one for one in stored if one.digest not in needed]
    parts = [
        f"{one.digest[:12]} ({one.manifest.base_model if one.manifest else 'incomplete'}, {one.size / 1e6:.1f} MB, "
        f"{len(needed.get(one.digest, ()))} versions)"
        for one in stored
    ]
    more = f" and {len(parts) - _MAX_NAMED} more" if len(parts) > _MAX_NAMED else ""
    rest = f" {len(unused)} of them no version needs." if unused else ""
    total = sum(one.size for one in stored) / 1e6
    return f"{len(parts)} in the bucket, {total:.1f} MB: {', '.join(parts[:_MAX_NAMED])}{more}.{rest}"


def _listed(names: list[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


ENCODERS: Final = Check("encoders", encoders, 60.0, ("store: read",))

"""The store: that it is there, may be read and written, and that nobody else deletes from it."""

from __future__ import annotations

import secrets
import shutil
from typing import Final

from services.cli.checks.context import Context, Location, is_cluster_local
from services.cli.checks.finding import Check, Finding, fail, ok, skipped, warn
from services.cli.checks.label_studio import pod_command
from services.core.errors import StoreError
from services.core.store import ObjectStore, check_store
from services.core.store.files import FileStore

_LOW_DISK_BYTES: Final = 2_000_000_000


def reason_to_skip(context: Context) -> Finding | None:
    """Why the store cannot be asked from here, though pods may well ask it."""
    if context.location is not Location.LAPTOP:
        return None
    known = context.settings
    if not known.storage.store:
        return skipped(
            "FITLOOP_STORE is not set here, and the adapter's Deployment does not say it.",
            pod_command(context),
        )
    if is_cluster_local(known.s3.endpoint):
        return skipped(f"{known.s3.endpoint} is a name within the cluster.", pod_command(context))
    if not (known.s3.access_key.get_secret_value() or known.s3.credentials_dir):
        return skipped(
            "The bucket's keys are not set here, and Secrets of the cluster are not read.",
            pod_command(context),
        )
    return None


def readable(context: Context) -> Finding:
    """It exists, and its objects may be listed and read."""
    if why := reason_to_skip(context):
        return why
    check_store(context.store, write=False)
    return ok(f"{context.store.url} can be read.")


def writable(context: Context) -> Finding:
    """An object may be written, read back and deleted."""
    if why := reason_to_skip(context):
        return why
    store, key, data = context.store, f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(32)
    try:
        store.write(key, data)
        same = store.read(key) == data
        store.delete(key)
    except StoreError as error:
        return fail(
            str(error),
            "The adapter's and the trainer's keys need s3:PutObject and s3:DeleteObject; see docs/doctor.md.",
        )
    if not same:
        return fail(
            f"{store.url} gives back other bytes than were written.",
            "Look at what stands between: a cache, a proxy.",
        )
    return _with_room(store)


def rules(context: Context) -> Finding:
    """No rule of the bucket deletes versions: Fitloop does that itself, and never one that is served."""
    if why := reason_to_skip(context):
        return why
    if isinstance(context.store, FileStore):
        return skipped("A folder has no lifecycle rules.")
    from services.core.store.s3 import S3Store
    from services.core.store.s3.lifecycle import expiries

    assert isinstance(context.store, S3Store)  # noqa: S101  # for the type checker: there are two kinds of store
    found = expiries(context.store)
    if found is None:
        return skipped(
            "Not checked: the key may not read the bucket's lifecycle rules.",
            "Look yourself that none deletes objects, or allow the key s3:GetLifecycleConfiguration.",
        )
    if not found:
        return ok("No lifecycle rule of the bucket reaches versions.")
    said = "; ".join(
        f"{one.rule!r} takes what begins with {one.prefix!r} {f'after {one.days} days' if one.days else 'at a date'}"
        for one in found
    )
    return fail(
        f"Lifecycle rules of the bucket eat versions, even one that is served: {said}.",
        f"Delete them, or keep them off {context.store.url}/: Fitloop deletes old versions itself (FITLOOP_KEEP_VERSIONS).",
    )


CHECKS: Final = (
    Check("store: read", readable, 30.0),
    Check("store: write", writable, 45.0, ("store: read",)),
    Check("store: rules", rules, 30.0, ("store: read",)),
)


def _with_room(store: ObjectStore) -> Finding:
    if isinstance(store, FileStore):
        free = shutil.disk_usage(store.root).free
        if free < _LOW_DISK_BYTES:
            return warn(
                f"{store.root} has {free / 1e9:.1f} GB of room left.",
                "A version takes 0.1 to 0.5 GB: make room.",
            )
    return ok(f"{store.url} can be written, and deleted from.")

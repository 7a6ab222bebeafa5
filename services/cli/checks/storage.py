"""The store: it exists, can be read and written, and nothing else deletes from it."""

from __future__ import annotations

import secrets
import shutil
from typing import Final

from services.cli.checks import Check, Context, Finding, Location, fail, is_cluster_local, ok, skipped, warn
from services.cli.checks.label_studio import pod_command
from services.core.errors import BadConfig, StoreError
from services.core.store import check_store
from services.core.store.files import FileStore

_LOW_DISK_BYTES: Final = 2_000_000_000
_ALLOW: Final = (
    "The adapter's key needs s3:PutObject and s3:DeleteObject for all keys, the trainer's below projects/, runs/ and "
    'encoders/: see "Three keys" in docs/operations.md.'
)


def reason_to_skip(context: Context) -> Finding | None:
    """Return why the store cannot be checked from a laptop, or None."""
    if context.location is not Location.LAPTOP:
        return None
    known = context.settings
    if not known.storage.store:
        reason = "FITLOOP_STORE is not set, neither here nor in the adapter's Deployment."
    elif is_cluster_local(known.s3.endpoint):
        reason = f"{known.s3.endpoint} resolves only inside the cluster."
    elif not (known.s3.access_key.get_secret_value() or known.s3.credentials_dir):
        reason = "The bucket's keys are not set here, and the cluster's Secrets are not read."
    else:
        return None
    return skipped(reason, pod_command(context))


def readable(context: Context) -> Finding:
    """Check that the store exists, and that objects can be listed and read."""
    if skip := reason_to_skip(context):
        return skip
    check_store(context.store, write=False)
    return ok(f"{context.store.url} is readable.")


def writable(context: Context) -> Finding:
    """Write an object, read it back and delete it; and try the prefixes that a policy may forget."""
    if skip := reason_to_skip(context):
        return skip
    store, key, data = context.store, f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(32)
    try:
        store.write(key, data)
        same = store.read(key) == data
        store.delete(key)
        check_store(store, write=True)
    except (StoreError, BadConfig) as error:
        return fail(str(error), _ALLOW)
    if not same:
        return fail(
            f"{store.url} returned other bytes than were written.", "Look for a cache or proxy in between."
        )
    if isinstance(store, FileStore):
        free = shutil.disk_usage(store.root).free
        if free < _LOW_DISK_BYTES:
            return warn(
                f"{store.root} has only {free / 1e9:.1f} GB of free space.",
                "A version takes 0.1 to 0.5 GB: free some space.",
            )
    return ok(f"{store.url} is writable, and objects in it can be deleted.")


def rules(context: Context) -> Finding:
    """Check that no rule of the bucket deletes versions; Fitloop does that itself, and never deletes a served one."""
    if skip := reason_to_skip(context):
        return skip
    if isinstance(context.store, FileStore):
        return skipped("A folder has no lifecycle rules.")
    from services.core.store.s3 import S3Store
    from services.core.store.s3.lifecycle import expiration_rules

    assert isinstance(context.store, S3Store)  # noqa: S101  # for the type checker: there are two kinds of store
    found = expiration_rules(context.store)
    if found is None:
        return skipped(
            "Not checked: the key may not read the bucket's lifecycle rules.",
            "Make sure yourself that none deletes objects, or allow the key s3:GetLifecycleConfiguration.",
        )
    if not found:
        return ok("No lifecycle rule of the bucket applies to versions.")
    listed = "; ".join(
        f"{one.rule!r} removes keys that begin with {one.prefix!r} {f'after {one.days} days' if one.days else 'at a date'}"
        for one in found
    )
    return fail(
        f"Lifecycle rules of the bucket remove versions, even served ones: {listed}.",
        f"Delete these rules, or exclude {context.store.url}/ from them: Fitloop deletes old versions itself "
        "(FITLOOP_KEEP_VERSIONS).",
    )


CHECKS: Final = (
    Check("store: read", readable, 30.0),
    Check("store: write", writable, 45.0, ("store: read",)),
    Check("store: rules", rules, 30.0, ("store: read",)),
)

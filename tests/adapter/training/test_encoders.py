"""Which encoders are deleted, by the pure decision."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from services.adapter.state.project_state import EncoderReferences
from services.adapter.training.encoders import Fate, ProjectUse, decide
from services.core.encoder_listing import Alias, EncoderListing, StoredEncoder

NOW = 1_795_500_000.0
HOUR, DAY = 3600.0, 86_400.0
DIGEST, OTHER = "ab" * 32, "cd" * 32
OLD = StoredEncoder(DIGEST, {"manifest.json": 900, "model.safetensors": 90_000_000}, NOW - 9 * DAY)
RETIRED = replace(OLD, retired_at=NOW - 25 * HOUR)
IDLE = ProjectUse("5-1", EncoderReferences(NOW - HOUR), base_models=frozenset({"bge"}))
ALIAS = Alias("encoders/base-00.json", DIGEST, "minilm", NOW - 2 * DAY)


def fate(
    encoder: StoredEncoder, *uses: ProjectUse, aliases: tuple[Alias, ...] = (), unknown: str = ""
) -> tuple[Fate, str]:
    listing = EncoderListing({encoder.digest: encoder}, aliases)
    (found,) = decide(listing, uses, unknown, "e5", NOW)
    return found.fate, found.why


def naming(*versions: str, **changes: object) -> ProjectUse:
    references = EncoderReferences(NOW - HOUR, dict.fromkeys(versions, DIGEST))
    return replace(IDLE, references=references, **changes)  # type: ignore[arg-type]


def test_an_unused_encoder_is_retired_then_deleted() -> None:
    assert fate(OLD, IDLE)[0] is Fate.RETIRED
    assert fate(OLD)[0] is Fate.RETIRED, "no project is left"
    assert fate(RETIRED, IDLE)[0] is Fate.DELETED


def test_incomplete_encoder_is_treated_alike() -> None:
    incomplete = replace(OLD, sizes={"config.json": 3}, problem="it has no manifest")
    assert fate(incomplete, IDLE)[0] is Fate.RETIRED
    assert fate(replace(incomplete, retired_at=NOW - 25 * HOUR), IDLE)[0] is Fate.DELETED


@pytest.mark.parametrize("encoder", [OLD, RETIRED], ids=["old", "retired"])
@pytest.mark.parametrize(
    ("uses", "aliases", "why"),
    [
        ((naming("shop-1"),), (), "needed by 5-1/shop-1"),
        ((IDLE, naming("a", "b", "c", "d")), (), "5-1/c and 1 more"),
        ((replace(IDLE, served=frozenset({DIGEST})),), (), "needed by 5-1"),
        ((IDLE,), (replace(ALIAS, base_model="bge"),), "runs begin with bge"),
        ((IDLE,), (replace(ALIAS, base_model="e5"),), "runs begin with e5"),
        ((IDLE,), (replace(ALIAS, modified=NOW - HOUR),), "younger than a day"),
    ],
)
def test_a_needed_encoder_is_kept(
    encoder: StoredEncoder, uses: tuple[ProjectUse, ...], aliases: tuple[Alias, ...], why: str
) -> None:
    found, reason = fate(encoder, *uses, aliases=aliases)
    assert found is Fate.KEPT
    assert why in reason


def test_a_young_encoder_is_kept() -> None:
    assert fate(replace(OLD, modified=NOW - HOUR), IDLE) == (Fate.KEPT, "younger than a day")


@pytest.mark.parametrize("encoder", [OLD, RETIRED], ids=["old", "retired"])
@pytest.mark.parametrize(
    ("use", "unknown", "why"),
    [
        (replace(IDLE, references=None), "", "project 5-1 have not been read yet"),
        (replace(IDLE, references=EncoderReferences(NOW, {}, ("shop-3",))), "", "5-1/shop-3 cannot be read"),
        (IDLE, "some projects could not be read", "some projects could not be read"),
    ],
)
def test_nothing_is_deleted_while_something_is_unknown(
    encoder: StoredEncoder, use: ProjectUse, unknown: str, why: str
) -> None:
    found, reason = fate(encoder, use, replace(IDLE, project="6-1"), unknown=unknown)
    assert found is Fate.WAITING
    assert why in reason


@pytest.mark.parametrize(
    ("use", "why"),
    [
        (replace(IDLE, references=EncoderReferences(NOW - 26 * HOUR)), "have not been read since"),
        (replace(IDLE, has_unswept=True), "have not been read since"),
        (replace(IDLE, run_requested_at=NOW - 26 * HOUR), "is still active"),
    ],
)
def test_deletion_waits_for_what_began_before(use: ProjectUse, why: str) -> None:
    found, reason = fate(RETIRED, replace(IDLE, project="6-1"), use)
    assert found is Fate.WAITING
    assert why in reason


def test_deletion_waits_a_day() -> None:
    assert fate(replace(OLD, retired_at=NOW - 20 * HOUR), IDLE) == (
        Fate.WAITING,
        "no version needs it: it is deleted in 4 h",
    )


def test_a_run_requested_later_does_not_delay() -> None:
    assert fate(RETIRED, replace(IDLE, run_requested_at=NOW - HOUR))[0] is Fate.DELETED


def test_an_alias_written_again_restarts_the_grace() -> None:
    assert fate(RETIRED, IDLE, aliases=(ALIAS,))[0] is Fate.RETIRED


_times = some.floats(NOW - 9 * DAY, NOW)
_references = some.builds(
    EncoderReferences,
    _times,
    some.dictionaries(some.sampled_from(["v1", "v2"]), some.sampled_from([DIGEST, OTHER])),
    some.lists(some.just("v3"), max_size=1).map(tuple),
)
_uses = some.builds(
    ProjectUse,
    some.sampled_from(["5-1", "6-1"]),
    some.none() | _references,
    some.booleans(),
    some.none() | _times,
    some.frozensets(some.sampled_from(["minilm", "bge"])),
    some.frozensets(some.just(DIGEST)),
)


@given(
    some.lists(_uses, max_size=4, unique_by=lambda use: use.project),
    some.none() | _times,
    _times,
    some.lists(
        some.builds(Alias, some.just("k"), some.sampled_from([DIGEST, OTHER]), some.just("minilm"), _times)
    ),
    some.sampled_from(["", "unread"]),
)
def test_only_what_surely_nothing_needs_is_deleted(
    uses: list[ProjectUse], retired_at: float | None, modified: float, aliases: list[Alias], unknown: str
) -> None:
    encoder = replace(OLD, modified=modified, retired_at=retired_at)
    found, why = fate(encoder, *uses, aliases=tuple(aliases), unknown=unknown)
    assert why
    if found is not Fate.DELETED:
        return
    assert retired_at is not None
    assert not unknown
    assert now_is_a_day_after(retired_at)
    assert now_is_a_day_after(modified)
    assert DIGEST not in [alias.digest for alias in aliases]
    for use in uses:
        assert use.references is not None
        assert DIGEST not in use.references.versions.values()
        assert DIGEST not in use.served
        assert not use.references.unreadable
        assert not use.has_unswept
        assert use.references.read_at > retired_at
        assert use.run_requested_at is None or use.run_requested_at > retired_at


def now_is_a_day_after(then: float) -> bool:
    return NOW - then >= DAY

"""Only predictions of the project's own, older versions are outdated."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.serving.outdated import is_outdated
from services.core.domain import Served

SERVED = Served(current="support-5", previous="support-4", target="support-6")


@pytest.mark.parametrize("version", ["support-1", "support-3", "support-3b", "support-03"])
def test_older_versions_are_outdated(version: str) -> None:
    assert is_outdated(version, SERVED)


@pytest.mark.parametrize(
    "version",
    [
        "support-4",
        "support-5",
        "support-6",
        "support-5b",
        "support-7",
        "other-1",
        "support",
        "",
        None,
        3,
        "support-2-1",
    ],
)
def test_versions_in_use_newer_and_foreign_ones_are_kept(version: object) -> None:
    assert not is_outdated(version, SERVED)


def test_versions_from_label_names_come_before_all_others() -> None:
    one, two = "support-label-names-only-1", "support-label-names-only-12"
    assert is_outdated(one, SERVED)
    assert is_outdated(two, SERVED)
    assert not is_outdated(two, Served(current="support-2", previous=two))
    assert is_outdated(one, Served(current=two))
    assert not is_outdated("support-1", Served(current=two))
    assert is_outdated("support-1", Served(current=two, previous="support-2"))  # after a rollback
    assert not is_outdated("other-label-names-only-1", SERVED)


def test_versions_named_by_an_earlier_title_are_outdated() -> None:
    served = Served(current="bank-5", previous="support-4")
    assert is_outdated("support-3", served)
    assert not is_outdated("card-3", served)


def test_nothing_is_outdated_where_nothing_is_served() -> None:
    assert not is_outdated("support-1", Served())


names = st.builds(
    lambda stem, number, letter: f"{stem}-{number}{letter}",
    st.sampled_from(("support", "bank", "support-2")),
    st.integers(1, 9),
    st.sampled_from(("", "b")),
)


@given(names | st.text(max_size=9), st.none() | names, st.none() | names, st.none() | names)
def test_no_version_in_use_is_ever_outdated(
    version: str, current: str | None, previous: str | None, target: str | None
) -> None:
    if is_outdated(version, Served(current=current, previous=previous, target=target)):
        assert version not in {current, previous, target}
        stems = {one.rpartition("-")[0] for one in (current, previous, target) if one}
        assert version.rpartition("-")[0] in stems

"""What runs have made of a project's unlabelled texts, the pool."""

from __future__ import annotations

from dataclasses import dataclass

from services.core.documents import Extensible


@dataclass(frozen=True, slots=True)
class PoolState(Extensible):
    """The pool when a run had read it: the unlabelled tasks that show a text."""

    tasks: int
    left: int
    """Tasks among them whose texts have no features yet."""
    counted: int = 0
    """Label Studio's count of all tasks, labelled or not, that the pool was read for; 0 if it was not read to the end."""
    computed: int = 0
    """Texts whose features the run has stored."""
    encoder: str = ""
    """The digest of the encoder that the features are of."""


@dataclass(frozen=True, slots=True)
class NamesResult(Extensible):
    """What became of the wish for a version from label names."""

    texts: int
    """Unlabelled texts with features, as they were known then."""
    version: str = ""
    """The version that the run has published; "" if there is none, and `reason` says why."""
    reason: str = ""

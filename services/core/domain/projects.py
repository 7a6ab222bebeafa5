"""A connected project, the question that it asks, and what a person may ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from services.core.documents import FORMAT


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """The one question of a label config that Fitloop answers: which of `labels` a text has."""

    from_name: str
    to_name: str
    text_value: str
    """The Text tag's value as written: `$body`, `$a.b`, or a sentence with several `$names`."""
    labels: tuple[str, ...]
    """As they stand in annotations: a choice's alias where it has one, its path (`a > b`) where the name is not unique."""
    paths: tuple[tuple[str, ...], ...] | None = None
    """With `allowNested`, each label's path from the root, because results are then paths; else None."""
    text_tag: str = "Text"
    """The object tag that shows the text: Text, HyperText or Paragraphs."""
    text_attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Its other attributes as written, by lower-case name: the editor reads them in any case."""
    shown: Mapping[str, str] = field(default_factory=dict, hash=False)
    """Label by what the editor shows of its choice, for choices whose annotations hold an alias instead."""
    note: str = ""
    """Which Choices was taken and which were passed over: a sentence for the log and the status."""


@dataclass(frozen=True, slots=True)
class Project:
    """project.json: what Label Studio's API last said. `key` is id and creation time."""

    key: str
    id: int
    title: str
    label_config: str
    label_config_hash: str
    created_at: str
    format: int = FORMAT


class Action(StrEnum):
    """What a person may ask of a project."""

    TRAIN = "train"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    UNPIN = "unpin"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Command:
    """inbox/cmd-<id>.json: stored before it is answered, carried out by the leader."""

    id: str
    project_id: int
    action: Action
    version: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    """For TRAIN: overrides of Parameters, checked when the run is made."""
    created_at: float = 0.0
    traceparent: str = ""
    """The trace of the request that asked for it; "" where there are none."""
    asked_by: str = ""
    """User name and address, as "anna from 10.0.0.7"; "" where an earlier release wrote it."""
    format: int = FORMAT

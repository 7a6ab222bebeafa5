"""What pages and commands say about labels that may be wrong. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.core.domain import Report, SuspectLabel, SuspectLabels
from services.core.labels.uncounted import plural
from services.core.labelstudio.tabs import annotations_url

TOO_FEW: Final = "Too few texts, or too few of each label, were evaluated to say which labels may be wrong."
ADVICE: Final = (
    "Correct what is wrong. If a label is right, change any choice in the editor and change it back, then press Update: it leaves this "
    "list, and versions made after that do not list it again. Any edit of the task that leaves the label as it is counts."
)


@dataclass(frozen=True, slots=True)
class SuspectRow:
    """A suspect label in words."""

    task: int
    label: str
    """`without …` if a text may have several labels, and lacks one."""
    prediction: str
    probability: float
    """That the label is right."""
    other_probability: float
    """That the prediction is."""
    margin: float


def suspect_rows(report: Report) -> tuple[SuspectRow, ...]:
    """Return the listed labels, the least probable first."""
    found = report.suspects.rows if report.suspects else ()
    return tuple(_row(report.labels, one) for one in found)


def suspects_message(report: Report) -> str:
    """Return how many labels may be wrong, and what became of those listed before; "" if it is not known."""
    found = report.suspects
    if found is None:
        return ""
    if found.too_few:
        return TOO_FEW
    looks = "looks" if found.count == 1 else "look"
    which = (
        f"{plural(found.count, 'label')} {looks}"
        if found.count
        else f"no {'other ' if found.checked else ''}label looks"
    )
    message = f"Of {plural(report.judged, 'evaluated text')}, {which} wrong to models that were not trained on the text."
    if found.checked:
        message += (
            f" {found.checked} that {_were(found.checked)} listed {_have(found.checked)} been checked since."
        )
    asked = found.confirmed + found.changed
    if not asked:
        return message
    before = "Of {} that people had checked before" if found.checked else "Of {} that people have checked"
    return f"{message} {before.format(asked)}, {found.changed} {_were(found.changed)} changed and {found.confirmed} confirmed."


def suspects_url(label_studio: str, project_id: int, found: SuspectLabels | None) -> str:
    """Return the address of a tab with the tasks of the listed labels; "" if there are none."""
    if found is None or not found.rows:
        return ""
    return annotations_url(label_studio, project_id, "Suspect labels", [row.annotation for row in found.rows])


def _row(labels: tuple[str, ...], one: SuspectLabel) -> SuspectRow:
    given = f"without {labels[one.other or 0]}" if one.given is None else labels[one.given]
    other = f"without {labels[one.given or 0]}" if one.other is None else labels[one.other]
    margin = round(one.other_probability - one.probability, 4)
    return SuspectRow(one.task_id, given, other, one.probability, one.other_probability, margin)


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"

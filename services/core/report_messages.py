"""What a report says about texts and annotators, in sentences for pages and the command line. Pure."""

from __future__ import annotations

from services.core.domain import CutTexts, Disagreement, Estimate, NearDuplicates
from services.core.labels.uncounted import plural

_CEILING = "A model is rarely right more often than annotators agree with each other."


def cut_message(found: CutTexts | None, estimate: Estimate) -> str:
    """Return how well truncated texts are answered, compared with the others; "" if none was evaluated."""
    if found is None or not found.judged:
        return ""
    others = estimate.judged - found.judged
    compared = f"; of the others, {estimate.right - found.right} of {others}" if others > 0 else ""
    return f"Of the truncated texts that were evaluated, {found.right} of {found.judged} are answered correctly{compared}."


def near_duplicates_message(found: NearDuplicates | None, texts: int) -> str:
    """Return how many of the texts have a near-duplicate; "" if it is not known."""
    if found is None:
        return ""
    if not found.texts:
        return "No text is nearly equal to one of another fold."
    is_one = found.texts == 1
    message = f"{found.texts} of {plural(texts)} {'is' if is_one else 'are'} nearly equal to a text of another fold, which makes the evaluation easier"
    if not found.contradicting:
        return f"{message}; their labels are the same."
    which = "1 has" if found.contradicting == 1 else f"{found.contradicting} have"
    return f"{message}; {which} another label than the nearest one, so one of the two labels may be wrong."


def disagreement_message(found: Disagreement | None) -> str:
    """Return how annotators agree; "" if it is not known."""
    if found is None:
        return ""
    if not found.tasks:
        return (
            "No task without ground truth has the labels of two annotators, so their agreement is not known."
        )
    outvoted = found.tasks - found.agreed - found.tied
    return (
        f"Annotators agree on {found.agreed} of {plural(found.tasks, 'task')} that two or more of them labelled "
        f"({100 * found.agreed / found.tasks:.0f} %); {_were(outvoted)} decided by majority, and {_are(found.tied)} tied. {_CEILING}"
    )


def _were(count: int) -> str:
    return "1 was" if count == 1 else f"{count} were"


def _are(count: int) -> str:
    return "1 is" if count == 1 else f"{count} are"

"""What a check finds, and how checks are run: each within its time, none able to stop another."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from services.core.errors import FitloopError

if TYPE_CHECKING:
    from services.cli.checks.context import Context

DEFAULT_SECONDS = 15.0
"""For a check that says nothing else."""


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what is so, and what to do about it."""

    verdict: Verdict
    sentence: str
    advice: str = ""
    name: str = ""
    """The check's; whoever runs it fills it in."""


@dataclass(frozen=True, slots=True)
class Check:
    """A name, and the function that looks. What that raises is a failure of this check alone."""

    name: str
    run: Callable[[Context], Finding]
    timeout_seconds: float = DEFAULT_SECONDS
    needs: tuple[str, ...] = ()
    """Checks before it, without which there is nothing to look at: one cause makes one failure."""


def ok(sentence: str) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, sentence)


def warn(sentence: str, advice: str) -> Finding:
    """It works, or may, and could be better."""
    return Finding(Verdict.WARN, sentence, advice)


def fail(sentence: str, advice: str = "") -> Finding:
    """It does not work."""
    return Finding(Verdict.FAIL, sentence, advice)


def skipped(why: str, advice: str = "") -> Finding:
    """It cannot be told from here."""
    return Finding(Verdict.SKIPPED, why, advice)


def run_checks(groups: Sequence[Sequence[Check]], context: Context) -> Iterator[Finding]:
    """The findings, in the order of the checks; a group's come when it is through."""
    with ThreadPoolExecutor(len(groups)) as pool:
        for found in pool.map(lambda group: _all(group, context), groups):
            yield from found


def _all(group: Sequence[Check], context: Context) -> list[Finding]:
    found: dict[str, Finding] = {}
    for check in group:
        before = (found[name] for name in check.needs if name in found)
        lacking = next((one for one in before if one.verdict in {Verdict.FAIL, Verdict.SKIPPED}), None)
        found[check.name] = run_check(check, context) if lacking is None else _in_vain(check, lacking)
    return list(found.values())


def _in_vain(check: Check, lacking: Finding) -> Finding:
    ended = "failed" if lacking.verdict is Verdict.FAIL else "was skipped"
    return Finding(Verdict.SKIPPED, f"The check {lacking.name!r} {ended}.", name=check.name)


def run_check(check: Check, context: Context) -> Finding:
    """What the check finds. One that does not come back in its time is left behind: its thread ends with the process."""
    answers: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    thread = threading.Thread(target=lambda: answers.put(_safely(check, context)), daemon=True)
    thread.start()
    try:
        found = answers.get(timeout=check.timeout_seconds)
    except queue.Empty:
        found = fail(
            f"There was no answer within {check.timeout_seconds:g} s.",
            "See whether what it asks is overloaded, or a firewall swallows the connection.",
        )
    return replace(found, name=check.name)


def _safely(check: Check, context: Context) -> Finding:
    try:
        return check.run(context)
    except FitloopError as error:
        return fail(str(error))
    except Exception as error:  # noqa: BLE001  # a slip in one check must not hide what the others find; its text may hold secrets
        return fail(
            f"The check itself failed unexpectedly ({type(error).__name__}).",
            "Please report it: it is a bug.",
        )

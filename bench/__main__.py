"""`python -m bench [name ...]`: run all benchmarks or the named ones, print their tables, store and write the results.

Results are kept in .bench/, one file each, so that benches can be run one by one and still make one page. A bench whose data
or servers are missing is skipped and says so. Exit code 1: a goal was missed, or a bench broke.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.document import ORDER, document, verdict
from bench.machine import describe, disturbance
from bench.result import Options, Result, Skip, read_json, say, write_json
from bench.rig import Rig
from bench.scale import page
from services.core.settings import LoggingSettings
from services.core.telemetry.logs import configure

KEPT = Path(".bench")


def main() -> int:
    """Parse the command line, run, print and write."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    options = Options(
        data=Path(os.environ.get("FITLOOP_DATA", "../shared/data")),
        label_studio=Path(os.environ.get("FITLOOP_LABEL_STUDIO", ".ls-venv/bin/label-studio")),
        rounds=arguments.rounds,
        seeds=arguments.seeds,
        full=arguments.full,
        dirty=arguments.dirty,
    )
    results = [] if arguments.only_write else run_all(arguments.names or ORDER, options)
    if arguments.write:
        kept = [read_json(path) for name in ORDER if (path := KEPT / f"{name}.json").exists()]
        earlier = arguments.write.read_text("utf-8") if arguments.write.exists() else ""
        arguments.write.write_text(document(kept, earlier), encoding="utf-8")
        for result in kept:
            if result.figures:
                page.write(result, arguments.write.with_name("scale.md"))
    return 1 if any(result is None or result.met is False for result in results) else 0


def run_all(names: Sequence[str], options: Options) -> list[Result | None]:
    """Run them one after the other; None for one that failed."""
    machine = describe(options.label_studio)
    configure(LoggingSettings(level="WARNING"))
    KEPT.mkdir(exist_ok=True)
    (KEPT / ".gitignore").write_text("*\n", encoding="utf-8")
    console = Console()
    results = []
    with Rig(options) as rig:
        for name in names:
            result = run_one(name, options, rig)
            results.append(result)
            if result is not None:
                keep(replace(result, machine=machine))
                show(console, result)
    return results


def run_one(name: str, options: Options, rig: Rig) -> Result | None:
    """Return the result, which may be that it was skipped; None if it failed: the others still run."""
    disturbed = disturbance()
    say(f"{name}: begins. {disturbed}".rstrip())
    begun = time.monotonic()
    try:
        found: Result = importlib.import_module(f"bench.{name}").run(options, rig)
    except Skip as skip:
        return Result(name, (), f"Skipped: {skip}", None, skipped=True)
    except Exception:  # noqa: BLE001 - the other benches still have something to say
        traceback.print_exc()
        return None
    return replace(found, seconds=time.monotonic() - begun, disturbed=disturbed)


def keep(result: Result) -> None:
    """Write .bench/<name>.json; a skipped benchmark keeps its earlier result."""
    path = KEPT / f"{result.name}.json"
    if not (result.skipped and path.exists()):
        write_json(result, path)


def show(console: Console, result: Result) -> None:
    if result.rows:
        table = Table(*result.rows[0], title=result.name)
        for row in result.rows[1:]:
            table.add_row(*row)
        console.print(table)
    for words, rows in result.more.items():
        further = Table(*rows[0], title=words)
        for each in rows[1:]:
            further.add_row(*each)
        console.print(further)
    console.print(result.sentence, highlight=False)
    if not result.skipped:
        goal = f"Goal: {result.goal}. Met: {verdict(result)}. " if result.goal else ""
        console.print(f"{goal}({result.seconds:.0f} s)\n", highlight=False)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="What Fitloop costs and gives, measured.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(ORDER)}; none: all")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page from all kept results")
    parser.add_argument("--only-write", action="store_true", help="run nothing")
    parser.add_argument("--rounds", type=int, default=5, help="of loop and predict (5)")
    parser.add_argument("--seeds", type=int, default=3, help="random draws of accuracy (3)")
    parser.add_argument(
        "--full", action="store_true", help="extrapolate nothing, leave nothing out: much longer"
    )
    parser.add_argument("--dirty", action="store_true", help="run `learning` on bad input as well")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in ORDER]
    if unknown:
        parser.error(f"there is no bench {', '.join(unknown)}: take {', '.join(ORDER)}")
    return arguments


if __name__ == "__main__":
    sys.exit(main())

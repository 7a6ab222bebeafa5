"""`python -m bench.scale`: measure one size, and print the figures as they come. For profiles and comparisons while working."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from bench.scale.content import Content
from bench.scale.phases import PHASES, STATES, Plan, measure


def main() -> None:
    """Parse the command line, and measure."""
    parser = argparse.ArgumentParser(prog="bench.scale")
    parser.add_argument("--projects", type=int, default=50)
    parser.add_argument("--runs", type=int, default=50, help="of each project (50)")
    parser.add_argument("--labels", type=int, default=600, help="labelled tasks of each project (600)")
    parser.add_argument("--bucket-ms", type=float, default=5.0)
    parser.add_argument("--studio-ms", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement (10)")
    parser.add_argument(
        "--limit", type=float, default=60.0, help="seconds to wait for a command or an event (60)"
    )
    parser.add_argument("--takeover", type=float, default=180.0, help="seconds to wait for a takeover (180)")
    parser.add_argument(
        "--reading", type=float, default=900.0, help="seconds to wait for the first read of all labels (900)"
    )
    parser.add_argument(
        "--only",
        default=",".join(PHASES),
        help=f'phases, of {", ".join(PHASES)}; "": takeover, first read and memory alone',
    )
    parser.add_argument("--states", default=",".join(STATES), help=f"of Label Studio: {', '.join(STATES)}")
    parser.add_argument(
        "--profiles", type=Path, help="a folder for profiles of the leader's thread, and logs"
    )
    parser.add_argument("--json", type=Path, help="a file for the figures")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    plan = Plan(
        Content(given.projects, given.runs, given.labels),
        given.bucket_ms / 1000,
        given.studio_ms / 1000,
        given.seconds,
        given.limit,
        given.takeover,
        given.reading,
        [phase for phase in given.only.split(",") if phase],
        given.states.split(","),
        given.profiles,
    )
    found = measure(plan)
    if given.json:
        given.json.write_text(json.dumps(found.figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

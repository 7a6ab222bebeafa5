"""The demo's texts and helpers, and when ONCE=1 succeeds. The demo itself runs with `make demo ONCE=1`."""

from __future__ import annotations

import sys
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from demo.__main__ import summarize
from demo.annotator import label_config
from demo.curve import draw
from demo.processes import DemoError, Server
from demo.walkthrough import Step, read_texts
from services.core.labels import parse_label_space
from services.trainer.data.split import split_key


def _step(labels: int, truth: float, *, served: bool = True) -> Step:
    return Step(labels, "v" if served else "", "", "about 50 %", 0.5 if served else None, truth, 9.0)


def _succeeds(*steps: Step) -> bool:
    return summarize(Console(file=StringIO()), list(steps))


def test_a_gain_of_ten_points_succeeds() -> None:
    assert _succeeds(_step(0, 0.75), _step(420, 0.86))
    assert not _succeeds(_step(0, 0.75), _step(420, 0.84))


def test_steps_without_a_version_do_not_count() -> None:
    assert not _succeeds(_step(30, 0.0, served=False), _step(60, 0.75), _step(420, 0.8))
    assert not _succeeds(_step(30, 0.0, served=False))


def test_the_pool_contains_no_holdout_text() -> None:
    pool, holdout = read_texts("pool"), read_texts("holdout")
    keys = [split_key(text) for text, _ in pool + holdout]
    assert len(set(keys)) == len(keys)
    assert len(holdout) == 150
    assert Counter(label for _, label in holdout).keys() == Counter(label for _, label in pool).keys()


def test_labels_are_escaped_in_the_label_config() -> None:
    space = parse_label_space(label_config(['"A" & <B>', "C"]))
    assert space.labels == ('"A" & <B>', "C")


def test_the_curve_shows_each_point() -> None:
    drawn = draw([(30, 0.0), (420, 1.0)], [(420, 0.5)])
    assert drawn.count("●") == 3  # two points and the legend
    assert "420 labels" in drawn
    assert draw([]) == ""


def test_a_server_that_exits_during_startup_shows_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such option'); raise SystemExit(3)"]
    server = Server("Label Studio", command, {}, "http://127.0.0.1:1/health", tmp_path / "log")
    server.start()
    with pytest.raises(DemoError, match="(?s)exited during startup.*no such option"):
        server.wait(30)
    assert server.stop() == 3

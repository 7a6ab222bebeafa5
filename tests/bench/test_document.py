"""One bench's new figures leave those of the others on the page."""

from __future__ import annotations

from dataclasses import replace

from bench.document import document
from bench.result import Result

LOOP = Result(
    name="loop",
    rows=(("where", "seconds"), ("all | parts", "8.5")),
    sentence="8.5 s from label to version.",
    met=True,
    goal="at most 12 s",
    machine={"cores": "2"},
)
MEMORY = replace(LOOP, name="memory", sentence="244 MB.", goal="", met=None, machine={"cores": "4"})


def test_figures_of_other_benches_stay() -> None:
    both = document([MEMORY, LOOP])
    assert both.index("## From") < both.index("## Memory")
    later = document([replace(MEMORY, sentence="230 MB.")], both)
    assert later == both.replace("244 MB.", "230 MB.")


def test_same_results_give_the_same_page() -> None:
    page = document([LOOP, MEMORY])
    assert document([LOOP, MEMORY], page) == page
    assert document([], page) == page


def test_each_section_names_its_machine() -> None:
    page = document([LOOP, MEMORY])
    loop, memory = page.split("\n## ")[1:]
    assert "Machine: cores 2." in loop
    assert "Machine: cores 4." in memory


def test_a_section_of_no_bench_is_dropped() -> None:
    page = document([LOOP])
    assert document([], f"{page}\n## Something else\nText.\n") == page

"""Imports among the trainer's modules."""

from __future__ import annotations

import grimp


def test_trainer_has_no_import_cycle() -> None:
    graph = grimp.build_graph("services", cache_dir=None)
    ours = {"services.trainer", *graph.find_descendants("services.trainer")}
    circles = [
        chain
        for module in sorted(ours)
        for imported in sorted(graph.find_modules_directly_imported_by(module) & ours)
        if (chain := graph.find_shortest_chain(imported, module))
    ]
    assert not circles

"""Which module of the trainer knows which."""

from __future__ import annotations

import grimp


def test_no_module_of_the_trainer_imports_itself_by_way_of_others() -> None:
    graph = grimp.build_graph("services", cache_dir=None)
    ours = {"services.trainer", *graph.find_descendants("services.trainer")}
    circles = [
        chain
        for module in sorted(ours)
        for imported in sorted(graph.find_modules_directly_imported_by(module) & ours)
        if (chain := graph.find_shortest_chain(imported, module))
    ]
    assert not circles

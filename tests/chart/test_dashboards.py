"""Dashboards without a cluster: rendering, descriptions, and queries that use only existing metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.dashboards import NAMES, Dashboard, filled, metrics_of
from tests.chart.rendering import CHART, Document, template

EVERY = pytest.mark.parametrize("dashboard", [Dashboard(name) for name in NAMES], ids=NAMES)
DOCS = CHART.parents[1] / "docs"
OF_THE_CLIENT = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
}
"""Metrics that prometheus-client exports for a process on Linux."""
UNITS = {"short", "none", "percentunit", "s", "bytes", "reqps", "dateTimeFromNow"}
SCHEMA = 39
ALL = {"namespace": ".*", "project": ".*"}
ENABLED: Document = {"monitoring": {"dashboards": {"enabled": True}}}


def test_there_are_three_dashboards() -> None:
    assert set(NAMES) == {"loop", "serving", "training"}
    assert len({Dashboard(name).document["uid"] for name in NAMES}) == len(NAMES)
    assert len({Dashboard(name).document["title"] for name in NAMES}) == len(NAMES)


@EVERY
def test_schema_version_matches_the_documented_grafana(dashboard: Dashboard) -> None:
    assert dashboard.document["schemaVersion"] == SCHEMA
    assert f"schemaVersion {SCHEMA}" in (DOCS / "dashboards.md").read_text("utf-8")
    assert "id" not in dashboard.document, "the number that one Grafana gave it"
    assert dashboard.document["title"] in (DOCS / "dashboards.md").read_text("utf-8")


@EVERY
def test_each_panel_has_a_description_and_a_unit(dashboard: Dashboard) -> None:
    for panel in dashboard.panels:
        title = panel["title"]
        assert title, panel["id"]
        assert re.match(r"^[A-Z0-9].{20,}[.]$", panel["description"]), f"{title}: a sentence, please"
        unit = panel["fieldConfig"]["defaults"]["unit"]
        assert unit in UNITS or unit.startswith("suffix: "), f"{title}: {unit}"
        assert panel["targets"], title


@EVERY
def test_panels_have_unique_titles_and_do_not_overlap(dashboard: Dashboard) -> None:
    panels = dashboard.document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    sections: dict[int, list[str]] = {}
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        if panel["type"] == "row":
            sections[panel["id"]] = []
        else:
            list(sections.values())[-1].append(panel["title"])
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, f"{panel['title']} lies over another"
        taken |= cells
    for titles in sections.values():
        assert titles
        assert len(set(titles)) == len(titles), titles


@EVERY
def test_queries_use_only_exported_metrics(dashboard: Dashboard) -> None:
    """Ours are those in docs/metrics.md, which is generated from the code; others are prometheus-client's."""
    listed = re.findall(r"^\| `(fitloop_\w+)` \|", (DOCS / "metrics.md").read_text("utf-8"), re.MULTILINE)
    known = {*listed, *OF_THE_CLIENT}
    for query in dashboard.queries:
        named = query.metrics()
        assert named, query.panel
        unknown = {name for name in named if not {name, re.sub(r"_(bucket|sum|count)$", "", name)} & known}
        assert not unknown, f"{query.panel}: {unknown}"


@EVERY
def test_queries_use_the_selected_variables(dashboard: Dashboard) -> None:
    variables = dashboard.variables
    assert set(variables) == {"datasource", "namespace", "project"}
    assert variables["datasource"]["query"] == "prometheus"
    for name in ("namespace", "project"):
        assert variables[name]["includeAll"]
        assert variables[name]["allValue"] == ".*"
        assert variables[name]["refresh"] == 2, "asked again when the time shown changes"
    for part in (*dashboard.panels, *(target for panel in dashboard.panels for target in panel["targets"])):
        assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for query in dashboard.queries:
        selectors = re.findall(r"(\w+)\{([^{}]*)\}", query.expression)
        assert {name for name, _ in selectors} == query.metrics(), f"{query.panel}: a metric of any namespace"
        assert all('namespace=~"$namespace"' in inner for _, inner in selectors), query.panel
    assert any("$project" in query.expression for query in dashboard.queries)


@EVERY
def test_legends_use_labels_the_query_keeps(dashboard: Dashboard) -> None:
    for query in dashboard.queries:
        kept = {"pod", "instance"} if re.search(r"on \(job, instance\)", query.expression) else set()
        for labels in re.findall(r"(?:by|group_left) \(([^()]*)\)", query.expression):
            kept |= set(re.split(r",\s*", labels))
        assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= kept, query.panel


@EVERY
def test_prometheus_accepts_every_query(dashboard: Dashboard, tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool: on Debian and Ubuntu it comes with the package prometheus")
    rules = [
        {"record": f"query:number{number}", "expr": query.filled(ALL)}
        for number, query in enumerate(dashboard.queries)
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------------------- in the chart
def dashboards(values: Document) -> dict[str, dict[str, Any]]:
    return {name: one for name, one in template(values).of("ConfigMap").items() if "-dashboard-" in name}


def test_dashboards_are_opt_in() -> None:
    assert not dashboards({})


def test_dashboards_are_rendered_unchanged() -> None:
    """Helm must not interpret Grafana's braces, and etcd accepts at most 1 MiB."""
    found = dashboards(ENABLED)
    assert set(found) == {f"loop-fitloop-dashboard-{name}" for name in NAMES}
    for name in NAMES:
        one = found[f"loop-fitloop-dashboard-{name}"]
        (text,) = one["data"].values()
        assert list(one["data"]) == [f"fitloop-{name}.json"], "files of all dashboards lie in one folder"
        assert json.loads(text) == Dashboard(name).document
        assert len(json.dumps(one)) < 2**20


def test_the_sidecars_label_and_folder_are_set() -> None:
    for one in dashboards(ENABLED).values():
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert one["metadata"]["annotations"] == {"k8s-sidecar-target-directory": "Fitloop"}
    own = {
        "enabled": True,
        "label": "dash",
        "labelValue": "yes",
        "folderAnnotation": "folder",
        "folder": "ML",
    }
    for one in dashboards({"monitoring": {"dashboards": own}}).values():
        assert one["metadata"]["labels"]["dash"] == "yes"
        assert one["metadata"]["annotations"] == {"folder": "ML"}
    for one in dashboards({"monitoring": {"dashboards": {**own, "folderAnnotation": ""}}}).values():
        assert "annotations" not in one["metadata"]


# ------------------------------------------------------------------------------------------------- how they are read
@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (route) (rate(a_total{x="b{c}"}[5m])) / sum (b)', {"a_total", "b"}),
        ("topk by (n) (1, max_over_time(timestamp(changes(a[1m]) > 0)[1h:30s])) * 1000", {"a"}),
        ("a * on (n, p) group_left (t) max by (n, p, t) (b) and c or vector(0)", {"a", "b", "c"}),
        ("histogram_quantile(0.95, sum by (le) (rate(a_bucket[1d])))", {"a_bucket"}),
    ],
)
def test_metric_names_are_parsed_from_a_query(expression: str, names: set[str]) -> None:
    assert metrics_of(expression) == names


def test_variables_are_substituted() -> None:
    assert filled('a{n=~"$n"}[$__rate_interval]', {"n": "x"}) == 'a{n=~"x"}[30s]'
    with pytest.raises(KeyError):
        filled("$unknown", {})

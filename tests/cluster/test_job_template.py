"""A run's Job rendered from the user's manifest."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.cluster.client import ClusterError
from services.cluster.job_template import dry_run, job_name, load_template, problem_of, render_job, request_id
from services.core.domain import Parameters, RunRequest
from services.core.errors import BadConfig
from tests.support.api_server import FakeApiServer, serve_api
from tests.support.jobs import MANIFEST

REQUEST = RunRequest("12-3", "12-x", 12, "asked for", Parameters(), 1700000000.25)
OWNER = {"kind": "Lease", "name": "fitloop", "uid": "u"}


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with serve_api(FakeApiServer()) as running:
        yield running


def test_render_sets_name_labels_owner_args_and_env() -> None:
    job = render_job(MANIFEST, REQUEST, "fitloop", "s3://b/p/", OWNER)
    labels = {"fitloop.io/run": "12-3", "fitloop.io/project": "12", "fitloop.io/release": "fitloop"}
    marks = {"fitloop.io/requested-at": "1700000000.250000"}
    assert job["metadata"] == {
        "name": "fitloop-12-3",
        "labels": {"app.kubernetes.io/component": "trainer", **labels},
        "annotations": marks,
        "ownerReferences": [OWNER],
    }
    pod = job["spec"]["template"]
    assert pod["metadata"]["labels"] == {"app.kubernetes.io/component": "trainer", **labels}
    assert pod["metadata"]["annotations"] == marks
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["--run", "s3://b/p/runs/12-3"]
    assert container["env"] == [
        {"name": "FITLOOP_JOB_NAME", "value": "fitloop-12-3"},
        {"name": "FITLOOP_REQUIRE_GPU", "value": "true"},
    ]


def test_render_keeps_all_other_fields() -> None:
    before = copy.deepcopy(MANIFEST)
    job = render_job(MANIFEST, REQUEST, "fitloop", "s3://b/p/", None)
    assert before == MANIFEST
    assert "ownerReferences" not in job["metadata"]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    for field in ("args", "env"):
        container.pop(field)
    expected = copy.deepcopy(MANIFEST)
    expected["spec"]["template"]["spec"]["containers"][0].pop("env")
    for one in (job, expected):
        one.pop("metadata")
        one["spec"]["template"].pop("metadata")
    assert job == expected


def test_render_keeps_other_containers_and_arguments() -> None:
    manifest = copy.deepcopy(MANIFEST)
    containers = manifest["spec"]["template"]["spec"]["containers"]
    containers[0]["args"] = ["--fast"]
    containers.insert(0, {"name": "proxy", "image": "x"})
    manifest["metadata"] |= {"namespace": "there", "generateName": "x-"}
    job = render_job(manifest, REQUEST, "fitloop", "s3://b/p", None)
    proxy, trainer = job["spec"]["template"]["spec"]["containers"]
    assert proxy == {"name": "proxy", "image": "x"}
    assert trainer["args"] == ["--fast", "--run", "s3://b/p/runs/12-3"]
    assert not {"namespace", "generateName"} & job["metadata"].keys()


@given(st.text(st.characters(codec="ascii"), max_size=80), st.integers(1, 10**9), st.integers(1, 10**6))
def test_job_name_is_a_dns_label(release: str, project: int, number: int) -> None:
    name = job_name(release, f"{project}-{number}")
    assert len(name) <= 57
    assert name.strip("-") == name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name.endswith(f"-{project}-{number}")


def test_long_release_names_do_not_collide() -> None:
    assert job_name("a" * 60 + "b", "1-1") != job_name("a" * 60 + "c", "1-1")
    assert job_name("fitloop", "1-1") == "fitloop-1-1"


def _broken(*path: str | int, value: Any) -> Any:
    manifest: Any = copy.deepcopy(MANIFEST)
    place = manifest
    for key in path[:-1]:
        place = place[key]
    if value is None:
        place.pop(path[-1])
    else:
        place[path[-1]] = value
    return manifest


POD = ("spec", "template", "spec")


@pytest.mark.parametrize(
    ("manifest", "problem"),
    [
        ([], "apiVersion and kind must be batch/v1 and Job"),
        (_broken("kind", value="Pod"), "apiVersion and kind must be batch/v1 and Job"),
        (_broken("spec", value=None), "spec is missing"),
        (_broken("spec", "template", value=None), "spec.template is missing"),
        (_broken(*POD, value="x"), "spec.template.spec must be a mapping"),
        (_broken("metadata", "labels", value=["x"]), "metadata.labels must be a mapping"),
        (
            _broken(*POD, "restartPolicy", value="OnFailure"),
            "restartPolicy must be Never, not 'OnFailure'",
        ),
        (
            _broken(*POD, "containers", value="x"),
            "spec.template.spec.containers must be a list of containers",
        ),
        (
            _broken(*POD, "containers", value=["x"]),
            "spec.template.spec.containers must be a list of containers",
        ),
        (_broken(*POD, "containers", 0, "name", value="train"), "exactly one container named 'trainer'"),
        (_broken(*POD, "containers", 0, "image", value=None), "containers[trainer].image is missing"),
        (_broken(*POD, "containers", 0, "env", value={"A": "b"}), "containers[trainer].env must be a list"),
    ],
)
def test_load_names_the_wrong_field(manifest: Any, problem: str, tmp_path: Path) -> None:
    assert problem in problem_of(manifest)
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(manifest))
    with pytest.raises(BadConfig, match="See trainer.* in the chart's values"):
        load_template(path)


def test_load_reads_a_valid_manifest(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(MANIFEST))
    assert load_template(path) == MANIFEST


@pytest.mark.parametrize("text", ["a: [", "a: 1\n---\nb: 2\n", None])
def test_unreadable_manifest_is_one_line(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadConfig, match="cannot be read from") as refused:
        load_template(path)
    assert "\n" not in str(refused.value)


def test_dry_run_sends_a_strict_dry_run(api: FakeApiServer) -> None:
    dry_run(api.kube(), MANIFEST, "fitloop", "s3://b/p/")
    assert api.list_objects("jobs") == []
    assert api.asked[-1][2] == {"dryRun": "All", "fieldValidation": "Strict"}


@pytest.mark.parametrize(
    ("status", "kind"), [(422, BadConfig), (400, BadConfig), (403, ClusterError), (500, ClusterError)]
)
def test_dry_run_blames_only_a_wrong_manifest(api: FakeApiServer, status: int, kind: type[Exception]) -> None:
    api.faults.append(("POST", status, {}))
    with pytest.raises(kind):
        dry_run(api.kube(), MANIFEST, "fitloop", "s3://b/p/")


def test_request_id_differs_between_buckets() -> None:
    other = RunRequest("12-3", "12-x", 12, "asked for", Parameters(), 1700000001.25)
    assert request_id(REQUEST) != request_id(other)

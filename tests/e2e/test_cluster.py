"""The loop on a real cluster: `helm install`, labels, a Job, a version in the bucket, suggestions, and no failed request."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from demo.annotator import Annotator
from tests.e2e.conftest import Connect, LabelledProject, MakeRelease
from tests.e2e.panels import NEEDS_LONG_RUN, RECORDED, DashboardContext, check
from tests.e2e.release import Release
from tests.e2e.targets import scraping
from tests.support.waiting import eventually

pytestmark = [pytest.mark.labelstudio, pytest.mark.cluster]


def test_labels_become_suggestions_on_a_cluster(
    make_release: MakeRelease,
    connect: Connect,
    annotator: Annotator,
    tmp_path: Path,
    subtests: pytest.Subtests,
) -> None:
    """Install with minimal rights, the admission policy and three bucket users; then roll out a second version.

    A Prometheus looks on from the beginning, and every panel of the dashboards must find what it shows.
    """
    began = time.time()
    # Thirty labels make exactly one run, however slowly they come: the version before the second is the first.
    release = make_release(training={"everyNUpdates": 30}, admissionPolicy={"enabled": True})
    release.install()
    release.namespace.helm("test", release.name)
    with scraping(release, tmp_path) as prometheus:
        labelled = connect(release)
        first, second = _two_versions(release, labelled, annotator)
        with subtests.test("every panel shows something"):
            shown = DashboardContext(release.namespace.name, str(labelled.project), began)
            check(prometheus, shown, RECORDED | NEEDS_LONG_RUN)

    release.send_command(labelled.project, "rollback")
    assert release.served(labelled.project, other_than=second) == first
    release.uninstall()
    left = json.loads(
        release.namespace.kubectl("get", "jobs,pods,leases,services,configmaps,secrets", "-o", "json")
    )
    names = {item["metadata"]["name"] for item in left["items"] if item["kind"] != "Pod"}
    own = {
        f"{release.name}-label-studio",
        f"{release.name}-auth",
        *(f"{release.name}-s3-{one}" for one in ("adapter", "predictor", "trainer")),
    }
    assert {name for name in names if name.startswith(release.name)} == own
    assert release.bucket.keys("projects/")


def _two_versions(release: Release, labelled: LabelledProject, annotator: Annotator) -> tuple[str, str]:
    """Train two versions; no request fails while the second is rolled out."""
    assert release.setup_version(labelled.project) == "untrained"

    labelled.label(0, 30)
    first = release.served(labelled.project)
    run = eventually(lambda: release.bucket.keys("runs/"), what="the run's documents")[0].split("/")[1]
    job = release.namespace.get("job", f"{release.fullname}-{run}")
    assert job["metadata"]["ownerReferences"][0]["kind"] == "Lease"
    manifest = release.bucket.document(f"projects/{labelled.key}/versions/{first}/manifest.json")
    encoder = release.bucket.document(f"encoders/{manifest['encoder']}/manifest.json")
    assert (manifest["artefact"]["engine"], encoder["engine"]) == ("encoder", "ct2-int8")
    eventually(
        lambda: len(labelled.suggestions(first)) >= 60, 90, what="suggestions for all unlabelled tasks"
    )
    eventually(
        lambda: annotator.call("GET", f"/api/projects/{labelled.project}")["model_version"] == first,
        what="its title",
    )

    before = {pod["metadata"]["name"] for pod in release.pods("predictor")}
    with release.load(labelled) as load:
        eventually(lambda: not release.state(labelled.project).get("active"), 120, what="the run is over")
        labelled.label(30, 60)
        second = release.served(labelled.project, other_than=first)
        eventually(lambda: len(labelled.suggestions(second)) >= 20, 90, what="its suggestions")
    print(load.report())
    assert not load.failures(), load.report()
    after = {pod["metadata"]["name"] for pod in release.pods("predictor")}
    assert after == before, "a head is loaded by the running predictors"
    return first, second

"""The loop with a real Label Studio: suggestions follow labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from demo.annotator import Annotator
from tests.e2e.conftest import LABELS, LabelledProject, LocalFitloop
from tests.support.waiting import eventually

pytestmark = pytest.mark.labelstudio
Start = Callable[..., LocalFitloop]
Connect = Callable[..., LabelledProject]
ONE_RUN_OF_20 = {"START_TRAINING_EACH_N_UPDATES": "20"}
"""No run starts before all twenty labels are there, so exactly one version follows."""


def _title(annotator: Annotator, labelled: LabelledProject) -> str:
    """Return the backend's title from the project. Reading the backend itself would make Label Studio save it."""
    return str(annotator.call("GET", f"/api/projects/{labelled.project}")["model_version"])


def _version_file(fitloop: LocalFitloop, version: str, name: str) -> dict[str, Any]:
    (path,) = fitloop.folder.glob(f"projects/*/versions/{version}/{name}")
    return dict(json.loads(path.read_text()))


def test_labels_become_suggestions(start_fitloop: Start, connect: Connect, annotator: Annotator) -> None:
    """Labels trigger a run by webhook; /setup returns its version and Label Studio stores its predictions."""
    fitloop = start_fitloop()
    labelled = connect(fitloop, sampling="Uncertainty sampling")
    assert fitloop.setup_version(labelled.project) == "untrained"
    untouched = labelled.tasks[-1][0]
    assert annotator.call("GET", f"/api/tasks/{untouched}")["predictions"] == []

    labelled.label(0, 30)
    fitloop.served(labelled.project)
    eventually(lambda: fitloop.state(labelled.project)["labelled"] == 30, what="all labels are read")

    def settled() -> str:
        version = fitloop.setup_version(labelled.project)
        titled = version == _title(annotator, labelled)
        stored = len(labelled.suggestions(version)) >= 60
        state = fitloop.state(labelled.project)
        return version if titled and stored and state["changed"] < 10 and not state["active"] else ""

    version = eventually(
        settled, what="suggestions for all unlabelled tasks, under a title that is their version"
    )

    task = annotator.call("GET", f"/api/tasks/{untouched}")
    shown = [prediction for prediction in task["predictions"] if prediction["model_version"] == version]
    assert shown[0]["result"][0]["value"]["choices"][0] in LABELS
    assert 0 <= shown[0]["score"] <= 1

    rows = annotator.call("GET", "/api/predictions/", params={"project": labelled.project})
    scores = {row["task"]: row["score"] for row in rows if row["model_version"] == version}
    unlabelled = {task: scores[task] for task, _ in labelled.tasks[30:]}
    following = annotator.call("GET", f"/api/projects/{labelled.project}/next")
    assert following["id"] == min(unlabelled, key=lambda one: unlabelled[one])

    truth = dict(labelled.tasks)
    found = labelled.suggestions(version)
    right = sum(found[task] == truth[task] for task in unlabelled)
    assert right / len(unlabelled) > 0.7
    assert len(_version_file(fitloop, version, "manifest.json")["lineage"]["annotation_ids"]) >= 20


def test_retrieve_predictions_stores_all(
    start_fitloop: Start, connect: Connect, annotator: Annotator
) -> None:
    """The Data Manager's action calls /predict for all tasks at once; each gets a prediction of the served version."""
    fitloop = start_fitloop(FITLOOP_REFRESH_MAX_TASKS="0", **ONE_RUN_OF_20)
    labelled = connect(fitloop)
    labelled.label(0, 20)
    version = fitloop.served(labelled.project)
    path = f"/api/dm/actions?id=retrieve_tasks_predictions&project={labelled.project}"
    annotator.call("POST", path, json={"selectedItems": {"all": True, "excluded": []}})
    assert labelled.suggestions(version).keys() == dict(labelled.tasks).keys()


def test_a_renamed_label_is_learnt(start_fitloop: Start, connect: Connect, annotator: Annotator) -> None:
    """Labels are renamed mid-way: the version with the old name is replaced, and nothing suggests it any more."""
    fitloop = start_fitloop(START_TRAINING_EACH_N_UPDATES="1")
    labelled = connect(fitloop)
    labelled.label(0, 30)
    first = fitloop.served(labelled.project)
    eventually(lambda: fitloop.state(labelled.project)["changed"] == 0, what="all labels are trained on")
    first = fitloop.setup_version(labelled.project)

    config = annotator.call("GET", f"/api/projects/{labelled.project}")["label_config"]
    both = config.replace("</Choices>", '<Choice value="Bill please"/></Choices>')
    annotator.call("PATCH", f"/api/projects/{labelled.project}", json={"label_config": both})
    for task, label in labelled.tasks[:30]:
        if label == "Invoice request":
            (annotation,) = annotator.call("GET", f"/api/tasks/{task}/annotations/")
            region = annotation["result"][0] | {"value": {"choices": ["Bill please"]}}
            annotator.call("PATCH", f"/api/annotations/{annotation['id']}/", json={"result": [region]})
    renamed = both.replace('<Choice value="Invoice request"/>', "")
    annotator.call("PATCH", f"/api/projects/{labelled.project}", json={"label_config": renamed})

    def learnt() -> str:
        version = fitloop.setup_version(labelled.project)
        labels = _version_file(fitloop, version, "manifest.json")["labels"]
        return version if "Bill please" in labels and "Invoice request" not in labels else ""

    version = eventually(learnt, 120, what="a version with the new name is served")
    assert version != first
    found = eventually(lambda: labelled.suggestions(version), what="its suggestions are stored")
    assert "Invoice request" not in found.values()


def test_a_killed_fitloop_resumes_its_run(start_fitloop: Start, connect: Connect) -> None:
    """SIGKILL during a fine-tune: after the restart the same run continues from its checkpoint."""
    fitloop = start_fitloop(START_TRAINING_EACH_N_UPDATES="1000", FITLOOP_CHECKPOINT_SECONDS="2")
    labelled = connect(fitloop)
    labelled.label(0, 40)
    fitloop.send_command(
        labelled.project, "train", parameters={"method": "finetune", "num_train_epochs": "8"}
    )
    eventually(lambda: list(fitloop.folder.glob("runs/*/checkpoints/*/*")), 90, what="a checkpoint is kept")
    fitloop.kill()
    labelled.label(40, 45)
    fitloop.start()
    made: list[dict[str, Any]] = eventually(
        lambda: list(fitloop.state(labelled.project).get("versions") or []), 240, what="the run publishes"
    )
    assert [row["run"] for row in made] == [f"{labelled.project}-1"]
    assert _version_file(fitloop, made[0]["version"], "manifest.json")["lineage"]["resumed_from"]
    assert len(list(fitloop.folder.glob(f"runs/{labelled.project}-[0-9]*/request.json"))) == 1
    eventually(
        lambda: fitloop.state(labelled.project)["labelled"] == 45, what="labels given meanwhile are seen"
    )
    fitloop.send_command(labelled.project, "promote", version=made[0]["version"])
    assert fitloop.served(labelled.project) == made[0]["version"]


def test_a_rollback_shows_in_label_studio(
    start_fitloop: Start, connect: Connect, annotator: Annotator
) -> None:
    """After a rollback /setup, the backend's title and the stored predictions are those of the previous version."""
    fitloop = start_fitloop(**ONE_RUN_OF_20)
    labelled = connect(fitloop, 60)
    labelled.label(0, 20)
    first = fitloop.served(labelled.project)
    labelled.label(20, 40)
    second = fitloop.served(labelled.project, other_than=first)
    eventually(lambda: _title(annotator, labelled) == second, what="the title is the second version")
    fitloop.send_command(labelled.project, "rollback")
    eventually(lambda: fitloop.setup_version(labelled.project) == first, what="/setup says the first version")
    eventually(lambda: _title(annotator, labelled) == first, what="the title is the first version again")
    eventually(lambda: len(labelled.suggestions(first)) >= 20, what="its suggestions are stored")

    annotator.start_training(labelled.backend)
    eventually(
        lambda: "pinned" in fitloop.state(labelled.project)["sentence"],
        60,
        what="a new version is held: pinned",
    )
    assert fitloop.setup_version(labelled.project) == first
    fitloop.send_command(labelled.project, "unpin")
    eventually(lambda: not fitloop.state(labelled.project)["served"]["pinned"], what="unpinned")


SECRET = "a-path-that-only-label-studio-knows"


@pytest.mark.parametrize(
    ("address", "login"),
    [
        ("http://ann:secret@{host}", {}),
        ("http://{host}/{secret}", {}),
        (
            "http://{host}/{secret}",
            {"auth_method": "BASIC_AUTH", "basic_auth_user": "ann", "basic_auth_pass": "secret"},
        ),
        (
            "http://{host}",
            {"auth_method": "BASIC_AUTH", "basic_auth_user": "ann", "basic_auth_pass": "secret"},
        ),
    ],
    ids=["url", "secret path", "secret path and login", "login"],
)
def test_every_way_to_pass_credentials_works(
    start_fitloop: Start, annotator: Annotator, address: str, login: dict[str, str]
) -> None:
    """Requests are admitted, a version is trained, its title is set, and Label Studio keeps its password."""
    fitloop = start_fitloop(
        BASIC_AUTH_USER="ann",
        BASIC_AUTH_PASS="secret",
        FITLOOP_SECRET_PATH=SECRET,
        START_TRAINING_EACH_N_UPDATES="12",
    )
    assert httpx.post(f"{fitloop.url}/setup", json={"project": "1.1"}).status_code == httpx.codes.UNAUTHORIZED
    assert httpx.get(f"{fitloop.url}/{SECRET}/api/projects").status_code == httpx.codes.UNAUTHORIZED
    assert httpx.get(f"{fitloop.url}/health").status_code == httpx.codes.OK
    project = annotator.create_project(
        "Secured",
        '<View><Text name="text" value="$text"/><Choices name="intent" toName="text">'
        '<Choice value="A"/><Choice value="B"/></Choices></View>',
    )
    tasks = annotator.import_texts(
        project, [f"{word} {number}" for number in range(6) for word in ("yes", "no")]
    )
    url = address.format(host=fitloop.url.removeprefix("http://"), secret=SECRET)
    backend = annotator.connect(project, url, **login)
    annotator.label_all([(task, "AB"[number % 2]) for number, task in enumerate(tasks)])

    def version() -> str:
        answer = httpx.get(f"{fitloop.url}/api/projects/{project}", auth=("ann", "secret"))
        return str((answer.json().get("served") or {}).get("current") or "") if answer.is_success else ""

    eventually(version, 120, what="a version")
    eventually(
        lambda: annotator.call("GET", f"/api/projects/{project}")["model_version"] == version(),
        30,
        what="the title is the version",
    )
    connected = annotator.call("GET", f"/api/ml/{backend}")
    assert (connected["state"], connected["url"]) == ("CO", url)
    assert connected.get("basic_auth_pass_is_set", False) is bool(login)
    actual = httpx.get(f"{fitloop.url}/api/projects/{project}", auth=("ann", "secret")).json()
    assert SECRET not in str(actual)
    assert not [path for path in fitloop.folder.rglob("*.json") if SECRET in path.read_text()]

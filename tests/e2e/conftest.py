"""A real Label Studio for each process of tests, a real `fitloop local` for each test, MiniLM as the base model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from demo.__main__ import base_model
from demo.annotator import Annotator, label_config
from demo.processes import Server
from demo.servers import TOKEN, address, fitloop, label_studio
from demo.walkthrough import read_texts
from tests.e2e.bucket import Bucket
from tests.e2e.kubernetes import ClusterEnvironment, Namespace
from tests.e2e.release import Release
from tests.support.waiting import eventually

LABELS = ("Cancel order", "Damaged item", "Invoice request")


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Label Studio from the environment that FITLOOP_LABEL_STUDIO names."""
    executable = os.environ.get("FITLOOP_LABEL_STUDIO", "")
    if not executable or not Path(executable).exists():
        pytest.skip("FITLOOP_LABEL_STUDIO names no Label Studio: run `make test`")
    server = label_studio(Path(executable).absolute(), tmp_path_factory.mktemp("label-studio"), 0, _listen())
    server.start()
    try:
        server.wait(400)
        yield server
    finally:
        server.kill()


def _listen() -> str:
    """Pods of a cluster must reach it, where there is one."""
    return "0.0.0.0" if os.environ.get("KUBECONFIG") else "127.0.0.1"  # noqa: S104  # a throw-away Label Studio


@pytest.fixture(scope="session")
def annotator(studio: Server) -> Iterator[Annotator]:
    """The admin of that Label Studio."""
    with Annotator(address(studio), TOKEN) as admin:
        yield admin


@dataclass
class LocalFitloop:
    """A `fitloop local` with a data folder that outlives its process."""

    studio: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    server: Server | None = None

    def start(self) -> None:
        """Start it, again if need be; the same port, because Label Studio knows it by its URL."""
        port = int(self.url.rpartition(":")[2]) if self.server else 0
        self.server = fitloop(self.folder, self.studio, self.environment, port)
        self.server.start()
        self.server.wait(60)

    def kill(self) -> None:
        """SIGKILL to it alone: its children are left to notice."""
        assert self.server is not None
        assert self.server.process is not None
        self.server.process.kill()
        self.server.process.wait()

    @property
    def url(self) -> str:
        """Its address."""
        assert self.server is not None
        return address(self.server)

    def state(self, project: int) -> dict[str, Any]:
        """What it says of the project; {} before it knows it."""
        response = httpx.get(f"{self.url}/api/projects/{project}", timeout=30)
        return dict(response.json()) if response.status_code == httpx.codes.OK else {}

    def send_command(self, project: int, action: str, **body: Any) -> None:
        """Leave a command."""
        httpx.post(f"{self.url}/api/projects/{project}/{action}", json=body, timeout=30).raise_for_status()

    def setup_version(self, project: int) -> str:
        """What /setup tells Label Studio."""
        return str(
            httpx.post(f"{self.url}/setup", json={"project": f"{project}.1"}, timeout=5).json()[
                "model_version"
            ]
        )

    def served(self, project: int, other_than: str | None = None, seconds: float = 90) -> str:
        """The version that is served, once there is one that is not `other_than`."""

        def version() -> str | None:
            current = (self.state(project).get("served") or {}).get("current")
            return current if current != other_than else None

        return str(
            eventually(version, seconds, what=f"a version other than {other_than}: {self.state(project)}")
        )


@pytest.fixture
def start_fitloop(studio: Server, tmp_path: Path) -> Iterator[Callable[..., LocalFitloop]]:
    """Start a `fitloop local` with more environment."""
    made: list[LocalFitloop] = []

    def start(**environment: str) -> LocalFitloop:
        defaults = {
            "BASELINE_MODEL_NAME": str(base_model()),
            "FITLOOP_RECONCILE_SECONDS": "5",
            "METHOD": "linear-probe",
        }
        found = LocalFitloop(address(studio), tmp_path / f"fitloop-{len(made)}", {**defaults, **environment})
        made.append(found)
        found.start()
        return found

    yield start
    for one in made:
        assert one.server is not None
        one.server.stop()


@dataclass
class LabelledProject:
    """A project whose texts' labels are known."""

    annotator: Annotator
    project: int
    backend: int
    tasks: list[tuple[int, str]]

    def label(self, start: int, end: int) -> None:
        """Label that part of the tasks."""
        self.annotator.label_all(self.tasks[start:end])

    @property
    def key(self) -> str:
        """As Fitloop names the project."""
        row = self.annotator.call("GET", f"/api/projects/{self.project}")
        return f"{self.project}-{int(datetime.fromisoformat(row['created_at']).timestamp())}"

    def suggestions(self, version: str) -> dict[int, str]:
        """What Label Studio has stored of a version."""
        return self.annotator.suggestions(self.project, version)


@pytest.fixture
def connect(annotator: Annotator) -> Connect:
    """Make a project of three intents, import `texts` texts, connect a backend."""
    return partial(_connected, annotator)


@pytest.fixture(scope="module")
def connect_once(annotator: Annotator) -> Connect:
    """As connect, for all tests of a file."""
    return partial(_connected, annotator)


def _connected(
    annotator: Annotator, backend: LocalFitloop | Release, texts: int = 90, **settings: Any
) -> LabelledProject:
    pool = [(text, label) for text, label in read_texts("pool") if label in LABELS][:texts]
    project = annotator.create_project("Shop messages", label_config(LABELS), **settings)
    tasks = annotator.import_texts(project, [text for text, _ in pool])
    connected = annotator.connect(project, backend.url)
    answers = list(zip(tasks, [label for _, label in pool], strict=True))
    return LabelledProject(annotator, project, connected, answers)


Connect = Callable[..., LabelledProject]


class MakeRelease(Protocol):
    """Prepares a release in a namespace and a bucket of its own; `install` is the test's."""

    def __call__(self, profile: str = "minikube-cpu", **values: Any) -> Release:
        """With that profile, and values over it."""
        ...


@pytest.fixture(scope="session")
def around() -> ClusterEnvironment:
    """The cluster and what stands around it, or a visible skip."""
    return ClusterEnvironment.from_environment()


@contextlib.contextmanager
def _releases(around: ClusterEnvironment, studio: Server) -> Iterator[tuple[MakeRelease, list[Release]]]:
    """Each with a base model in its bucket; all is gone afterwards."""
    with contextlib.ExitStack() as stack:
        made: list[Release] = []

        def make(profile: str = "minikube-cpu", **values: Any) -> Release:
            namespace = stack.enter_context(Namespace())
            bucket = stack.enter_context(Bucket(around.storage))
            base = bucket.upload(base_model(), "base-models/minilm")
            port = int(address(studio).rpartition(":")[2])
            release = Release(
                around, namespace, bucket, port, TOKEN, profile=profile, base_model=base, values=values
            )
            made.append(release)
            return release

        yield make, made


@pytest.fixture
def make_release(
    around: ClusterEnvironment, studio: Server, request: pytest.FixtureRequest
) -> Iterator[MakeRelease]:
    """Prepares releases for one test; they are told of where it has failed."""
    with _releases(around, studio) as (make, made):
        yield make
        report = getattr(request.node, "outcome_of_call", None)
        if report is not None and report.failed:
            for release in made:
                print(release.namespace.describe())


@pytest.fixture(scope="module")
def make_releases(around: ClusterEnvironment, studio: Server) -> Iterator[MakeRelease]:
    """As make_release, for all tests of a file."""
    with _releases(around, studio) as (make, made):
        yield make
        for release in made:
            print(release.namespace.describe())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Lets fixtures know how their test ended."""
    report = yield
    if report.when == "call":
        item.outcome_of_call = report  # type: ignore[attr-defined]  # read by make_release
    return report

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
    """Start Label Studio from the executable in FITLOOP_LABEL_STUDIO."""
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
    """Return the address to listen on; pods must reach Label Studio if there is a cluster."""
    return "0.0.0.0" if os.environ.get("KUBECONFIG") else "127.0.0.1"  # noqa: S104  # a throw-away Label Studio


@pytest.fixture(scope="session")
def annotator(studio: Server) -> Iterator[Annotator]:
    """Log in to that Label Studio as its administrator."""
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
        """Start or restart it, on the same port, because Label Studio stores its URL."""
        port = int(self.url.rpartition(":")[2]) if self.server else 0
        self.server = fitloop(self.folder, self.studio, self.environment, port)
        self.server.start()
        self.server.wait(60)

    def kill(self) -> None:
        """Send SIGKILL to the process alone, not to its children."""
        assert self.server is not None
        assert self.server.process is not None
        self.server.process.kill()
        self.server.process.wait()

    @property
    def url(self) -> str:
        assert self.server is not None
        return address(self.server)

    def state(self, project: int) -> dict[str, Any]:
        """Return the project's state from /api; {} while it is unknown."""
        response = httpx.get(f"{self.url}/api/projects/{project}", timeout=30)
        return dict(response.json()) if response.status_code == httpx.codes.OK else {}

    def send_command(self, project: int, action: str, **body: Any) -> None:
        httpx.post(f"{self.url}/api/projects/{project}/{action}", json=body, timeout=30).raise_for_status()

    def setup_version(self, project: int) -> str:
        """Return the model version that /setup answers."""
        return str(
            httpx.post(f"{self.url}/setup", json={"project": f"{project}.1"}, timeout=5).json()[
                "model_version"
            ]
        )

    def served(self, project: int, other_than: str | None = None, seconds: float = 90) -> str:
        """Wait until a version other than `other_than` is served and return it."""

        def version() -> str | None:
            current = (self.state(project).get("served") or {}).get("current")
            return current if current != other_than else None

        return str(
            eventually(version, seconds, what=f"a version other than {other_than}: {self.state(project)}")
        )


@pytest.fixture
def start_fitloop(studio: Server, tmp_path: Path) -> Iterator[Callable[..., LocalFitloop]]:
    """Start a `fitloop local` with additional environment variables."""
    made: list[LocalFitloop] = []

    def start(**environment: str) -> LocalFitloop:
        defaults = {
            "BASELINE_MODEL_NAME": str(base_model()),
            "FITLOOP_RECONCILE_SECONDS": "5",
            "METHOD": "linear-probe",
            "FITLOOP_COLD_START": "false",
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
    """A project whose true labels are known."""

    annotator: Annotator
    project: int
    backend: int
    tasks: list[tuple[int, str]]

    def label(self, start: int, end: int) -> None:
        """Label these tasks."""
        self.annotator.label_all(self.tasks[start:end])

    @property
    def key(self) -> str:
        """The project's key in Fitloop."""
        row = self.annotator.call("GET", f"/api/projects/{self.project}")
        return f"{self.project}-{int(datetime.fromisoformat(row['created_at']).timestamp())}"

    def suggestions(self, version: str) -> dict[int, str]:
        """Return the predictions of a version that Label Studio has stored, by task."""
        return self.annotator.suggestions(self.project, version)


@pytest.fixture
def connect(annotator: Annotator) -> Connect:
    """Create a project with three intents, import `texts` texts and connect a backend."""
    return partial(_connected, annotator)


@pytest.fixture(scope="module")
def connect_once(annotator: Annotator) -> Connect:
    """Like `connect`, for all tests of a module."""
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
    """Prepares a release in its own namespace and bucket; the test calls `install`."""

    def __call__(self, profile: str = "minikube-cpu", **values: Any) -> Release:
        """Prepare a release with that profile and these values."""
        ...


@pytest.fixture(scope="session")
def around() -> ClusterEnvironment:
    """Return the cluster's environment, or skip the test."""
    return ClusterEnvironment.from_environment()


@contextlib.contextmanager
def _releases(around: ClusterEnvironment, studio: Server) -> Iterator[tuple[MakeRelease, list[Release]]]:
    """Yield a factory of releases with a base model in their buckets; delete everything at the end."""
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
    """Prepare releases for one test, and print their state if it fails."""
    with _releases(around, studio) as (make, made):
        yield make
        report = getattr(request.node, "outcome_of_call", None)
        if report is not None and report.failed:
            for release in made:
                print(release.namespace.describe())


@pytest.fixture(scope="module")
def make_releases(around: ClusterEnvironment, studio: Server) -> Iterator[MakeRelease]:
    """Like `make_release`, for all tests of a module."""
    with _releases(around, studio) as (make, made):
        yield make
        for release in made:
            print(release.namespace.describe())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures see how their test ended."""
    report = yield
    if report.when == "call":
        item.outcome_of_call = report  # type: ignore[attr-defined]  # read by make_release
    return report

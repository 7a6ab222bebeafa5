"""The chart rendered by helm: objects by kind and name, their pods, and the error of a refusal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

Document = dict[str, Any]
CHART = Path(__file__).resolve().parents[2] / "charts" / "fitloop"
PROFILES = tuple(sorted(path.stem for path in (CHART / "profiles").glob("*.yaml")))
NEEDED: Document = {
    "labelStudio": {"url": "http://label-studio.example.test", "existingSecret": "studio"},
    "auth": {"existingSecret": "door"},
    "store": {
        "url": "s3://bucket/prefix/",
        "endpoint": "http://minio.example.test:9000",
        **{process: {"existingSecret": f"s3-{process}"} for process in ("adapter", "predictor", "trainer")},
    },
}
"""Values that every release needs."""
_LOADER: Any = getattr(
    yaml, "CSafeLoader", yaml.SafeLoader
)  # libyaml, where it is there, is ten times as fast
KSERVE = "serving.kserve.io/v1beta1/InferenceService"


def helm() -> str:
    """Return helm's executable, from HELM or PATH, or skip the test."""
    found = os.environ.get("HELM") or shutil.which("helm")
    if not found:
        pytest.skip("no helm: put one on PATH, or name it in HELM")
    return found


@dataclass(frozen=True, slots=True)
class Rendered:
    """Output of `helm template`: a stream of YAML, or an error."""

    text: str
    refusal: str

    @property
    def objects(self) -> list[Document]:
        """All objects, including hooks."""
        assert not self.refusal, self.refusal
        return [found for found in yaml.load_all(self.text, _LOADER) if found]

    def of(self, kind: str) -> dict[str, Document]:
        """Return the objects of a kind, by name."""
        return {one["metadata"]["name"]: one for one in self.objects if one["kind"] == kind}

    def one(self, kind: str, name: str) -> Document:
        """Return the object of that kind and name."""
        return self.of(kind)[name]

    @property
    def job(self) -> Document:
        """The manifest of a run's Job."""
        (found,) = (one for name, one in self.of("ConfigMap").items() if name.endswith("-job"))
        return dict(yaml.safe_load(found["data"]["job.yaml"]))

    def pods(self) -> Iterator[tuple[str, Document]]:
        """Yield the owner and the spec of every pod."""
        for one in (*self.objects, self.job):
            name = f"{one['kind']}/{one['metadata'].get('name', 'run')}"
            if one["kind"] in {"Deployment", "Job"}:
                yield name, one["spec"]["template"]["spec"]
            elif one["kind"] == "InferenceService":
                yield name, one["spec"]["predictor"]
            elif one["kind"] == "Pod":
                yield name, one["spec"]

    def pod(self, owner: str) -> Document:
        """Return the pod of that owner."""
        return dict(self.pods())[owner]


def template(
    values: Mapping[str, Any] | None = None,
    profile: str = "minikube-cpu",
    *more: str,
    release: str = "loop",
    needed: bool = True,
) -> Rendered:
    """Run `helm template` with a profile, the required values, and `values` over both."""
    given = laid_over(NEEDED if needed else {}, values or {})
    return _template(json.dumps(given), profile, more, release)


@cache
def _template(values: str, profile: str, more: tuple[str, ...], release: str) -> Rendered:
    files = [CHART / "profiles" / f"{profile}.yaml"] if profile else []
    command = [helm(), "template", release, str(CHART), "--kube-version=1.30.0"]
    command += [*(f"--values={file}" for file in files)]
    apis = () if "--without-kserve" in more else (f"--api-versions={KSERVE}",)
    rest = [one for one in more if one != "--without-kserve"]
    done = subprocess.run(
        [*command, "--values=-", *apis, *rest], input=values, capture_output=True, text=True, check=False
    )
    return Rendered(done.stdout, "" if done.returncode == 0 else done.stderr)


def laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> Document:
    """Merge values as helm does."""
    both = {key: laid_over(base[key], over[key]) for key in base if isinstance(over.get(key), Mapping)}
    return {**base, **over, **both}


def environment(container: Document) -> dict[str, Any]:
    """Return variables by name: the value, or its source."""
    names = [one["name"] for one in container.get("env", ())]
    assert len(names) == len(set(names)), f"set twice: {names}"
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", ())}


def container(spec: Document) -> Document:
    """Return a pod's only container."""
    (found,) = spec["containers"]
    return dict(found)


def cores(amount: object) -> float:
    """Convert a Kubernetes CPU quantity to cores."""
    text = str(amount)
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)

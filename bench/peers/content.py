"""The model that all servers answer with, once as transformers reads it and once as a bucket of Fitloop.

MiniLM with its own pooler ([CLS], tanh) and a classifier of 77 labels that was fitted on the pooler's answers: one function, so that
the servers' labels can be compared. Fitloop has it as an encoder in int8 and a head of two layers.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sklearn.linear_model import LogisticRegression

from bench import texts
from bench.result import Options, say
from bench.rig import base
from demo.annotator import label_config
from services.core.domain import (
    Artefact,
    EncoderManifest,
    Estimate,
    GateDecision,
    Lineage,
    Manifest,
    Method,
    Pooling,
    Project,
    Served,
    Serving,
)
from services.core.encoders import Encoders
from services.core.immutable import entry_of
from services.core.labels import label_config_hash
from services.core.registry import Registry
from services.core.serving_table import ServingTableFile
from services.core.settings import TrainingSettings
from services.core.store import open_store
from services.engine.head import Head
from services.trainer.publishing.int8 import convert, head_of

KEY, PROJECT, VERSION = "1.1790000001", "1-1790000001", "bench-1"
"""KEY as Label Studio names the project in its requests."""
MAX_LENGTH, WIDTH = 256, 384
_FITTED_ON = 2_000
_CREATED = "2026-09-21T14:13:21.000000Z"


def build_classifier(folder: Path, options: Options) -> None:
    """Write MiniLM with a fitted classifier into `folder`, unless an earlier run did. Raise Skip."""
    if (folder / "model.safetensors").exists():
        return
    say("peers: the classifier is being fitted")
    labels, train = (
        texts.intents(options.data),
        texts.some(texts.banking77(options.data, "train"), _FITTED_ON, 0),
    )
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: n for n, name in enumerate(labels)}}
    auto: Any = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(base(), num_labels=len(labels), **names).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base())
    rows = [text for text, _ in train]
    with torch.inference_mode():
        pooled = [_pooled(model, tokenizer, rows[at : at + 32]) for at in range(0, len(rows), 32)]
    found = LogisticRegression(C=10, max_iter=300).fit(np.concatenate(pooled), [name for _, name in train])
    order = [list(found.classes_).index(name) for name in labels]
    model.classifier.weight.data = torch.tensor(found.coef_[order], dtype=torch.float32)
    model.classifier.bias.data = torch.tensor(found.intercept_[order], dtype=torch.float32)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def _pooled(model: Any, tokenizer: Any, rows: Sequence[str]) -> Any:
    encoded = tokenizer(rows, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
    return model.bert(**encoded).pooler_output.numpy()


def publish(classifier: Path, bucket: Path) -> None:
    """Write a bucket with one project that serves the classifier."""
    store = open_store(bucket.as_uri())
    registry = Registry(store)
    labels = tuple(json.loads((classifier / "config.json").read_bytes())["id2label"].values())
    auto: Any = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(classifier).eval()
    layers = head_of("bert", model)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        convert(model.base_model, "bert", made / "ct2")
        for name in ("config.json", "tokenizer.json"):
            shutil.copy(classifier / name, made / name)
        digest = entry_of(made / "ct2" / "model.bin").sha256
        pooling = Pooling("cls", normalize=False)
        Encoders(store).publish(
            made, EncoderManifest(digest, "MiniLM", "bert", WIDTH, MAX_LENGTH, pooling, "ct2-int8", "")
        )
    registry.write_project(_project(labels))
    with tempfile.TemporaryDirectory() as folder:
        Head(layers).write(Path(folder))
        (Path(folder) / "oos.json").write_text("{}")
        registry.publish(Path(folder), _manifest(labels, digest))
    ServingTableFile(store).write(Serving(1, 1, {PROJECT: Served(VERSION, None, why="promoted by the gate")}))


def config(labels: Sequence[str]) -> str:
    return label_config(labels)


def _project(labels: Sequence[str]) -> Project:
    return Project(PROJECT, 1, "Bench", config(labels), label_config_hash(config(labels)), _CREATED)


def _manifest(labels: tuple[str, ...], encoder: str) -> Manifest:
    parameters = TrainingSettings().parameters()
    hashed = label_config_hash(config(labels))
    return Manifest(
        version=VERSION,
        project_key=PROJECT,
        method=Method.LINEAR_PROBE,
        labels=labels,
        artefact=Artefact("head", "encoder", "", MAX_LENGTH, 1.0),
        estimate=Estimate(1_000, 880, 0.86, 0.9, 0.87, "cross-fit"),
        gate=GateDecision(True, "first", ()),
        lineage=Lineage("1-1", (), "", hashed, "MiniLM", "", "", parameters, None, _FITTED_ON, True),
        encoder=encoder,
        created_at=time.time(),
        from_name="intent",
    )

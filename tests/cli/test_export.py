"""`fitloop export`: other libraries load what it writes, and get the probabilities that Fitloop serves."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from services.core.domain import Artefact, Manifest, Pooling
from services.core.encoders import Encoders
from services.core.immutable import entry_of
from services.core.registry import Registry
from services.core.store.files import FileStore
from services.engine.head import Head, Layer
from services.engine.loading import Loader
from services.engine.tokenise import encode, open_tokenizer
from services.engine.whole_model import read_dense
from services.trainer.publishing.int8 import head_of
from tests.support.base_models import TEXTS
from tests.support.encoders import MAX_LENGTH, WIDTH, build_tiny_encoder, publish_head
from tests.support.manifests import build_manifest
from tests.support.own_versions import publish_own_version
from tests.support.terminal import Terminal

LABELS = ("refund", "order", "card")
LONG = (*TEXTS, "order " * 100)
THRESHOLDS = (0.3, 0.5, 0.2)
Floats = NDArray[np.float32]
Answer = Callable[[torch.Tensor], Floats]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "store"))
    monkeypatch.delenv("FITLOOP_STORE", raising=False)
    return Registry(FileStore(tmp_path / "store"))


def publish_classifier(
    registry: Registry,
    folder: Path,
    architecture: str,
    temperature: float,
    thresholds: tuple[float, ...] | None = None,
) -> None:
    """Publish version v-1 as a fine-tuning run does: an encoder of its own, whose first token a head reads."""
    manifest = build_tiny_encoder(folder, architecture, Pooling("cls", normalize=False), int8=False)
    auto: Any = transformers.AutoModelForSequenceClassification
    torch.manual_seed(3)
    model = auto.from_pretrained(folder, num_labels=len(LABELS))
    model.base_model.save_pretrained(folder)
    _, layers = head_of_model(architecture, model)
    encoder = Encoders(registry.store).publish(folder, manifest)
    more: dict[str, Any] = {"layers": layers, "temperature": temperature, "thresholds": thresholds}
    publish_head(registry, encoder.digest, "v-1", labels=LABELS, **more)


def head_of_model(architecture: str, model: Any) -> tuple[str, tuple[Layer, ...]]:
    """Return the head of a classifier with weights that matter."""
    with torch.no_grad():
        for layer in head_of(architecture, model):
            layer.weight[:] = np.random.default_rng(7).normal(0, 0.5, layer.weight.shape)
    return architecture, head_of(architecture, model)


def served(registry: Registry, version: str = "v-1") -> Floats:
    """Return the probabilities that Fitloop serves in fp32."""
    manifest = registry.manifest("5-1", version)
    model = Loader(registry).model(manifest)
    return model.scores_of(LONG).probabilities


def softmax(logits: torch.Tensor) -> Floats:
    return np.asarray(logits.softmax(-1).numpy(), np.float32)


def several(logits: torch.Tensor) -> Floats:
    """Return calibrated probabilities as README.md of an export says."""
    thresholds = np.array(THRESHOLDS, np.float32)
    return np.asarray((logits + torch.from_numpy(np.log(thresholds / (1 - thresholds)))).sigmoid().numpy())


def with_transformers(folder: Path, answer: Answer = softmax) -> Floats:
    """Return what transformers computes from the folder."""
    auto: Any = transformers.AutoModelForSequenceClassification
    tokenizer: Any = transformers.AutoTokenizer
    model = auto.from_pretrained(folder).eval()
    batch = tokenizer.from_pretrained(folder)(list(LONG), truncation=True, padding=True, return_tensors="pt")
    assert batch["input_ids"].shape[1] <= MAX_LENGTH
    with torch.inference_mode():
        return answer(model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits)


def with_modules(folder: Path, answer: Answer = softmax) -> Floats:
    """Return what sentence-transformers computes from the folder: module after module, as modules.json lists them."""
    auto: Any = transformers.AutoModel
    length = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    prompts = folder / "config_sentence_transformers.json"
    named = json.loads(prompts.read_text()) if prompts.is_file() else {}
    prompt = named["prompts"][named["default_prompt_name"]] if named else ""
    rows = []
    model = auto.from_pretrained(folder).eval()
    for ids in encode(open_tokenizer(folder, length), [f"{prompt}{text}" for text in LONG]):
        with torch.inference_mode():
            hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy()
        rows.append(apply_modules(folder, hidden))
    return answer(torch.from_numpy(np.stack(rows)))


def with_onnx(folder: Path, answer: Answer = softmax) -> Floats:
    """Return what ONNX Runtime computes from the folder."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    rows = []
    for ids in encode(open_tokenizer(folder, MAX_LENGTH), list(LONG)):
        given = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        rows.append(session.run(["logits"], given)[0][0])
    return answer(torch.from_numpy(np.stack(rows)))


def apply_modules(folder: Path, hidden: Floats) -> Floats:
    """Apply the modules after the Transformer to the hidden states (tokens, d) of one text."""
    found = hidden
    for module in json.loads((folder / "modules.json").read_text())[1:]:
        kind, path = module["type"].rpartition(".")[2], folder / module["path"]
        if kind == "Pooling":
            flags = json.loads((path / "config.json").read_text())
            (mode,) = (flag for flag, is_on in flags.items() if flag.startswith("pooling_mode_") and is_on)
            assert flags["word_embedding_dimension"] == hidden.shape[1]
            found = {"pooling_mode_mean_tokens": hidden.mean(0), "pooling_mode_cls_token": hidden[0]}[mode]
        elif kind == "Dense":
            found = read_dense(path).apply(found)
        else:
            assert kind == "Normalize"
            found = found / np.linalg.norm(found)
    return found


def config_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "xlm-roberta", "camembert"])
def test_a_fine_tuned_head_is_a_classifier_of_transformers(
    registry: Registry, tmp_path: Path, terminal: Terminal, architecture: str
) -> None:
    publish_classifier(registry, tmp_path / "made", architecture, 1.7)
    folder = tmp_path / "out"
    code, out, err = terminal.run("export", "5", "v-1", str(folder))
    assert code == 0, err
    assert "transformers, 3 labels" in out
    assert np.abs(with_transformers(folder) - served(registry)).max() < 1e-4
    assert config_of(folder)["id2label"] == {"0": "refund", "1": "order", "2": "card"}
    auto: Any = transformers.AutoModelForSequenceClassification
    _, info = auto.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]


def test_a_probe_is_laid_out_for_sentence_transformers(
    registry: Registry, tmp_path: Path, terminal: Terminal
) -> None:
    manifest = build_tiny_encoder(tmp_path / "made", pooling=Pooling(prompt="query: "), int8=False)
    Encoders(registry.store).publish(tmp_path / "made", manifest)
    publish_head(registry, manifest.digest, "v-1", labels=LABELS, temperature=0.4)
    assert terminal.run("export", "5", "v-1", str(tmp_path / "out"))[0] == 0
    assert np.abs(with_modules(tmp_path / "out") - served(registry)).max() < 1e-4
    described = json.loads((tmp_path / "out" / "fitloop.json").read_text())
    assert (described["version"], described["prompt"], described["temperature"]) == ("v-1", "query: ", 1.0)
    assert described["encoder"] == manifest.digest
    code, _, err = terminal.run("export", "5", "v-1", str(tmp_path / "other"), "--format", "transformers")
    assert code == 1
    assert "its head reads features of its own (pooling mean, of length 1)" in err
    assert not (tmp_path / "other").exists()


def test_dense_layers_of_the_base_model_come_before_normalisation(
    registry: Registry, tmp_path: Path, terminal: Terminal
) -> None:
    manifest = build_tiny_encoder(tmp_path / "made", pooling=Pooling("cls"), int8=False)
    (tmp_path / "made" / "projection").mkdir()
    weight = np.random.default_rng(1).normal(0, 1, (WIDTH, WIDTH)).astype(np.float32)
    Head((Layer(weight, np.ones(WIDTH, np.float32), "tanh"),)).write(tmp_path / "made" / "projection")
    Encoders(registry.store).publish(tmp_path / "made", manifest)
    publish_head(registry, manifest.digest, "v-1", labels=LABELS)
    assert terminal.run("export", "5", "v-1", str(tmp_path / "out"))[0] == 0
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert [one["path"] for one in modules] == ["", "1_Pooling", "2_Dense", "3_Normalize", "4_Dense"]
    assert np.abs(with_modules(tmp_path / "out") - served(registry)).max() < 1e-4


def publish_whole(
    registry: Registry, folder: Path, layout: str, temperature: float, *, several: bool = False
) -> Manifest:
    """Publish version v-1 as 0.1.0 does, or, if a text may have several labels, as an architecture with a classifier of its own is."""
    architecture = "deberta-v2" if layout == "sequence-classification" else "bert"
    build_tiny_encoder(folder, architecture, int8=False)
    if layout == "sequence-classification":
        auto: Any = transformers.AutoModelForSequenceClassification
        model = auto.from_pretrained(folder, num_labels=len(LABELS))
        with torch.no_grad():
            model.classifier.weight.normal_(0, 2)
        model.save_pretrained(folder)
    else:
        write_modules_of_0_1_0(folder)
    (folder / "ct2").mkdir(exist_ok=True)
    (folder / "ct2" / "model.bin").write_bytes(b"int8")
    (folder / "oos.json").write_text("{}")
    made = replace(build_manifest("v-1", labels=LABELS), multi_label=several)
    if several:
        shift = Layer(np.float32(0.7) * np.eye(3, dtype=np.float32), np.array([0.1, -0.2, 0.3], np.float32))
        Head((shift,), 1.0, np.array(THRESHOLDS, np.float32)).write(folder)
    return registry.publish(
        folder, replace(made, artefact=Artefact(layout, "torch-fp32", "", MAX_LENGTH, temperature))
    )


def write_modules_of_0_1_0(folder: Path) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (3, WIDTH)).astype(np.float32)
    kinds = ("", "1_Pooling", "2_Normalize", "3_Dense")
    modules = [{"path": path, "type": f"x.{path.partition('_')[2] or 'Transformer'}"} for path in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": MAX_LENGTH}))
    for path in kinds[1:]:
        (folder / path).mkdir()
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    dense = {
        "in_features": WIDTH,
        "out_features": 3,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    (folder / "3_Dense" / "config.json").write_text(json.dumps(dense))
    save_file(
        {"linear.weight": weight, "linear.bias": np.zeros(3, np.float32)},
        folder / "3_Dense/model.safetensors",
    )


@pytest.mark.parametrize(
    ("layout", "temperature", "load"),
    [
        ("sequence-classification", 1.7, with_transformers),
        ("sentence-transformers", 1.0, with_modules),
    ],
)
def test_whole_models_are_copied(
    registry: Registry, tmp_path: Path, terminal: Terminal, layout: str, temperature: float, load: Any
) -> None:
    publish_whole(registry, tmp_path / "made", layout, temperature)
    assert terminal.run("export", "5", "v-1", str(tmp_path / "out"))[0] == 0
    assert np.abs(load(tmp_path / "out") - served(registry)).max() < 1e-4
    assert not (tmp_path / "out" / "ct2").exists()
    assert not (tmp_path / "out" / "oos.json").exists()
    other = "sentence-transformers" if layout == "sequence-classification" else "transformers"
    code, _, err = terminal.run("export", "5", "v-1", str(tmp_path / "other"), "--format", other)
    assert (code, "it is a whole model in that layout" in err) == (1, True)


def test_thresholds_are_folded_into_a_classifier_of_its_own(
    registry: Registry, tmp_path: Path, terminal: Terminal
) -> None:
    publish_whole(registry, tmp_path / "made", "sequence-classification", 1.0, several=True)
    folder = tmp_path / "out"
    assert terminal.run("export", "5", "v-1", str(folder))[0] == 0
    assert np.abs(with_transformers(folder, several) - served(registry)).max() < 1e-4
    assert not (folder / "head.safetensors").exists()
    assert config_of(folder)["problem_type"] == "multi_label_classification"
    described = json.loads((folder / "fitloop.json").read_text())
    assert (described["multi_label"], described["temperature"]) == (True, 1.0)
    assert described["thresholds"] == pytest.approx(THRESHOLDS)


def test_thresholds_need_a_bias(registry: Registry, tmp_path: Path, terminal: Terminal) -> None:
    publish_whole(registry, tmp_path / "made", "sequence-classification", 1.0, several=True)
    path = registry.file("5-1", "v-1", "model.safetensors")
    tensors = load_file(path)
    del tensors["classifier.bias"]
    save_file(tensors, path)
    (one,) = FileStore(tmp_path / "store").keys("projects/5-1/versions/v-1/manifest.json")
    manifest = json.loads((tmp_path / "store" / one).read_text())
    entry = entry_of(path)
    manifest["files"]["model.safetensors"] = {"size": entry.size, "sha256": entry.sha256}
    (tmp_path / "store" / one).write_text(json.dumps(manifest))
    code, _, err = terminal.run("export", "5", "v-1", str(tmp_path / "out"))
    assert code == 1
    assert "has no bias, which would have to take the thresholds of its labels. Use --format onnx" in err
    assert list(tmp_path.glob("*out*")) == []


@pytest.mark.parametrize("kind", ["probe", "classifier", "whole", "whole classifier"])
def test_onnx_answers_as_fp32(registry: Registry, tmp_path: Path, terminal: Terminal, kind: str) -> None:
    pytest.importorskip("onnxscript")
    if kind == "classifier":
        publish_classifier(registry, tmp_path / "made", "roberta", 1.7)
    elif kind == "probe":
        manifest = build_tiny_encoder(tmp_path / "made", int8=False)
        Encoders(registry.store).publish(tmp_path / "made", manifest)
        publish_head(registry, manifest.digest, "v-1", labels=LABELS, temperature=0.4)
    else:
        layout = "sequence-classification" if "classifier" in kind else "sentence-transformers"
        publish_whole(registry, tmp_path / "made", layout, 1.7)
    folder = tmp_path / "out"
    code, _, err = terminal.run("export", "5", "v-1", str(folder), "--format", "onnx")
    assert code == 0, err
    assert np.abs(with_onnx(folder) - served(registry)).max() < 1e-4
    assert config_of(folder)["id2label"]["2"] == "card"


@pytest.mark.parametrize(
    ("layout", "load"),
    [
        ("transformers", with_transformers),
        ("sentence-transformers", with_modules),
        ("onnx", with_onnx),
        ("onnx of a whole", with_onnx),
    ],
)
def test_several_labels_are_exported(
    registry: Registry, tmp_path: Path, terminal: Terminal, layout: str, load: Any
) -> None:
    if "onnx" in layout:
        pytest.importorskip("onnxscript")
    if layout == "onnx of a whole":
        layout = "onnx"
        publish_whole(registry, tmp_path / "made", "sequence-classification", 1.0, several=True)
    else:
        publish_classifier(registry, tmp_path / "made", "bert", 1.7, THRESHOLDS)
    folder = tmp_path / "out"
    code, _, err = terminal.run("export", "5", "v-1", str(folder), "--format", layout)
    assert code == 0, err
    right = served(registry)
    assert np.abs(load(folder, several) - right).max() < 1e-4
    at_half = load(folder, lambda logits: logits.sigmoid().numpy()) >= 0.5
    assert (at_half == (right >= THRESHOLDS)).all()
    assert len(np.unique(at_half)) == 2
    config, described = config_of(folder), json.loads((folder / "fitloop.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert config["id2label"]["2"] == "card"
    assert (described["multi_label"], described["temperature"]) == (True, 1.0)
    assert described["thresholds"] == pytest.approx(THRESHOLDS)
    assert "sigmoid is .5 or more" in (folder / "README.md").read_text()


def test_a_pipeline_of_transformers_chooses_the_same_labels(
    registry: Registry, tmp_path: Path, terminal: Terminal
) -> None:
    publish_classifier(registry, tmp_path / "made", "bert", 1.7, THRESHOLDS)
    assert terminal.run("export", "5", "v-1", str(tmp_path / "out"))[0] == 0
    assert "top_k=None" in (tmp_path / "out" / "README.md").read_text()
    pipeline: Any = transformers.pipeline("text-classification", model=str(tmp_path / "out"), top_k=None)
    for given, right in zip(pipeline(list(LONG), truncation=True), served(registry), strict=True):
        scores = {one["label"]: one["score"] for one in given}
        assert [scores[label] >= 0.5 for label in LABELS] == (right >= THRESHOLDS).tolist()


def test_missing_libraries_are_named(
    registry: Registry, tmp_path: Path, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_whole(registry, tmp_path / "made", "sentence-transformers", 1.0)
    monkeypatch.setattr("services.trainer.publishing.onnx.importlib.util.find_spec", lambda _: None)
    code, _, err = terminal.run("export", "5", "v-1", str(tmp_path / "out"), "--format", "onnx")
    assert code == 1
    assert "needs onnx, onnxscript, onnxruntime: run `pip install 'fitloop[trainer]'`" in err
    assert list(tmp_path.glob("*out*")) == [], "nothing is left half-written"


def test_only_an_empty_folder_is_written_to(registry: Registry, tmp_path: Path, terminal: Terminal) -> None:
    publish_whole(registry, tmp_path / "made", "sentence-transformers", 1.0)
    folder = tmp_path / "out"
    folder.mkdir()
    assert terminal.run("export", "5", "v-1", str(folder))[0] == 0
    (folder / "mine.txt").write_text("mine")
    (folder / "fitloop.json").write_text(json.dumps({"files": ["old.bin", "../made/config.json"]}))
    (folder / "old.bin").write_bytes(b"of an earlier export")
    code, _, err = terminal.run("export", "5", "v-1", str(folder))
    assert (code, "is not an empty folder: pass another one, or --force" in err) == (1, True)
    assert terminal.run("export", "5", "v-1", str(folder), "--force")[0] == 0
    assert (folder / "mine.txt").read_text() == "mine"
    assert not (folder / "old.bin").exists()
    assert (tmp_path / "made" / "config.json").exists(), "files outside the folder are not deleted"


def test_unknown_versions_and_damage_are_refused(
    registry: Registry, tmp_path: Path, terminal: Terminal
) -> None:
    publish_classifier(registry, tmp_path / "made", "bert", 1.0)
    code, _, err = terminal.run("export", "5", "v-9", str(tmp_path / "out"))
    assert code == 1
    assert "Project 5 in" in err
    assert "has no version 'v-9': it has v-1" in err
    digest = registry.manifest("5-1", "v-1").encoder
    path = tmp_path / "store" / "encoders" / digest / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    code, _, err = terminal.run("export", "5", "v-1", str(tmp_path / "out"))
    assert (code, "differs from its manifest" in err) == (1, True)
    assert list(tmp_path.glob("*out*")) == []


def test_a_version_of_a_class_of_the_users_is_refused(
    registry: Registry, tmp_path: Path, terminal: Terminal
) -> None:
    publish_own_version(registry, "v-1", "boxes.model:Boxes")
    code, _, err = terminal.run("export", "5", "v-1", str(tmp_path / "out"))
    assert code == 1
    assert "only boxes.model:Boxes reads its files" in err

"""Base model folders: unusable ones are refused with a sentence, and the others work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from services.core.domain import Method
from services.core.errors import BadConfig
from services.trainer.data.base_check import ModelErrors
from services.trainer.data.base_model import load_base, load_classifier
from tests.support.architectures import build_architecture
from tests.support.base_models import build_tiny_base


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def base(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "base"))


def changed(folder: Path, **changes: object) -> str:
    path = folder / "config.json"
    known = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in known.items() if value is not None}))
    return str(folder)


def refusal(folder: Path | str, method: Method = Method.AUTO) -> str:
    with pytest.raises(BadConfig) as raised:
        load_base(str(folder), 32, method)
    assert raised.value.exit_code == 78
    sentence = str(raised.value)
    assert "BASELINE_MODEL_NAME" in sentence
    return sentence


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.gguf", "tf_model.h5"])
def test_names_weights_that_are_not_safetensors(base: Path, name: str) -> None:
    (base / "model.safetensors").rename(base / name)
    assert (
        f"its weights are in {Path(name).suffix} files, and only safetensors, which contain no code, are read"
        in refusal(base)
    )


def test_refuses_a_config_without_model_type(base: Path) -> None:
    assert "does not say which architecture it is (model_type)" in refusal(changed(base, model_type=None))


@pytest.mark.parametrize("text", ["{", "[]", '"bert"', "\x00"])
def test_refuses_a_config_that_is_not_an_object(base: Path, text: str) -> None:
    (base / "config.json").write_text(text)
    assert "its config.json" in refusal(base)


def test_runs_no_code_of_a_model(base: Path) -> None:
    (base / "modeling_x.py").write_text("raise SystemExit('run')")
    own = changed(
        base, model_type="my-own", auto_map={"AutoModel": "modeling_x.X", "AutoConfig": "modeling_x.X"}
    )
    assert "its architecture, my-own, needs code that comes with the model (auto_map" in refusal(own)


def test_known_architectures_ignore_the_models_code(base: Path) -> None:
    (base / "modeling_x.py").write_text("raise SystemExit('run')")
    known = changed(base, auto_map={"AutoModel": "modeling_x.X", "AutoConfig": "modeling_x.X"})
    assert type(load_base(known, 32).encoder).__name__ == "BertModel"


def test_runs_no_code_of_a_tokenizer(base: Path) -> None:
    (base / "tokenizer.json").unlink()
    (base / "tokenization_x.py").write_text("raise SystemExit('run')")
    (base / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "X", "auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}})
    )
    assert "its tokenizer" in refusal(base)


def test_names_an_unknown_architecture(base: Path) -> None:
    sentence = refusal(changed(base, model_type="bert-99"))
    assert f"its architecture, bert-99, is not known to transformers {transformers.__version__}" in sentence


def test_refuses_quantized_weights(base: Path) -> None:
    sentence = refusal(changed(base, quantization_config={"quant_method": "gptq", "bits": 4}))
    assert "its weights are quantized" in sentence


def test_refuses_weights_of_another_architecture(base: Path) -> None:
    save_file({"some.weight": torch.zeros(4, 4)}, base / "model.safetensors", {"format": "pt"})
    assert "its weights are not those of the architecture in its config.json, bert" in refusal(base)


def test_refuses_weights_of_another_size(base: Path) -> None:
    assert "its architecture, bert, failed to be loaded" in refusal(changed(base, hidden_size=16))


def test_refuses_a_folder_without_tokenizer(base: Path) -> None:
    (base / "tokenizer.json").unlink()
    assert "its tokenizer (tokenizer.json or vocab.txt) is missing" in refusal(base)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reads_half_precision_as_fp32(base: Path, dtype: torch.dtype) -> None:
    weights = {name: tensor.to(dtype) for name, tensor in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    encoder = load_base(changed(base, dtype=str(dtype).removeprefix("torch.")), 32).encoder
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}


def test_reads_sharded_weights(bert: Path, tmp_path: Path) -> None:
    model: Any = transformers.AutoModel
    model.from_pretrained(bert).save_pretrained(tmp_path, max_shard_size="20KB")
    shutil.copy(bert / "tokenizer.json", tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    one, several = load_base(str(bert), 32).encoder, load_base(str(tmp_path), 32).encoder
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), several.parameters(), strict=True))


def test_a_classifier_with_other_labels_gets_a_new_head(base: Path, tmp_path: Path) -> None:
    auto: Any = transformers.AutoModelForSequenceClassification
    auto.from_pretrained(base, num_labels=7).save_pretrained(tmp_path / "seven")
    shutil.copy(base / "tokenizer.json", tmp_path / "seven")
    loaded = load_base(str(tmp_path / "seven"), 32, Method.FINETUNE)
    assert load_classifier(loaded, 3).config.num_labels == 3


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "qwen2"])
@pytest.mark.parametrize("pad", [None, -1])
def test_decoders_get_a_padding_token(tmp_path: Path, architecture: str, pad: int | None) -> None:
    build_architecture(tmp_path, architecture)
    changed(tmp_path, pad_token_id=pad)
    base = load_base(str(tmp_path), 32, Method.FINETUNE)
    assert base.padded
    assert load_classifier(base, 2).config.pad_token_id == base.pad_id == 0


@pytest.mark.parametrize("architecture", ["fnet", "nystromformer"])
def test_detects_architectures_that_padding_changes(tmp_path: Path, architecture: str) -> None:
    build_architecture(tmp_path, architecture)
    assert not load_base(str(tmp_path), 32).padded


def test_refuses_architectures_that_need_more_than_text(tmp_path: Path) -> None:
    build_architecture(tmp_path, "perceiver")
    assert "its architecture, perceiver, failed to read a text." in refusal(tmp_path)


def test_refuses_image_architectures(base: Path, tmp_path: Path) -> None:
    config: Any = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    shutil.copy(base / "tokenizer.json", tmp_path / "vit")
    assert "its architecture, vit, failed to read a text." in refusal(tmp_path / "vit")


def test_unclassifiable_models_can_be_probed(base: Path, tmp_path: Path) -> None:
    config: Any = transformers.MambaConfig(vocab_size=500, hidden_size=32, num_hidden_layers=1, state_size=4)
    transformers.MambaModel(config).save_pretrained(tmp_path / "mamba")
    shutil.copy(base / "tokenizer.json", tmp_path / "mamba")
    assert load_base(str(tmp_path / "mamba"), 32, Method.LINEAR_PROBE).width == 32
    sentence = refusal(tmp_path / "mamba", Method.FINETUNE)
    assert "its architecture, mamba, cannot be fine-tuned to classify texts (METHOD=finetune)" in sentence
    assert "Set METHOD to linear-probe or lp-ft" in sentence


@pytest.mark.parametrize("method", [Method.FINETUNE, Method.LP_FT])
def test_untrainable_models_can_be_probed(tmp_path: Path, method: Method) -> None:
    build_architecture(tmp_path, "reformer")
    assert load_base(str(tmp_path), 32, Method.LINEAR_PROBE).width == 64, "two halves of 32"
    sentence = refusal(tmp_path, method)
    assert "its architecture, reformer, failed to be trained" in sentence
    assert "Set METHOD to linear-probe, which leaves the model as it is" in sentence


def test_out_of_memory_says_so() -> None:
    with pytest.raises(BadConfig, match="memory was too small for the base model 'm' to be trained"):  # noqa: SIM117
        with ModelErrors("m", "bert").translate("be trained"):
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_gpu_failure_does_not_blame_the_model() -> None:
    with pytest.raises(torch.AcceleratorError):  # noqa: SIM117
        with ModelErrors("m", "bert").translate("be trained"):
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def test_truncates_at_the_models_positions(base: Path) -> None:
    assert load_base(str(base), 8192).max_length == 66

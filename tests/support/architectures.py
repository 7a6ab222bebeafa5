"""Every architecture that transformers can classify with: built tiny, trained, served and listed in docs/base-models.md.

    python -m tests.support.architectures docs/base-models.md

writes the table; --check compares it instead.
"""

from __future__ import annotations

import random
import sys
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from services.cli.reference import write_or_check
from services.core.domain import Method
from services.core.encoders import Encoders
from services.core.errors import BadConfig
from services.engine.encoder import INT8_FOLDERS
from services.engine.loading import Loader
from tests.support.base_models import build_tiny_tokenizer
from tests.support.trainer import TrainerWorld, build_text

METHODS: Final = (Method.FINETUNE, Method.LINEAR_PROBE)
TEXTS: Final = 24
_SIZES: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size", "emb_dim", "dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "n_head", "num_heads", "n_heads"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("intermediate_size", "d_ff", "d_inner", "hidden_dim", "dff", "ffn_dim"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "feed_forward_size", "ffn_hidden_size"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 80),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "n_group", "topk_group", "n_shared_experts"), 1),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "d_kv"), 16),
    **dict.fromkeys(
        ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"), 16
    ),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "head_dim", "d_head"), 16),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    "word_embed_proj_dim": 32,
    "word_embed_dim": 32,
}
_VISION: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("hidden_size", "out_hidden_size"), 32),
    **dict.fromkeys(("num_attention_heads", "num_heads"), 2),
    **dict.fromkeys(("num_hidden_layers", "depth"), 1),
    "intermediate_size": 64,
    "image_size": 28,
    "patch_size": 14,
    "num_position_embeddings": 16,
}
_ROPE: Final = {"rope_type": "default", "rope_theta": 10_000.0}
_OF_ITS_OWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "cohere_compass_text": {
        "layer_types": ["full_attention", "sliding_attention"],
        "rope_parameters": dict.fromkeys(("full_attention", "sliding_attention"), _ROPE),
    },
    "falcon": {"head_dim": None},
    "funnel": {"num_hidden_layers": None, "block_sizes": [1, 1], "num_decoder_layers": 1, "d_head": 16},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 16},
    "layoutlmv3": {"coordinate_size": 4, "shape_size": 8},
    "lilt": {"hidden_size": 48},
    "longformer": {"attention_window": [16, 16]},
    "luke": {"entity_vocab_size": 8, "entity_emb_size": 16},
    "markuplm": {"xpath_unit_hidden_size": 4},
    "mistral4": {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8},
    "perceiver": {"num_latents": 8, "d_latents": 32, "num_self_attends_per_block": 1},
    "reformer": {
        **dict.fromkeys(("local_attn_chunk_length", "lsh_attn_chunk_length"), 8),
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [8, 10],
        "axial_pos_embds_dim": [16, 16],
        "attention_head_size": 16,
        "num_hidden_layers": None,
    },
    "roc_bert": {"pronunciation_vocab_size": 8, "shape_vocab_size": 8},
    "xlnet": {"max_position_embeddings": None},
    "zamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_dt_rank": 4}
    | {"attention_hidden_size": 64, "attention_head_dim": 32, "layers_block_type": ["mamba", "hybrid"] * 2},
    "zamba2": {"num_hidden_layers": 3, "mamba_d_state": 8, "n_mamba_heads": 2, "mamba_headdim": 32}
    | {"layers_block_type": ["mamba", "hybrid", "mamba"], "hybrid_layer_ids": [1], "adapter_rank": 4},
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one architecture and one method lead to."""

    engine: str
    """`int8`, `torch fp32`, or `refused`."""
    why: str = ""
    padded: bool = True


def architectures() -> list[str]:
    """Return the `model_type` of every architecture in the installed transformers."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

    return sorted(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES)


def build_architecture(folder: Path, architecture: str) -> None:
    """Write a base model with random weights, or placeholder weights where transformers needs another library to build it."""
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(0)
    tokenizer = build_tiny_tokenizer(starts_with_pad=True)
    config = _config(architecture, tokenizer.get_vocab_size())
    folder.mkdir(parents=True, exist_ok=True)
    auto: Any = transformers.AutoModelForSequenceClassification
    try:
        auto.from_config(config).save_pretrained(folder)
    except ImportError:
        config.save_pretrained(folder)
        save_file({"weight": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(folder / "tokenizer.json"))


def tried(architecture: str, folder: Path) -> dict[Method, Outcome]:
    """Build the architecture once, train it by each method and predict with it."""
    build_architecture(folder / "base", architecture)
    return {method: outcome(TrainerWorld(folder / method, folder / "base"), method) for method in METHODS}


def outcome(world: TrainerWorld, method: Method) -> Outcome:
    """Return what a run by this method leads to. Raises AssertionError if its version cannot serve."""
    world.label(TEXTS)
    run = world.request(
        method, num_train_epochs=1.0 if method is Method.FINETUNE else None, budget_seconds=1e-6
    )
    try:
        world.train(run)
    except BadConfig as error:
        sentence = str(error)
        named, why = _named_and_why(sentence)
        if named not in architectures() or "BASELINE_MODEL_NAME" not in sentence:
            raise AssertionError(sentence) from error
        return Outcome("refused", why)
    (version,) = world.registry.versions(world.key)
    manifest = world.manifest(version)
    loader = Loader(world.registry)
    model = loader.model(manifest)
    texts = ["ok", build_text("order", random.Random(1)), "money back " * 40]
    together = model.scores_of(texts).probabilities
    alone = np.concatenate([model.scores_of([text]).probabilities for text in texts])
    assert np.abs(together - alone).max() < 1e-2, "a text's answer depends on its company"
    made = Encoders(world.store).manifest(manifest.encoder) if manifest.encoder else manifest.artefact
    # Whether int8 is near enough to fp32 depends on the weights, which are random here: what counts is that it was compared.
    is_int8 = made.engine in INT8_FOLDERS or made.engine_reason.startswith("int8 was refused: on ")
    return Outcome("int8" if is_int8 else "torch fp32", padded=manifest.artefact.padded)


def _named_and_why(sentence: str) -> tuple[str, str]:
    """Return the architecture that the sentence names, and the reason."""
    actual = sentence.partition(": its architecture, ")[2].partition(". Set ")[0]
    named, _, why = actual.partition(", ")
    return named, why


def needs_tokenizer_file(architecture: str) -> bool:
    """Return whether the architecture has a Python tokenizer only, which cannot be converted to tokenizer.json."""
    from transformers import PreTrainedTokenizerFast
    from transformers.models.auto import tokenization_auto

    name = tokenization_auto.TOKENIZER_MAPPING_NAMES.get(architecture)
    found = tokenization_auto.tokenizer_class_from_name(name) if name else None
    return found is not None and not issubclass(found, PreTrainedTokenizerFast)


def _config(architecture: str, vocabulary: int) -> Any:
    import transformers

    kind = transformers.CONFIG_MAPPING[architecture]
    return kind(**_tiny(kind().to_dict(), kind, vocabulary, _OF_ITS_OWN.get(architecture, {})))


def _tiny(usual: Mapping[str, Any], kind: Any, vocabulary: int, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return config arguments: those of _SIZES that it knows and its own; recursively for nested configs."""
    found = {name: value for name, value in _SIZES.items() if name in usual or hasattr(kind, name)}
    if "vocab_size" in usual:
        found["vocab_size"] = vocabulary
    for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
        value = usual.get(name)
        if isinstance(value, int) and (value >= vocabulary or name == "eos_token_id"):
            found[name] = {"pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3}.get(name, 2)
    for name in ("text_config", "encoder", "decoder"):
        if isinstance(inner := usual.get(name), Mapping):
            found[name] = _tiny(inner, object, vocabulary, {})
            if "text_config" in inner:
                found[name] = {
                    "text_config": _tiny(inner["text_config"], object, vocabulary, {}),
                    "vision_config": dict(_VISION),
                }
    if "vision_config" in usual:
        found["vision_config"] = dict(_VISION)
    return {name: value for name, value in {**found, **own}.items() if value is not None}


def table(outcomes: Mapping[str, Mapping[Method, Outcome]]) -> str:
    """Return the text of docs/base-models.md."""
    from services.trainer.publishing.int8 import KINDS
    from services.trainer.publishing.quantised_graph import KINDS as GRAPHS

    rows = [
        f"| `{name}` | {' | '.join(_cell(found[method]) for method in METHODS)} | "
        f"{'needs one' if needs_tokenizer_file(name) else ''} |"
        for name, found in outcomes.items()
    ]
    ct2, ort = (", ".join(f"`{name}`" for name in names) for names in (KINDS, GRAPHS))
    return "\n".join([_HEAD.format(ct2=ct2, ort=ort), *rows, ""])


def _cell(found: Outcome) -> str:
    if found.engine == "refused":
        return f"refused: it {found.why}"
    return found.engine if found.padded else f"{found.engine}, unpadded"


_HEAD: Final = """\
# Base models

`BASELINE_MODEL_NAME` may name a model of any architecture in this table: all that transformers supports for text classification. Each was built
with a tiny size, trained and served by the test that generates this page (`python -m tests.support.architectures docs/base-models.md`), so
the table shows what works, not how good a model is. For most projects a sentence encoder of type `bert` or `xlm-roberta`
(all-MiniLM-L6-v2, multilingual-e5-small) needs the fewest labels and is served the fastest.

- **int8**: served in int8, by CTranslate2 ({ct2}) or ONNX Runtime ({ort}), if its predictions match
  those of fp32; else in fp32.
- **torch fp32**: served by torch, which takes more memory and more time.
- **unpadded**: padding would change its predictions, so a batch contains only texts of equal length, which is slower.
- **refused**: the run exits with code 78 and the same reason.
- **tokenizer.json**: "needs one" if the architecture's own tokenizer is Python code, which is not supported: the model folder must
  contain a `tokenizer.json`.

A model must provide its weights as safetensors, in one file or several, in any floating-point format; they are trained in fp32. Quantized
weights, `pytorch_model.bin`, GGUF and models with their own code (`auto_map`, which needs `trust_remote_code`) are
refused: code of a model is never run. Decoders without a padding token (GPT-2, Llama, Qwen2) use the
end-of-text token. Texts are truncated at `FITLOOP_MAX_LENGTH` tokens, or at the model's maximum positions if those are fewer.

The first run with a base model turns it into an encoder in the bucket, which all projects share
([35](decisions/0035-versions-are-heads-of-shared-encoders.md)). Pooling, dense layers, normalisation and the default prompt are those of the
model's own sentence-transformers files; without such files, token vectors are averaged and normalised. To give a model a prompt, as
"query: " for e5, put a `config_sentence_transformers.json` with `prompts` and `default_prompt_name` into its folder.

| architecture (`model_type`) | `finetune` | `linear-probe` | `tokenizer.json` |
|---|---|---|---|"""


def document() -> str:
    """Try all architectures and return the document."""
    warnings.simplefilter("ignore")
    outcomes = {}
    for name in architectures():
        with tempfile.TemporaryDirectory() as folder:
            outcomes[name] = tried(name, Path(folder))
    return table(outcomes)


if __name__ == "__main__":
    sys.exit(write_or_check(sys.argv[1:], "tests.support.architectures", "docs/base-models.md", document))

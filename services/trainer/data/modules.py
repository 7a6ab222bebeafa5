"""What the files of a base model say of the way from token vectors to features: pooling, dense layers, normalisation, prompt.

modules.json and the folders that it names are sentence-transformers'; without them token vectors are averaged and
normalised. `digest_of` identifies the encoder that comes of all of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError

from services.core.domain import Pooling
from services.engine.head import Layer, check_layers
from services.engine.pooling import MODES
from services.engine.whole_model import read_dense

REVISION: Final = 1
"""Raised when the same base model would become another encoder."""
POOLING_FLAGS: Final = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
"""By the keys of 1_Pooling/config.json."""
_ORDER: Final = ("Transformer", "Pooling", "Dense", "Normalize")
_IGNORED: Final = "Dropout"
"""A module that does nothing outside of training."""


@dataclass(frozen=True, slots=True)
class Modules:
    """What follows the transformer of a base model."""

    pooling: Pooling = field(default_factory=Pooling)
    layers: tuple[Layer, ...] = ()
    """Dense layers between pooling and normalisation."""
    lower_case: bool = False
    """Whether texts are turned into lower case before the tokenizer reads them."""


def read_modules(folder: Path, transformer: Path) -> Modules:
    """Read the modules of the base model in `folder`. Raises ValueError, which ends a sentence, if they cannot be computed."""
    settings = _json(transformer / "sentence_bert_config.json")
    kinds = [(str(one["type"]).rpartition(".")[2], folder / str(one["path"])) for one in _listed(folder)]
    kinds = [(kind, path) for kind, path in kinds if kind != _IGNORED]
    if len(kinds) <= 1:
        return Modules(lower_case=bool(settings.get("do_lower_case")))
    places = [_ORDER.index(kind) if kind in _ORDER else -1 for kind, _ in kinds]
    if -1 in places:
        raise ValueError(f"its module {kinds[places.index(-1)][0]!r} is unknown to Fitloop")
    if places != sorted(places) or places.count(0) != 1 or places.count(1) != 1:
        raise ValueError(
            f"its modules ({', '.join(kind for kind, _ in kinds)}) are not a Transformer, a Pooling, Dense layers and a Normalize"
        )
    config = _json(next(path for kind, path in kinds if kind == "Pooling") / "config.json")
    prompt = _prompt(folder)
    if prompt and config.get("include_prompt") is False:
        raise ValueError(
            "its pooling leaves out the tokens of its prompt (include_prompt), which Fitloop does not"
        )
    layers = _dense([path for kind, path in kinds if kind == "Dense"])
    normalize = any(kind == "Normalize" for kind, _ in kinds)
    return Modules(Pooling(_mode(config), normalize, prompt), layers, bool(settings.get("do_lower_case")))


def digest_of(transformer: Path, tokenizer: str, modules: Modules, max_length: int) -> str:
    """Return the encoder's digest: of the files in `transformer`, tokenizer.json as served, and everything that follows."""
    digest = hashlib.sha256()
    for path in [*sorted(transformer.glob("model*.safetensors")), transformer / "config.json"]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    for layer in modules.layers:
        digest.update(layer.weight.tobytes() + layer.bias.tobytes() + layer.activation.encode())
    rest = [REVISION, tokenizer, asdict(modules.pooling), max_length]
    digest.update(json.dumps(rest, sort_keys=True).encode())
    return digest.hexdigest()


def _listed(folder: Path) -> Sequence[dict[str, Any]]:
    if not (folder / "modules.json").is_file():
        return []
    try:
        found = json.loads((folder / "modules.json").read_bytes())
        return [{"type": one.get("type", _ORDER[0]), "path": one["path"]} for one in found]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError("its modules.json cannot be read") from error


def _mode(config: dict[str, Any]) -> str:
    """Return the one pooling mode that 1_Pooling/config.json chooses, in the older form of flags or the newer one of names."""
    named = config.get("pooling_mode")
    found = [named] if isinstance(named, str) else list(named or ())
    found = found or [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)]
    if len(found) != 1 or found[0] not in MODES:
        modes = " and ".join(map(str, found)) or "nothing"
        raise ValueError(f"its pooling is {modes}, and Fitloop computes one of {', '.join(MODES)}")
    return str(found[0])


def _prompt(folder: Path) -> str:
    """Return the prompt that is put before each text by default."""
    config = _json(folder / "config_sentence_transformers.json")
    name = config.get("default_prompt_name")
    prompts = config.get("prompts")
    found = prompts.get(name) if name and isinstance(prompts, dict) else None
    return found if isinstance(found, str) else ""


def _dense(folders: Sequence[Path]) -> tuple[Layer, ...]:
    try:
        layers = tuple(read_dense(path) for path in folders)
        check_layers(layers)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ValueError(
            "its Dense layers cannot be read, or have an activation that is unknown to Fitloop"
        ) from error
    return layers


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"its {path.name} cannot be read") from error
    return found if isinstance(found, dict) else {}

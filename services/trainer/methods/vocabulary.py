"""Train only the word vectors of tokens that occur in the training texts.

2,000 texts contain some 2,000 of 30,522 tokens (of 250,002 in a multilingual model). The other rows have no gradient, and yet
each step would fill them with zeros, take their norm, clip them, and move them by AdamW's decay alone. During training the
table has only the rows that occur; afterwards they return to the whole table, whose other rows are as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding

_WORTHWHILE = 0.5
"""The share of a table's rows below which it is made smaller."""


class Rows(nn.Module):
    """Some rows of an embedding, found by the ids of the whole one, so that the model around it sees the ids it knows."""

    def __init__(self, table: nn.Embedding, used: torch.Tensor) -> None:
        """`used`: (rows,) ids in ascending order."""
        super().__init__()
        self.weight = nn.Parameter(table.weight.detach()[used].clone(), table.weight.requires_grad)
        self.padding_idx = table.padding_idx
        self._position = torch.zeros(table.num_embeddings, dtype=torch.long, device=table.weight.device)
        self._position[used] = torch.arange(len(used), device=table.weight.device)
        self._padding = None if table.padding_idx is None else int(self._position[table.padding_idx])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(texts, tokens) to (texts, tokens, d)."""
        return embedding(self._position[ids], self.weight, self._padding)


@contextmanager
def only_used_rows(model: nn.Module, ids: Sequence[Sequence[int]], pad_id: int) -> Iterator[None]:
    """Replace the model's word embedding by the rows of `ids` within; at the end write these into the whole table.

    Models whose table is shared with another layer, or is more than a plain embedding, are left as they are.
    """
    place = _place_of(model)
    used = sorted({pad_id, *(token for row in ids for token in row)})
    if (
        place is None
        or not place[2].weight.requires_grad
        or len(used) > _WORTHWHILE * place[2].num_embeddings
    ):
        yield
        return
    parent, name, table = place
    if table.padding_idx is not None:
        used = sorted({table.padding_idx, *used})
    index = torch.tensor(used, device=table.weight.device)
    rows = Rows(table, index)
    setattr(parent, name, rows)
    try:
        yield
    finally:
        with torch.no_grad():
            table.weight[index] = rows.weight
        setattr(parent, name, table)


def _place_of(model: nn.Module) -> tuple[Any, str, nn.Embedding] | None:
    """Return the module that holds the word embedding, its name there, and the embedding, if it can be replaced."""
    words = _word_embedding(model)
    if words is None or words.max_norm is not None or words.sparse or words.scale_grad_by_freq:
        return None
    holders = [
        (module, name)
        for module in model.modules()
        for name, value in module.named_parameters(recurse=False, remove_duplicate=False)
        if value is words.weight
    ]
    places = [
        (module, name)
        for module in model.modules()
        for name, value in module._modules.items()  # noqa: SLF001  # `named_children` leaves out repeated ones
        if value is words
    ]
    return (*places[0], words) if len(holders) == len(places) == 1 else None


def _word_embedding(model: nn.Module) -> nn.Embedding | None:
    """Return the table of word vectors, as the architecture names it: others, as of positions, are not indexed by token ids."""
    for module in model.modules():
        if get := getattr(module, "get_input_embeddings", None):
            try:
                table = get()
            except NotImplementedError:  # an architecture that does not say
                return None
            return table if type(table) is nn.Embedding else None
    return None

"""Training of the word vectors that occur, and of no others."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import nn

from services.trainer.methods.vocabulary import only_used_rows

IDS = [[2, 5, 7], [5, 9]]
PAD = 0


class Words(nn.Module):
    def __init__(self, padding_idx: int | None = PAD) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.words = nn.Embedding(50, 4, padding_idx=padding_idx)
        self.positions = nn.Embedding(99, 4)
        self.out = nn.Linear(4, 2)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.out(self.words(ids).sum(1))
        return logits


def steps(model: nn.Module, decay: float) -> None:
    """Take three steps on one batch of ids with padding."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=decay)
    for _ in range(3):
        optimiser.zero_grad()
        model(torch.tensor([[2, 5, 7], [5, 9, PAD]])).square().sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()


def test_the_same_weights_as_of_the_whole_table() -> None:
    whole, rows = Words(), Words()
    steps(whole, decay=0.0)
    with only_used_rows(rows, IDS, PAD):
        assert rows.words.weight.shape == (5, 4)
        steps(rows, decay=0.0)
    for one, other in zip(whole.parameters(), rows.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_other_rows_are_left_as_they_were() -> None:
    model, before = Words(), Words().words.weight.detach()
    with only_used_rows(model, IDS, PAD):
        steps(model, decay=0.1)
    changed = (model.words.weight != before).any(1).nonzero().ravel().tolist()
    assert changed == [2, 5, 7, 9]
    assert type(model.words) is nn.Embedding


def test_what_was_learned_stays_when_training_ends_early() -> None:
    model, before = Words(), Words().words.weight.detach()
    with contextlib.suppress(KeyboardInterrupt), only_used_rows(model, IDS, PAD):
        steps(model, decay=0.0)
        raise KeyboardInterrupt
    assert (model.words.weight[2] != before[2]).all()


@pytest.mark.parametrize("padding_idx", [None, 49])
def test_padding_of_the_model_is_among_the_rows(padding_idx: int | None) -> None:
    model = Words(padding_idx)
    expected = model(torch.tensor([[2, 5, 49 if padding_idx else PAD]]))
    with only_used_rows(model, IDS, PAD):
        found = model(torch.tensor([[2, 5, 49 if padding_idx else PAD]]))
    torch.testing.assert_close(found, expected)


def test_shared_tables_are_left_whole() -> None:
    model = Words()
    model.tied = nn.Linear(4, 50, bias=False)
    model.tied.weight = model.words.weight
    with only_used_rows(model, IDS, PAD):
        assert model.words.weight.shape == (50, 4)
    twice = nn.ModuleList([inner := Words(), nn.ModuleList([inner.words])])
    with only_used_rows(twice, IDS, PAD):
        assert inner.words.weight.shape == (50, 4)


def test_most_rows_used_or_no_table_changes_nothing() -> None:
    model = Words()
    with only_used_rows(model, [list(range(30))], PAD):
        assert model.words.weight.shape == (50, 4)
    with only_used_rows(nn.Linear(2, 2), IDS, PAD):
        pass


def test_frozen_tables_stay_frozen() -> None:
    model = Words()
    model.words.weight.requires_grad = False
    with only_used_rows(model, IDS, PAD):
        assert not model.words.weight.requires_grad

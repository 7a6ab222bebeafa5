"""The state of a fine-tune as tensors by name: weights that training changes, optimiser, random numbers."""

from __future__ import annotations

import torch
from torch import nn


def flatten(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return everything that resuming needs, by name, on the CPU."""
    tensors = {f"model.{name}": tensor for name, tensor in _changing(model).items()}
    for number, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in values.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _changing(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of the model that training changes: all but frozen weights."""
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def fits(tensors: dict[str, torch.Tensor], model: nn.Module) -> bool:
    """Return whether the checkpoint has weights of the model's shapes."""
    return all(
        f"model.{name}" in tensors and tensors[f"model.{name}"].shape == tensor.shape
        for name, tensor in _changing(model).items()
    )


def unflatten(tensors: dict[str, torch.Tensor], model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    """Set model, optimiser and random state to what `flatten` returned."""
    found = {name[6:]: tensor for name, tensor in tensors.items() if name.startswith("model.")}
    model.load_state_dict(model.state_dict() | found)
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, field_name = name.split(".", 2)
            state.setdefault(int(number), {})[field_name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available() and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"])

"""Checkpoints: one safetensors file each, tensors and a JSON note in its header, never pickle.

One file, because one rename is atomic: a run killed at any instant finds the old checkpoint or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from discern.errors import NotARun
from discern.files import writing

_NOTE = "discern"  # key of the JSON note in the safetensors header


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a training run is; with the weights and the optimiser's state, all that resuming needs.

    There is no generator state: every draw is keyed by (seed, epoch, image) or (seed, step).
    """

    epoch: int = 0
    """Epochs completed."""
    step: int = 0
    """Optimiser steps completed."""
    best_val_loss: float = float("inf")
    """Lowest validation loss so far."""
    best_val_acc: float = -1.0
    """Highest validation accuracy so far."""
    stale: int = 0
    """Epochs since the monitored score last improved."""
    seconds: float = 0.0
    """Training time so far, over all sittings."""
    phase: int = 0
    """Phases completed."""
    phase_epoch: int = 0
    """Epochs completed before the present phase."""
    phase_step: int = 0
    """Optimiser steps completed before the present phase."""


def save_weights(path: Path, state: Mapping[str, Tensor], note: dict[str, Any]) -> None:
    """Write the weights alone, with `note` in the header."""
    _save(path, {f"model.{name}": value for name, value in state.items()}, note)


def save_resumable(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, position: Position, note: dict[str, Any]
) -> None:
    """Write all that `load_resumable` needs to go on as if nothing had happened."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
    _save(path, tensors, {**note, "position": asdict(position)})


def load_resumable(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Put the saved state into `model` and `optimizer` and return the position.

    State tensors take the memory order of their parameters: element by element the same numbers, and the same
    vectorised code, so that the next step is the same to the last bit.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads(file.metadata()[_NOTE])
            for name in file.keys():  # noqa: SIM118 - not a mapping
                kind, _, rest = name.partition(".")
                if kind == "model":
                    weights[rest] = file.get_tensor(name)
                else:
                    number, _, key = rest.partition(".")
                    state.setdefault(int(number), {})[key] = _like(parameters[int(number)], file.get_tensor(name))
        model.load_state_dict(weights)
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return Position(**note["position"])
    except (SafetensorError, OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # Besides a broken file: one without our note, or of another network or optimiser.
        raise NotARun(f"The checkpoint {path} is damaged and cannot be resumed ({error}); train anew.") from error


def position_of(path: Path) -> Position:
    """How far a checkpoint is, without its weights; the beginning where there is none."""
    if not path.exists():
        return Position()
    try:
        with safe_open(path, framework="pt") as file:
            return Position(**json.loads(file.metadata()[_NOTE])["position"])
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        raise NotARun(f"The checkpoint {path} is damaged and cannot be resumed ({error}); train anew.") from error


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights of a checkpoint into `model`."""
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})


def note_of(path: Path) -> dict[str, Any]:
    """What was written beside the weights of a checkpoint."""
    with safe_open(path, framework="pt") as file:
        note: dict[str, Any] = json.loads(file.metadata()[_NOTE])
    return note


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _save(path: Path, tensors: dict[str, Tensor], note: dict[str, Any]) -> None:
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with writing(path) as temporary:  # as bytes, because safetensors hides why a file cannot be written (a full disk)
        temporary.write_bytes(save(plain, metadata={_NOTE: json.dumps(note)}))

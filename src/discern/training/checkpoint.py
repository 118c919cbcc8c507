"""Checkpoints: one safetensors file each, tensors and a JSON note in its header, never pickle.

One file, because one rename is atomic: a run killed at any instant finds the old checkpoint or the new one.
"""

from __future__ import annotations

import json
import os
import shutil
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

PREVIOUS = "previous"
"""The resumable checkpoint before the last."""

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
    drops: int = 0
    """Times that schedule 'plateau' has lowered the learning rate in this phase."""
    flat: int = 0
    """Epochs since it did so last, or since the monitored score last improved."""
    seconds: float = 0.0
    """Training time so far, over all sittings."""
    batch: int = 0
    """Steps completed of the epoch that has begun."""
    loss_sum: float = 0.0
    """Of their images' training losses."""
    right_sum: int = 0
    """Of their images that were right."""
    limit: int | None = None
    """Epochs of the present phase that fit into the time budget."""
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
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    position: Position,
    note: dict[str, Any],
    beside: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> None:
    """Write all that `load_resumable` needs to go on as if nothing had happened, and what was there as PREVIOUS.

    `beside` are averages of the weights, by what they are.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, state in (optimizer.state_dict()["state"] if optimizer else {}).items():
        tensors |= {f"optimizer.{number}.{key}": value for key, value in state.items() if isinstance(value, Tensor)}
    for kind, values in (beside or {}).items():
        tensors |= {f"{kind}.{name}": value for name, value in values.items()}
    if path.exists():
        with writing(path.with_name(f"{PREVIOUS}.safetensors")) as temporary:
            try:
                os.link(path, temporary)
            except OSError:  # a file system without a second name for a file
                shutil.copyfile(path, temporary)
    _save(path, tensors, {**note, "position": asdict(position)})


def load_resumable(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    beside: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Position:
    """Put the saved state into `model`, `optimizer` and what stands `beside` them, and return the position.

    State tensors take the memory order of their parameters: element by element the same numbers, and the same
    vectorised code, so that the next step is the same to the last bit.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]] if optimizer else []
    state: dict[int, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads(file.metadata()[_NOTE])
            for name in file.keys():  # noqa: SIM118 - not a mapping
                kind, _, rest = name.partition(".")
                if kind == "model":
                    weights[rest] = file.get_tensor(name)
                elif kind in (beside or {}):
                    (beside or {})[kind][rest].copy_(file.get_tensor(name))
                elif kind == "optimizer":
                    number, _, key = rest.partition(".")
                    state.setdefault(int(number), {})[key] = _like(parameters[int(number)], file.get_tensor(name))
        model.load_state_dict(weights)
        if optimizer:
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return Position(**note["position"])
    except (SafetensorError, OSError, LookupError, RuntimeError, TypeError, ValueError) as error:
        # Besides a broken file: one without our note, or of another network or optimiser.
        raise NotARun(f"The checkpoint {path} is damaged and cannot be resumed ({error}); train anew.") from error


def last_whole(path: Path) -> Path | None:
    """The resumable checkpoint, or PREVIOUS where it is missing or damaged; none where there is neither.

    Raises NotARun when all there is is damaged.
    """
    found = [file for file in (path, path.with_name(f"{PREVIOUS}.safetensors")) if file.exists()]
    for number, file in enumerate(found, start=1):
        try:
            position_of(file)
        except NotARun:
            if number == len(found):
                raise
        else:
            return file
    return None


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
        names = [name for name in file.keys() if name.startswith("model.")]  # noqa: SIM118 - not a mapping
        model.load_state_dict({name.removeprefix("model."): file.get_tensor(name) for name in names})


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

"""Phases: what is trained when. In a transfer first the head, on frozen work, then more of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Rate = Annotated[float, Field(ge=0, le=1e3)]

Train = (
    Literal["head", "all"]
    | Annotated[int, Field(strict=True, ge=1)]
    | Annotated[float, Field(strict=True, gt=0, lt=1)]
    | tuple[str, ...]
)
"""See models.layers.Trained."""


Optimizer = Literal["adamw", "adam", "sgd", "muon", "lbfgs"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of a training; what it leaves open is the recipe's."""

    train: Train = "all"
    """'head' alone, 'all', the last N layers (4), a share of the layers counted from the last (0.3), or names of
    layers; the head is always trained. What is before them is computed once and kept."""
    epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Passes over the training images at most; decays tried, with lbfgs."""
    optimizer: Optimizer | None = None
    """As in the recipe; or 'lbfgs' (Liu & Nocedal, 1989) for a head of one linear layer: the best there is for each of
    some decays, from strong to weak, of which validation chooses one."""
    learning_rate: Rate | None = None
    """Of the head, and of layers without a decay."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Each layer below learns at this share of the rate of the one above it."""
    norms: Literal["learn", "keep"] = "learn"
    """Whether batch norms below the head learn new statistics, or keep those they have: of few or uneven images new
    ones are worse. Frozen layers keep theirs always."""
    weight_decay: Rate | None = None
    """As in the recipe; the only one that lbfgs tries."""
    patience: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Epochs without improvement before the phase ends."""


IN_STEPS = Phase(train="head", epochs=60, learning_rate=1e-3, patience=15)
"""A head that is not one linear layer, or for which there is no memory."""

TRANSFER = (
    Phase(train="head", optimizer="lbfgs", epochs=14, patience=3),
    Phase(train=0.3, epochs=10, learning_rate=1e-4, layer_decay=0.9, norms="keep", patience=4),
)
"""For a network that begins with published weights."""

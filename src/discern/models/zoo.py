"""The zoo: every network Discern knows, by name, and the one door to build or restore it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from discern.errors import NotARun, UnknownName
from discern.models.convnet import ConvNet, ConvNetConfig, convnet_from_record, count_on_meta


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A named network."""

    config: ConvNetConfig
    """Its shape."""
    about: str
    """Where it comes from and what it is good for, one sentence."""


# The reference systems are the published projects that the feature table in docs/design.md names.
MODELS: dict[str, ModelEntry] = {
    "simple-cnn": ModelEntry(
        about="For 32-pixel images: two convolutions, no regularisation (reference system A's baseline).",
        config=ConvNetConfig(stages=((32,), (64,)), input_size=32, batch_norm=False, dense=(128,)),
    ),
    "regularized-cnn": ModelEntry(
        about="simple-cnn with batch norm and dropout .5 (reference system A).",
        config=ConvNetConfig(stages=((32,), (64,)), input_size=32, dense=(128,), dropout=0.5),
    ),
    "cnn-basic": ModelEntry(
        about="For photos: eight convolutions, GELU, global max pool (reference system C); slow on a CPU.",
        config=ConvNetConfig(
            stages=((64, 64), (128, 128), (256, 256), (512, 512)),
            input_size=224,
            activation="gelu",
            pool="max",
            dense=(128,),
            dropout=0.5,
        ),
    ),
    "parts-cnn": ModelEntry(
        about="For photos of things: six convolutions, global average pool (reference system D).",
        config=ConvNetConfig(
            stages=((32, 32), (64, 64), (128, 128)), input_size=224, pool="avg", dense=(128,), dropout=0.4
        ),
    ),
    "cifar-cnn": ModelEntry(
        about="For 32-pixel images: five convolutions, dropout throughout (reference system E).",
        config=ConvNetConfig(
            stages=((32, 32), (64, 32), (128,)),
            input_size=32,
            norm_last=True,
            stage_dropout=0.2,
            dense=(256,),
            dropout=0.45,
        ),
    ),
    "cifar-cnn-small": ModelEntry(
        about="For 32-pixel images: two unpadded convolutions (reference system E).",
        config=ConvNetConfig(stages=((32,), (64,)), input_size=32, padding=0, batch_norm=False, dense=(128,)),
    ),
    "mini-cnn": ModelEntry(
        about="A quick first try for photos: five convolutions, global max pool (Discern's own).",
        config=ConvNetConfig(stages=((16,), (32,), (64,), (128,), (256,)), input_size=224, pool="max", dropout=0.2),
    ),
}


def find(name: str) -> ModelEntry:
    """The entry by this name; UnknownName (with the nearest right one) when there is none."""
    if name not in MODELS:
        raise UnknownName("model", name, MODELS)
    return MODELS[name]


def default_size(name: str, *, gpu: bool) -> int:
    """The input size to train the named network at unless another is asked for, pixels.

    Its own, but half of it without a GPU where the network allows: a quarter of the work, so that a first result on a
    few thousand photos takes minutes and not hours.
    """
    config = find(name).config
    adjustable = config.pool != "flatten" and config.input_size > 64
    return config.input_size // 2 if adjustable and not gpu else config.input_size


def build(name: str, *, classes: int, size: int | None = None) -> ConvNet:
    """The named network with fresh weights from torch's generator, for `size` pixels (default: its own)."""
    config = find(name).config
    return ConvNet(config, classes=classes, size=size or config.input_size)


def describe(name: str, *, classes: int, size: int | None = None) -> dict[str, Any]:
    """Name, counts and input size as plain values, without building the weights."""
    entry = find(name)
    size = size or entry.config.input_size
    parameters, keras = count_on_meta(entry.config, classes=classes, size=size)
    return {
        "name": name,
        "parameters": parameters,
        "keras_count": keras,
        "input_size": size,
        "classes": classes,
        "about": entry.about,
        "config": asdict(entry.config),
    }


def restore(record: dict[str, Any], weights: Path) -> ConvNet:
    """The network of a Run's model record with the weights of one of its checkpoints, in inference mode.

    Raises NotARun when the file is missing, damaged or of another network.
    """
    if not weights.exists():
        raise NotARun(f"No checkpoint {weights}: the run has not finished an epoch; train it first.")
    with torch.device("meta"):  # no weights are drawn only to be replaced: the caller's generator is left as it was
        model = convnet_from_record(record)
    model.to_empty(device="cpu")
    try:
        state = load_file(weights)
        model.load_state_dict(
            {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}
        )
    except (SafetensorError, RuntimeError) as error:
        raise NotARun(f"The checkpoint {weights} is damaged or of another network: {error}") from error
    return model.eval()

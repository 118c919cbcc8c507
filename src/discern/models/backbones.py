"""Backbones: published networks from timm, with the weights they were published with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file
from torch import Tensor, nn

from discern.errors import UnknownName, UsageError


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network without its classifier, with the preprocessing it was trained with."""

    name: str
    """timm's name of the architecture."""
    network: nn.Module
    """Takes normalised images, gives one row of features for each; in evaluation mode."""
    size: int
    """Side of the images it was trained with, pixels."""
    fixed_size: bool
    """Whether it takes no other size."""
    mean: tuple[float, float, float]
    """Subtracted from channels in [0, 1]."""
    std: tuple[float, float, float]
    """Divided by."""
    weights: str
    """Digest of the weights, hexadecimal."""
    licence: str | None
    """Of the weights, where their publisher names one."""

    def normalize(self, images: UInt8[Tensor, "b s s 3"]) -> Float[Tensor, "b 3 s s"]:
        """What the network takes."""
        scaled = images.permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(each, device=images.device).view(1, 3, 1, 1) for each in (self.mean, self.std))
        return (scaled - mean) / std


def load_backbone(name: str, weights: str = "auto") -> Backbone:
    """A timm network with pretrained weights.

    `weights` is 'auto' (those timm knows, from its hub or the cache), a folder in timm's layout (config.json and
    model.safetensors), or a safetensors file. Raises UnknownName, or UsageError when the weights are not at hand or
    belong to another network.
    """
    import timm

    if not timm.is_model(name):
        raise UnknownName("backbone", name, timm.list_models())
    folder = Path(weights)
    try:  # with its classifier, which is taken off afterwards: timm is lenient about weights for a network without
        if weights == "auto":
            network = timm.create_model(name, pretrained=True)
        elif folder.is_dir():
            network = timm.create_model(f"local-dir:{folder}", pretrained=True)
        elif folder.suffix == ".safetensors" and folder.is_file():
            network = _with_weights(timm.create_model(name, num_classes=0), folder)
        else:
            raise UsageError(
                f"No weights at {weights}: give a folder with config.json and model.safetensors, or a .safetensors "
                "file."
            )
    except UsageError:
        raise
    except Exception as error:  # timm, its hub and safetensors share no ancestor
        why = " ".join(str(error).split())[:300]
        if weights == "auto":
            raise UsageError(
                f"The weights of {name} could not be fetched ({why}); connect to the network once, or give a copy of "
                "them with --weights PATH."
            ) from error
        raise UsageError(f"{weights} does not hold weights of {name} ({why}); check the file.") from error
    config: dict[str, Any] = dict(network.pretrained_cfg)  # type: ignore[arg-type]
    if folder.is_dir() and config.get("architecture", name) != name:
        raise UsageError(f"{weights} holds weights of {config['architecture']}, not {name}; name that model.")
    network.reset_classifier(0)  # type: ignore[operator]
    return Backbone(
        name=name,
        network=network.eval(),
        size=int(config["input_size"][-1]),
        fixed_size=bool(config.get("fixed_input_size")),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        weights=_digest(network),
        licence=config.get("license"),
    )


def _with_weights(network: nn.Module, file: Path) -> nn.Module:
    """The network with the weights of a bare file, which may or may not have those of a classifier."""
    state = load_file(file)
    unknown = state.keys() - network.state_dict().keys()
    classifier = str(network.pretrained_cfg["classifier"])  # type: ignore[index]
    network.load_state_dict({key: state[key] for key in state if key not in unknown or not key.startswith(classifier)})
    return network


def _digest(network: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for name, values in network.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

"""Backbones: published networks from timm, and the weights they were published with.

Weights are 'auto' (those that timm names, from the hub or its cache), a folder in timm's layout (config.json and
model.safetensors), such a repository on the hub (owner/name), or a file. They fit the network to the last tensor, or
they are refused: nothing is ever left as it was drawn.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from discern import hub
from discern.errors import UnknownName, UsageError
from discern.models.preprocessing import normalized

_PICKLES = (".pth", ".pt", ".bin", ".pkl", ".ckpt", ".tar")

_FREE = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")
"""Licences that allow any use. All others are shown and have to be accepted: some forbid commercial use."""

_OURS = ("num_classes", "in_chans", "global_pool")
"""Arguments of a network that are not taken from a description of its weights."""

_LARGER = 9 / 7  # 288 for 224

_NAMED = 3  # keys in a message, of each kind


@dataclass(frozen=True, kw_only=True)
class Published:
    """Weights that somebody published, and what has to be known to use them. Nothing has been loaded yet."""

    architecture: str
    """timm's name of the network."""
    arguments: Mapping[str, Any]
    """What the network was built with besides its name."""
    size: int
    """Side of the images it was trained with, pixels."""
    fixed_size: bool
    """Whether it takes no other size."""
    mean: tuple[float, float, float]
    """Subtracted from channels in [0, 1]."""
    std: tuple[float, float, float]
    """Divided by."""
    licence: str | None
    """Of the weights, where their publisher names one."""
    file: Path
    """The tensors."""
    source: str
    """Where they come from, for people: a repository or a path."""

    @property
    def best_size(self) -> int:
        """Side of the images to show it, pixels: what it was trained with by about 1.3, a multiple of 32.

        Networks are taught with random crops, in which things are larger than in whole pictures; pictures that are
        larger by as much set that right (Touvron et al., 2019).
        """
        return self.size if self.fixed_size else max(32, round(self.size * _LARGER / 32) * 32)

    @property
    def free(self) -> bool:
        """Whether they may be used for everything."""
        return self.licence is None or self.licence.lower() in _FREE


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network without its classifier, with the preprocessing it was trained with."""

    name: str
    """timm's name of the architecture."""
    network: nn.Module
    """Takes normalised images, gives one row of features for each; in evaluation mode."""
    width: int
    """Features of an image."""
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
        return normalized(images, self.mean, self.std)


def architectures(pattern: str = "*") -> list[str]:
    """Timm's names that a pattern with wildcards fits."""
    import timm

    return fnmatch.filter(timm.list_models(), pattern)


def licence_of(architecture: str) -> str | None:
    """Of the weights that 'auto' takes, as timm notes it."""
    import timm

    config = timm.get_pretrained_cfg(architecture)
    return config.license if config is not None else None


def find_published(architecture: str, weights: str = "auto", *, trust_pickle: bool = False) -> Published:
    """The weights that are meant by a word, fetched if need be.

    Raises UnknownName for an architecture that timm has not, UsageError when the weights are not at hand, belong to
    another architecture, or are a pickle that `trust_pickle` does not allow.
    """
    import timm

    if not timm.is_model(architecture):
        raise UnknownName("backbone", architecture, timm.list_models())
    path = Path(weights)
    if weights == "auto":
        return _from_timm(architecture)
    if path.is_dir():
        return _in_folder(architecture, path, str(path))
    if path.is_file():
        if path.suffix in _PICKLES and not trust_pickle:
            raise UsageError(
                f"{path} is a pickle, which can run whatever code is in it: take weights as .safetensors, or give "
                "--trust-pickle if you trust where it is from (only tensors are read from it)."
            )
        if path.suffix not in (*_PICKLES, ".safetensors"):
            raise UsageError(_no_weights(weights))
        if path.with_name("config.json").is_file():
            return _described(architecture, path.with_name("config.json"), path, str(path))
        known = _known_as(architecture, timm.get_pretrained_cfg(architecture), path, str(path))
        return replace(known, licence=None)  # timm knows that of its own weights
    if weights.count("/") == 1 and not weights.startswith((".", "/", "~")) and not path.suffix:
        return _in_folder(
            architecture, _fetched(weights, "config.json", "model.safetensors", of_user=True).parent, weights
        )
    raise UsageError(_no_weights(weights))


def load_backbone(name: str, weights: str = "auto", *, trust_pickle: bool = False) -> Backbone:
    """A timm network with published weights; raises what `find_published` and `load_weights` raise."""
    import timm

    published = find_published(name, weights, trust_pickle=trust_pickle)
    network = timm.create_model(name, num_classes=0, **published.arguments)
    load_weights(network, published)
    return Backbone(
        name=name,
        network=network.eval(),
        width=int(network.head_hidden_size),  # type: ignore[arg-type]
        size=published.size,
        fixed_size=published.fixed_size,
        mean=published.mean,
        std=published.std,
        weights=digest_of(network),
        licence=published.licence,
    )


def load_weights(network: nn.Module, published: Published, *, without: tuple[str, ...] = ()) -> None:
    """Put published weights into a timm network; those of a classifier, or of layers it is `without`, are left out.

    Raises UsageError when the file is damaged, or holds other tensors than the network has.
    """
    state = _tensors(published)
    wanted = network.state_dict()
    left_out = (*_classifier(network), *(f"{name}." for name in without))
    missing = [key for key in wanted if key not in state]
    strange = [key for key in state if key not in wanted and not key.startswith(left_out)]
    other = [key for key in wanted if key in state and state[key].shape != wanted[key].shape]
    if missing or strange or other:
        told = [("misses", missing), ("does not know", strange), ("has in another shape", other)]
        differs = "; ".join(f"it {word} {_some(keys)}" for word, keys in told if keys)
        raise UsageError(
            f"{published.source} does not hold weights of {published.architecture} ({differs}); name the model they "
            "are of."
        )
    network.load_state_dict({key: state[key] for key in wanted})


def digest_of(network: nn.Module) -> str:
    """Of all weights and buffers, hexadecimal."""
    digest = hashlib.blake2b(digest_size=12)
    for name, values in network.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _from_timm(architecture: str) -> Published:
    import timm

    config = timm.get_pretrained_cfg(architecture)
    if config is None or not config.hf_hub_id:
        known = "no weights" if config is None or not config.url else f"weights at {config.url} only"
        raise UsageError(
            f"timm knows {known} for {architecture}: get some and name them with --weights PATH, or take --weights "
            "none, which begins from scratch."
        )
    return _known_as(architecture, config, _fetched(config.hf_hub_id, "model.safetensors"), config.hf_hub_id)


_NOT_HERE = "no folder here has that name either: "


def _fetched(repository: str, *files: str, of_user: bool = False) -> Path:
    """The last of the files, once all are there."""
    try:
        return [hub.fetched(repository, file) for file in files][-1]
    except Exception as error:  # the hub's client raises all kinds, and none of them has a common ancestor
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(
            f"The weights {repository} could not be fetched ({reason}); {_NOT_HERE if of_user else ''}connect to the "
            "network once, give a copy of them with --weights PATH, or begin from scratch with --weights none."
        ) from error


def _in_folder(architecture: str, folder: Path, source: str) -> Published:
    """What timm's config.json says: the architecture, its arguments, and the preprocessing."""
    file, told = folder / "model.safetensors", folder / "config.json"
    if not file.is_file() or not told.is_file():
        raise UsageError(_no_weights(source))
    return _described(architecture, told, file, source)


def _described(architecture: str, told: Path, file: Path, source: str) -> Published:
    """Weights with timm's description of them."""
    try:
        record = json.loads(told.read_text(encoding="utf-8"))
        config, of = record.get("pretrained_cfg", record), record["architecture"]
        arguments = {key: value for key, value in record.get("model_args", {}).items() if key not in _OURS}
        published = _published(architecture, config, arguments, file, source)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{told} does not describe weights of {architecture} ({type(error).__name__}: {error}); check the file."
        ) from error
    if of != architecture.partition(".")[0]:
        raise UsageError(f"{source} holds weights of {of}, not {architecture}; name that model.")
    return published


def _known_as(architecture: str, config: Any, file: Path, source: str) -> Published:
    """Weights that come without a description of their own are taken to be like those that timm knows."""
    return _published(architecture, config.to_dict(), {}, file, source)


def _published(
    architecture: str, config: Mapping[str, Any], arguments: Mapping[str, Any], file: Path, source: str
) -> Published:
    mean, std = config["mean"], config["std"]
    return Published(
        architecture=architecture,
        arguments=dict(arguments),
        size=int(config["input_size"][-1]),
        fixed_size=bool(config.get("fixed_input_size")),
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        licence=config.get("license"),
        file=file,
        source=source,
    )


def _tensors(published: Published) -> dict[str, Tensor]:
    """What is in the file; nothing in it is run."""
    try:
        if published.file.suffix == ".safetensors":
            with safe_open(published.file, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        found = torch.load(published.file, map_location="cpu", weights_only=True)
        for key in ("state_dict", "model"):  # as training scripts wrap them
            found = found.get(key, found) if isinstance(found, Mapping) else found
        return {str(key).removeprefix("module."): value for key, value in found.items() if isinstance(value, Tensor)}
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError, AttributeError, LookupError) as error:
        why = " ".join(str(error).split())[:200]
        raise UsageError(f"{published.file} is damaged or holds no weights ({why}); get it again.") from error
    except Exception as error:  # pickle's own errors
        why = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UsageError(f"{published.file} holds more than tensors, and is not read ({why}).") from error


def _classifier(network: nn.Module) -> tuple[str, ...]:
    """Where timm keeps the layers that its own classes have."""
    names = network.pretrained_cfg.get("classifier") or ()  # type: ignore[union-attr, operator]
    names = (names,) if isinstance(names, str) else names
    beside = [name.rpartition(".")[0] for name in names]  # some heads have a norm that goes with their classifier
    return tuple(f"{name}." for name in (*names, *beside) if name)


def _some(keys: list[str]) -> str:
    named = ", ".join(keys[:_NAMED])
    return f"{named} and {len(keys) - _NAMED:,} more" if len(keys) > _NAMED else named


def _no_weights(weights: str) -> str:
    return (
        f"No weights at {weights}: give a folder with config.json and model.safetensors, a .safetensors file, the "
        "name of such a repository on the hub (owner/name), or none."
    )

"""The zoo: every network Discern knows, by name, and the one door to build or restore it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from discern.errors import NotARun, UnknownName
from discern.models.backbones import Published, find_published, load_backbone
from discern.models.configuration import changed, configuration, options
from discern.models.convnet import ConvNet, ConvNetConfig, FlexibleConfig
from discern.models.fastnet import FastNet, FastNetConfig
from discern.models.network import Network, keras_count, parameter_count, trainable_count
from discern.models.published import PublishedConfig, PublishedNet
from discern.models.resnet import ResNet, ResNetConfig
from discern.models.vgg import VGG, VGGConfig

NetworkConfig = ConvNetConfig | FlexibleConfig | VGGConfig | ResNetConfig | FastNetConfig | PublishedConfig

FAMILIES: dict[str, type[ConvNetConfig | VGGConfig | ResNetConfig | FastNetConfig | PublishedConfig]] = {
    ConvNet.family: ConvNetConfig,
    VGG.family: VGGConfig,
    ResNet.family: ResNetConfig,
    FastNet.family: FastNetConfig,
    PublishedNet.family: PublishedConfig,
}
"""What the records of each family spell out."""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A named network."""

    config: NetworkConfig
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
    "flexible-cnn": ModelEntry(
        about="For photos: five convolutions, each with its pool; most options (reference system B).",
        config=FlexibleConfig(filters=(64,) * 5, input_size=224),
    ),
    "resnet18-scratch": ModelEntry(
        about="For photos: ResNet-18 (reference system C).",
        config=ResNetConfig(),
    ),
    "vgg19-c": ModelEntry(
        about="For photos: VGG19 with batch norm in its head (reference system C); a GPU's work.",
        config=VGGConfig(),
    ),
    "vgg19-adapted": ModelEntry(
        about="vgg19-c with a narrowing head, GELU (reference system C).",
        config=VGGConfig(dense=(4096, 1024, 512), activation="gelu"),
    ),
    "custom-vgg": ModelEntry(
        about="For photos: VGG19 up to conv4_4, five convolutions more, global max pool (reference system C).",
        config=VGGConfig(
            split="conv4_4",
            convolutions=((128, 1), (128, 3), (512, 1), (1024, 1), (1024, 3)),
            pool="max",
            dense=(1024, 512, 256),
            activation="gelu",
            dropout=0.0,
        ),
    ),
    "efficientnetv2-b0-d": ModelEntry(
        about="For photos: EfficientNetV2-B0 under a dense layer of 128 (reference system D).",
        config=PublishedConfig(architecture="tf_efficientnetv2_b0", pool="avg", neck=False, dense=(128,), dropout=0.3),
    ),
    "mobilenetv3-small-d": ModelEntry(
        about="For photos, quick on a CPU: MobileNetV3-Small under a dense layer of 128 (reference system D).",
        config=PublishedConfig(
            architecture="tf_mobilenetv3_small_100", pool="avg", neck=False, dense=(128,), dropout=0.3
        ),
    ),
    "efficientnetv2-b0": ModelEntry(
        about="Published, for photos: EfficientNetV2-B0, accurate for its size.",
        config=PublishedConfig(
            architecture="tf_efficientnetv2_b0", input_size=192, weights="auto", pool="auto", dropout=0.2
        ),
    ),
    "mobilenetv2": ModelEntry(
        about="Published, for photos: MobileNetV2, quick on a CPU.",
        config=PublishedConfig(architecture="mobilenetv2_100", weights="auto", pool="auto", dropout=0.2),
    ),
    "mobilenetv3-small": ModelEntry(
        about="Published, for photos: MobileNetV3-Small, the quickest on a CPU.",
        config=PublishedConfig(architecture="mobilenetv3_small_100", weights="auto", pool="auto", dropout=0.2),
    ),
    "convnext-tiny": ModelEntry(
        about="Published, for photos: ConvNeXt-Tiny; a GPU's work.",
        config=PublishedConfig(architecture="convnext_tiny", weights="auto", pool="auto", dropout=0.2),
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
    "fast-cnn": ModelEntry(
        about="For 32-pixel images, learns in few steps: whitened inputs, three groups (Discern's own).",
        config=FastNetConfig(),
    ),
    "mini-cnn": ModelEntry(
        about="A quick first try for photos: five convolutions, global max pool (Discern's own).",
        config=ConvNetConfig(stages=((16,), (32,), (64,), (128,), (256,)), input_size=224, pool="max", dropout=0.2),
    ),
}


def find(name: str) -> ModelEntry:
    """The entry by this name, or timm's network of it; UnknownName (with the nearest right one) when there is none."""
    if name in MODELS:
        return MODELS[name]
    import timm

    if not timm.is_model(name):
        known = [*MODELS, *timm.list_models()]
        raise UnknownName("model", name, known if difflib.get_close_matches(name, known, cutoff=0.5) else MODELS)
    try:
        own = timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # of a tag
        plain, _, tag = name.partition(".")
        tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{plain}.*")]
        raise UnknownName(f"weights of {plain}", tag, tags) from error
    size = int(own.input_size[-1]) if own is not None else 224
    config = PublishedConfig(architecture=name, input_size=size, weights="auto", pool="auto", dropout=0.2)
    return ModelEntry(about="A published network from timm, with its weights.", config=config)


def configured(name: str, changes: Mapping[str, Any] | None = None, *, place: str = "the changes") -> NetworkConfig:
    """The named network's configuration with some options replaced; `place` says in errors where they came from.

    Raises UnknownName for a name or an option that does not exist, UsageError for a value that is not possible.
    """
    return changed(find(name).config, changes or {}, place=place)


def checked(name: str, changes: Mapping[str, Any], *, place: str) -> dict[str, Any]:
    """Changes to the named network as plain values in their right types; raises what `configured` raises."""
    values = options(configured(name, changes, place=place))
    return {key: values[key] for key in changes}


def default_size(name: str, *, gpu: bool, changes: Mapping[str, Any] | None = None) -> int:
    """The input size to train the named network at unless another is asked for, pixels.

    Its own, but half of it without a GPU where the network allows: a quarter of the work, so that a first result on a
    few thousand photos takes minutes and not hours.
    """
    config = configured(name, changes)
    adjustable = config.any_size and config.input_size > 64
    return config.input_size // 2 if adjustable and not gpu else config.input_size


def build(
    name: str,
    *,
    classes: int,
    size: int | None = None,
    changes: Mapping[str, Any] | None = None,
    published: Published | None = None,
) -> Network:
    """The named network, with `changes` to its options, for `size` pixels (default: its own).

    Its weights are fresh from torch's generator; where its option `weights` asks for published ones it begins with
    those, found by `published_for` unless given, and raises what that raises.
    """
    config = configured(name, changes)
    published = published or published_for(name, changes)
    if published is not None and isinstance(config, PublishedConfig):
        config = replace(config, arguments=published.arguments)
    network = config.build(classes=classes, size=size or config.input_size)
    if published is not None and isinstance(network, PublishedNet):
        network.load_published(published)
    if published is not None and isinstance(network, VGG):
        whole = load_backbone(published.architecture, str(published.file), trust_pickle=True)  # asked for before
        network.load_published(whole.network.state_dict())
    return network


def published_for(
    name: str, changes: Mapping[str, Any] | None = None, *, trust_pickle: bool = False
) -> Published | None:
    """The weights that the named network begins with; none for one that begins from scratch.

    Raises UsageError when they are not at hand or of another network.
    """
    config = configured(name, changes)
    if not isinstance(config, VGGConfig | PublishedConfig) or config.weights == "none":
        return None
    return find_published(config.architecture, config.weights, trust_pickle=trust_pickle)


def outline(name: str, *, classes: int, size: int | None = None, changes: Mapping[str, Any] | None = None) -> Network:
    """The named network without memory for its weights: to count, not to run."""
    config = configured(name, changes)
    with torch.device("meta"):
        return config.build(classes=classes, size=size or config.input_size)


def describe(
    name: str, *, classes: int, size: int | None = None, changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Name, counts and input size as plain values, without building the weights."""
    config = configured(name, changes)
    network = outline(name, classes=classes, size=size, changes=changes)
    return {
        "name": name,
        "family": network.family,
        "weights": _weights(config),
        "parameters": parameter_count(network),
        "trainable": trainable_count(network),
        "keras_count": keras_count(network),
        "input_size": network.size,
        "classes": classes,
        "about": find(name).about,
        "config": options(config),
    }


def _weights(config: NetworkConfig) -> str:
    """How the network begins, in words."""
    if not isinstance(config, VGGConfig | PublishedConfig):
        return "scratch"
    return "scratch or published" if config.weights == "none" else "published"


def from_record(record: dict[str, Any]) -> Network:
    """The network that `Network.record` described, untrained; published weights that it names are not fetched.

    Raises NotARun for a family of networks that another version of Discern may know.
    """
    family = record.get("family", ConvNet.family)  # records of before there were families are ConvNets'
    if family not in FAMILIES:
        raise NotARun(
            f"The run's network is of the family '{family}', which this Discern does not know; use the version that "
            "trained it."
        )
    config = configuration(FAMILIES[family], record["config"])
    return config.build(classes=record["classes"], size=record["size"])


def restore(record: dict[str, Any], weights: Path) -> Network:
    """The network of a Run's model record with the weights of one of its checkpoints, in inference mode.

    Raises NotARun when the file is missing, damaged or of another network.
    """
    if not weights.exists():
        raise NotARun(f"No checkpoint {weights}: the run has not finished an epoch; train it first.")
    with torch.random.fork_rng():  # weights are drawn only to be replaced, but not what no checkpoint holds
        model = from_record(record)
    try:
        state = load_file(weights)
        model.load_state_dict(
            {key.removeprefix("model."): value for key, value in state.items() if key.startswith("model.")}
        )
    except (SafetensorError, RuntimeError) as error:
        raise NotARun(f"The checkpoint {weights} is damaged or of another network: {error}") from error
    return model.eval()

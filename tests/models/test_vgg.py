from itertools import pairwise

import pytest
import torch
import torchvision
from torch import nn

from discern.errors import UsageError
from discern.models import zoo
from discern.models.vgg import VGG, VGGConfig


def on_meta(name, **changes):
    with torch.device("meta"):
        return zoo.build(name, classes=3, changes=changes)


def small(**options):
    return VGG(VGGConfig(dense=(8,), **options), classes=3, size=32)


def words(layers):
    return [
        {
            nn.Conv2d: lambda m: f"conv {m.in_channels}-{m.out_channels} k{m.kernel_size[0]}",
            nn.Linear: lambda m: f"linear {m.in_features}-{m.out_features}",
            nn.BatchNorm1d: lambda m: f"bn {m.num_features}",
            nn.Dropout: lambda m: f"drop {m.p}",
            nn.AdaptiveAvgPool2d: lambda m: f"average {m.output_size}",
            nn.AdaptiveMaxPool2d: lambda m: f"maximum {m.output_size}",
        }.get(type(layer), lambda m: type(m).__name__.lower())(layer)
        for layer in layers
    ]


def hidden(*widths, activation, drop=True):
    found = []
    for inputs, outputs in pairwise(widths):
        found += [f"linear {inputs}-{outputs}", activation, f"bn {outputs}", *["drop 0.1"] * drop]
    return found


# What system C's own code builds: linear, activation, batch norm, dropout.
HEADS = {
    "vgg19-c": [
        *["maxpool2d", "average 7", "flatten"],
        *hidden(25088, 4096, 4096, activation="relu"),
        "linear 4096-3",
    ],
    "vgg19-adapted": [
        *["maxpool2d", "average 7", "flatten"],
        *hidden(25088, 4096, 1024, 512, activation="gelu"),
        "linear 512-3",
    ],
    "custom-vgg": [
        *["maximum 1", "flatten"],
        *hidden(1024, 1024, 512, 256, activation="gelu", drop=False),
        "linear 256-3",
    ],
}


@pytest.mark.parametrize("name", HEADS)
def test_the_heads_have_their_authors_layers_in_their_order(name):
    assert words(on_meta(name).head) == HEADS[name]


def test_custom_vgg_goes_on_from_conv4_4_with_its_own_convolutions():
    features = on_meta("custom-vgg").features
    assert words(features.own) == [
        word for conv in ("512-128 k1", "128-128 k3", "128-512 k1", "512-1024 k1", "1024-1024 k3")
        for word in (f"conv {conv}", "gelu")
    ]  # fmt: skip
    images = torch.empty(1, 3, 224, 224, device="meta")
    assert features.published(images).shape == (1, 512, 28, 28)
    assert features(images).shape == (1, 1024, 28, 28)
    assert words(features.published)[-2:] == ["conv 512-512 k3", "relu"]
    assert sum(isinstance(layer, nn.Conv2d) for layer in features.published) == 2 + 2 + 4 + 4


@pytest.mark.parametrize("name", ["vgg19-c", "vgg19-adapted"])
def test_the_heat_map_is_taken_before_the_last_pool(name):
    assert on_meta(name).forward_features(torch.empty(1, 3, 224, 224, device="meta")).shape == (1, 512, 14, 14)


@pytest.fixture(scope="module")
def published():
    """The published network: architecture and names of torchvision, weights at random."""
    torch.manual_seed(5)
    reference = torchvision.models.vgg19().features.eval()
    return reference, {f"features.{name}": value for name, value in reference.state_dict().items()}


def test_published_features_give_what_the_published_network_gives(published):
    reference, state = published
    network, images = small().eval(), torch.randn(2, 3, 48, 48)
    network.load_published({**state, "classifier.0.weight": torch.zeros(1)})
    with torch.no_grad():
        assert torch.equal(network.head[0](network.forward_features(images)), reference(images))


@pytest.mark.parametrize(("split", "layers"), [("conv1_1", 2), ("conv2_2", 9), ("conv4_4", 27), ("conv5_1", 30)])
def test_a_split_is_the_published_network_up_to_that_relu(published, split, layers):
    reference, state = published
    network, images = small(split=split).eval(), torch.randn(1, 3, 32, 32)
    network.load_published(state)
    with torch.no_grad():
        assert torch.equal(network.forward_features(images), reference[:layers](images))


def test_published_weights_stay_and_all_else_learns():
    network = small(split="conv1_2", convolutions=((6, 3),), pool="max", weights="auto").train()
    frozen = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {f"features.published.{n}.{kind}" for n in (0, 2) for kind in ("weight", "bias")}
    before = {name: p.clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.1)
    network(torch.randn(4, 3, 32, 32)).square().sum().backward()
    optimizer.step()
    assert {name for name, p in network.named_parameters() if torch.equal(p, before[name])} == frozen


@pytest.mark.parametrize("name", HEADS)
def test_without_published_weights_everything_learns(name):
    described = zoo.describe(name, classes=3)
    assert described["trainable"] == described["parameters"]
    pretrained = zoo.describe(name, classes=3, changes={"weights": "auto"})
    features = {"vgg19-c": 20_024_384, "vgg19-adapted": 20_024_384, "custom-vgg": 10_585_152}[name]
    assert pretrained["parameters"] - pretrained["trainable"] == features
    assert (described["weights"], pretrained["weights"]) == ("scratch or published", "published")


def test_from_scratch_the_signal_reaches_the_end():
    torch.manual_seed(0)
    spread = small().forward_features(torch.randn(4, 3, 64, 64)).std()
    assert 0.05 < spread < 5, "after sixteen convolutions the maps have vanished or exploded"


@pytest.mark.parametrize(("split", "pool", "least"), [("conv5_4", "grid", 32), ("conv4_4", "max", 8)])
def test_too_small_a_size_is_refused_with_a_sentence(split, pool, least):
    config = VGGConfig(split=split, pool=pool, dense=(4,))
    assert config.build(classes=2, size=least).eval()(torch.randn(1, 3, least, least)).shape == (1, 2)
    with pytest.raises(UsageError, match=f"Images of {least - 1} pixels are too small .* at least {least} pixels"):
        config.build(classes=2, size=least - 1)

"""Layers of a network: their order, and which of them are meant by a word, a number, a share or names."""

import pytest
import torch

from discern.errors import UnknownName, UsageError
from discern.models import zoo
from discern.models.layers import layers, trained

NETWORKS = {
    "mini-cnn": 10,  # a convolution and its batch norm are two
    "resnet18-scratch": 10,
    "custom-vgg": 17,
    "fast-cnn": 13,
    "test_resnet": 5,
    "test_efficientnet": 6,
    "test_convnext": 11,
    "test_mambaout": 8,
    "test_vit3": 11,
    "mobilenetv3_small_050": 14,
    "poolformer_s12": 6,  # timm does not say what its layers are
}
"""Name -> number of layers below the head."""


def network(name, **changes):
    with torch.device("meta"):
        return zoo.build(name, classes=3, changes={**({} if name in zoo.MODELS else {"weights": "none"}), **changes})


def begins(names):
    """The layers that these parameters are of, in timm's ResNets."""
    return {".".join(name.split(".")[:2]) for name in names}


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_are_all_parameters_below_the_head_from_input_to_output(name):
    found, model = layers(network(name)), network(name)
    assert len(found) == NETWORKS[name]
    assert all(found), "a layer has parameters"
    in_order = [key for key, _ in model.named_parameters() if key.startswith("features.")]
    assert [key for layer in found for key in layer] == in_order


def test_a_layer_of_timms_is_a_block():
    found = layers(network("test_resnet", dense=[8]))
    assert [begins(layer) for layer in found] == [
        {"features.conv1", "features.bn1"},
        *({f"features.layer{number}"} for number in (1, 2, 3, 4)),
    ]


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("head", []),
        (1, ["layer4"]),
        (3, ["layer2", "layer3", "layer4"]),
        (5, ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]),
        (0.4, ["layer3", "layer4"]),
        (0.05, ["layer4"]),  # a share is one layer at least
        (0.99, ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]),
        (("layer1",), ["layer1"]),
        (("conv1", "layer3"), ["conv1", "layer3"]),
        (("features.layer2",), ["layer2"]),
        (("features",), ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]),
        (("head",), []),
        ("all", ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]),
    ],
)
def test_what_is_trained_besides_the_head(what, expected):
    model = network("test_resnet", dense=[8])
    found = trained(model, what)
    head = {name for name, _ in model.named_parameters() if name.startswith("head.")}
    assert len(head) == 4
    assert head <= found
    assert begins(found - head) == {f"features.{name}" for name in expected}
    whole = {name for name, _ in model.named_parameters() if name.split(".")[1] in expected}
    assert found - head == whole, "a layer is trained as a whole"


def test_a_name_is_that_of_a_layer_and_no_mere_beginning():
    found = trained(network("mini-cnn"), ("1",))
    assert {name for name in found if name.startswith("features.")} == {"features.1.weight", "features.1.bias"}


def test_a_single_parameter_can_be_named():
    assert "features.layer4.0.conv1.weight" in trained(network("test_resnet"), ("layer4.0.conv1.weight",))


def test_more_layers_than_there_are():
    with pytest.raises(UsageError, match="train = 6 is too much: the network has 5 layers below its head"):
        trained(network("test_resnet"), 6)


@pytest.mark.parametrize(("name", "nearest"), [("layr4", "layer4"), ("layer3.0.con1", "layer3.0.conv1")])
def test_an_unknown_layer_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(UnknownName, match=f"Unknown layer '{name}' in phases: did you mean '{nearest}'"):
        trained(network("test_resnet"), ("layer1", name))

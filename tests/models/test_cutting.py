"""A network cut where training begins: both parts together are the network, and they share what they are made of."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from discern.models import zoo
from discern.models.cutting import cut, folded, inference_norms, shapes
from discern.models.layers import layers, trained
from discern.models.network import parameter_count
from discern.models.published import PublishedConfig

SIZES = {
    "mini-cnn": 64,
    "regularized-cnn": 32,
    "resnet18-scratch": 64,
    "test_resnet": 64,
    "test_efficientnet": 64,
    "test_convnext": 64,
    "test_mambaout": 64,
    "test_vit3": 160,
    "mobilenetv3_small_050": 64,
}
"""Networks of many kinds, each with a size that is large enough for it."""


def settled_network(name, **changes):
    """The network in inference mode; its batch norms have seen images, so that they do something."""
    torch.manual_seed(0)
    published = {} if name in zoo.MODELS else {"weights": "none"}
    network = zoo.build(name, classes=3, size=SIZES.get(name, 160), changes={**published, **changes})
    network.train()(images(network, 4))
    return network.eval()


def images(network, count=2):
    return torch.randn(count, 3, network.size, network.size)


def state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(network, before):
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("what", ["head", 2, 0.5])
@pytest.mark.parametrize("name", SIZES)
@torch.no_grad()
def test_the_parts_one_after_the_other_are_the_network(name, what):
    network = settled_network(name)
    if name == "test_vit3" and what != "head":
        what = 4  # its last two layers are the pool's, which hand on sizes
    found, inputs = cut(network, trained(network, what)), images(network, 3)
    crossing = found.frozen(inputs)
    assert torch.equal(found.tail.eval()(crossing), network(inputs))
    assert shapes(found.frozen, network.size) == [tuple(each.shape[1:]) for each in crossing]
    assert 0 < parameter_count(found.tail) < parameter_count(network)
    assert not network.training


def test_the_cut_is_right_before_the_first_trained_layer():
    network = settled_network("test_resnet")
    for count in range(1, 5):
        names = trained(network, count)
        found = cut(network, names)
        trained_ones = {id(p) for name, p in network.named_parameters() if name in names}
        assert {id(p) for p in found.tail.parameters()} == trained_ones, "the tail holds just what is trained"


def test_a_layer_in_the_middle_has_all_that_follows_it_behind_the_cut():
    network = settled_network("test_efficientnet")
    names = [name for name, _ in network.named_parameters() if name.startswith("features.blocks.1.")]
    found = cut(network, names)
    behind = {id(p) for p in found.tail.parameters()}
    before = [name for name, p in network.named_parameters() if id(p) not in behind]
    assert {name.split(".")[1] for name in before} == {"conv_stem", "bn1", "blocks"}
    assert all(name.startswith("features.blocks.0.") for name in before if ".blocks." in name)
    inputs = images(network)
    with torch.no_grad():
        assert torch.equal(found.tail.eval()(found.frozen(inputs)), network(inputs))


def test_a_bias_alone_can_be_trained():
    network = settled_network("test_resnet")
    found, inputs = cut(network, ["features.layer4.0.bn2.bias"]), images(network)
    behind, bn2 = {id(p) for p in found.tail.parameters()}, network.features.layer4[0].bn2
    assert {id(p) for p in bn2.parameters()} <= behind
    assert id(network.features.layer4[0].conv2.weight) not in behind
    with torch.no_grad():
        assert torch.equal(found.tail.eval()(found.frozen(inputs)), network(inputs))


@pytest.mark.parametrize("name", ["mini-cnn", "test_resnet", "test_mambaout"])
def test_nothing_is_before_the_cut_when_everything_is_trained(name):
    network = settled_network(name)
    assert cut(network, trained(network, "all")) is None
    assert cut(network, trained(network, len(layers(network)))) is None


def test_a_network_that_cannot_be_cut_there_stays_whole():
    network = settled_network("test_vit3")  # hands on sizes besides the map, and has no rows of images to keep
    assert cut(network, trained(network, 1)) is None
    assert network(images(network)).shape == (2, 3)


@torch.no_grad()
def test_a_network_that_cannot_be_followed_is_cut_at_its_head():
    network = settled_network("test_vit")  # looks at its images' sides to decide what to do
    assert cut(network, trained(network, 1)) is None
    found, inputs = cut(network, trained(network, "head")), images(network)
    assert torch.equal(found.tail.eval()(folded(found.frozen)(inputs)), network(inputs))


@torch.no_grad()
def test_windows_of_images_are_no_rows():
    small = {"embed_dim": 12, "depths": (1, 1, 1, 2), "num_heads": (1, 1, 1, 1)}
    config = PublishedConfig(architecture="swin_tiny_patch4_window7_224", arguments=small)
    network = config.build(classes=3, size=224).eval()
    assert cut(network, trained(network, 1)) is None
    found, inputs = cut(network, trained(network, 2)), images(network, 3)
    assert torch.equal(found.tail.eval()(found.frozen(inputs)), network(inputs))


def test_a_network_that_remembers_what_it_was_given_is_cut_again_and_still_works():
    with torch.device("meta"):
        network = zoo.build("levit_128s", classes=3, changes={"weights": "none"}).eval()
        first, second = (cut(network, trained(network, "head")) for _ in range(2))
        assert first.place == second.place
        assert network(images(network)).shape == (2, 3)


@pytest.mark.parametrize("what", ["head", 2])
def test_a_step_of_the_tail_is_a_step_of_the_network(what):
    network = settled_network("test_efficientnet")
    names, before, inputs = trained(network, what), state(network), images(network, 4)
    found = cut(network, names)
    optimizer = torch.optim.SGD(found.tail.parameters(), lr=0.1)
    with torch.no_grad():
        crossing = found.frozen(inputs)
    found.tail.train()(crossing).square().sum().backward()
    optimizer.step()
    moved, parameters = changed(network, before), {name for name, _ in network.named_parameters()}
    assert moved & parameters == names
    layers_of_statistics = {name.rpartition(".")[0] for name in moved - parameters}
    assert layers_of_statistics == {name.rpartition(".")[0] for name in names if ".bn" in name}
    network.eval()
    with torch.no_grad():
        assert torch.equal(found.tail(crossing), network(inputs))


@pytest.mark.parametrize("name", ["test_resnet", "regularized-cnn"])
def test_the_dropout_of_the_head_is_behind_the_cut(name):
    network = settled_network(name, dropout=0.5)
    found = cut(network, trained(network, "head"))
    assert not [layer for layer in found.frozen.modules() if isinstance(layer, nn.Dropout) and layer.p]
    crossing = found.frozen(images(network))
    found.tail.train()
    assert not torch.equal(found.tail(crossing), found.tail(crossing))
    found.tail.eval()
    assert torch.equal(found.tail(crossing), found.tail(crossing))


@pytest.mark.parametrize(("what", "changes"), [(2, {}), ("head", {"dense": [8], "batch_norm": True})])
def test_a_tail_in_training_takes_a_batch_of_one_image(what, changes):
    network = settled_network("test_resnet", **changes)
    found = cut(network, trained(network, what))
    before = {name: value.clone() for name, value in network.named_buffers()}
    loss = found.tail.train()(found.frozen(images(network, 1))).square().sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.equal(before[name], value) for name, value in network.named_buffers())
    assert all(layer.training for layer in found.tail.modules())


@pytest.mark.parametrize("name", ["mini-cnn", "resnet18-scratch", "test_resnet", "test_efficientnet"])
@torch.no_grad()
def test_a_folded_part_has_no_batch_norm_and_gives_the_same(name):
    network = settled_network(name)
    before, inputs = state(network), images(network)
    found = cut(network, trained(network, 2))
    quick = folded(found.frozen)
    assert any(isinstance(layer, _BatchNorm) for layer in found.frozen.modules()), "the part itself stays as it was"
    assert not any(isinstance(layer, _BatchNorm) for layer in quick.modules())
    for ours, plain in zip(quick(inputs), found.frozen(inputs), strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    assert not changed(network, before)


@torch.no_grad()
def test_a_batch_norm_that_follows_no_convolution_is_not_folded():
    torch.manual_seed(0)
    network = zoo.build("cifar-cnn", classes=3)  # activations stand between its convolutions and their norms
    network.train()(images(network, 4))
    part = cut(network.eval(), trained(network, "head")).frozen
    quick, inputs = folded(part), images(network)
    assert len([layer for layer in quick.modules() if isinstance(layer, _BatchNorm)]) == 5
    assert torch.equal(quick(inputs)[0], part(inputs)[0])


def test_batch_norms_that_do_not_learn_keep_their_statistics():
    network = settled_network("test_resnet", dense=[8], batch_norm=True)
    before = state(network)
    network.train()
    inference_norms(network, trained(network, "head"))
    network(images(network, 4))
    assert {name for name in changed(network, before) if "running" in name} == {
        "head.1.running_mean",
        "head.1.running_var",
    }
    network.train()
    inference_norms(network, trained(network, 1))
    network(images(network, 4))
    assert {name.split(".")[1] for name in changed(network, before) if "running" in name} == {"layer4", "1"}


def test_the_norms_of_a_tail_are_those_of_its_network():
    network = settled_network("test_resnet")
    found, before = cut(network, trained(network, 2)), state(network)
    found.tail.train()
    inference_norms(network, frozenset())
    found.tail(found.frozen(images(network, 4)))
    assert not changed(network, before)


def test_every_cut_of_a_network_tells_where_it_is():
    network = settled_network("test_efficientnet")
    places = [cut(network, trained(network, what)).place for what in ("head", 1, 2, 3, 4)]
    assert all(first != second for first, second in itertools.pairwise(places))

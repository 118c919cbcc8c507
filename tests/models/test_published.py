"""PublishedNet: the architecture as it was published, a pool of one's choice, and a head of one's own."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from discern.errors import UnknownName, UsageError
from discern.models import zoo
from discern.models.published import PublishedConfig

SYSTEM_D = {"efficientnetv2-b0-d": "tf_efficientnetv2_b0", "mobilenetv3-small-d": "tf_mobilenetv3_small_100"}

POOLS = {
    "avg": lambda maps: maps.mean((2, 3)),
    "max": lambda maps: maps.max((2, 3)),
    "concat": lambda maps: np.concatenate([maps.mean((2, 3)), maps.max((2, 3))], axis=1),
    "gem": lambda maps: np.cbrt((np.maximum(maps, 1e-6) ** 3).mean((2, 3))),
}


def built(architecture, *, size=64, **changes):
    """In inference mode; its batch norms have seen images."""
    torch.manual_seed(0)
    model = zoo.build(architecture, classes=3, size=size, changes={"weights": "none", **changes})
    model.train()(torch.randn(4, 3, size, size))
    return model.eval()


def begun_with(name, changes, *, classes=3, size=64):
    """As a training builds it: with the weights that its changes name."""
    return zoo.build(
        name, classes=classes, size=size, changes=changes, published=zoo.published_for(name, changes)
    ).eval()


def saved(folder, architecture, seed=0):
    """The whole network, and the file its weights are in."""
    torch.manual_seed(seed)
    reference = timm.create_model(architecture)
    reference.train()(torch.randn(4, 3, 64, 64))
    save_file(reference.state_dict(), folder / "weights.safetensors")
    return reference.eval(), str(folder / "weights.safetensors")


@pytest.mark.parametrize(("name", "width"), [("efficientnetv2-b0-d", 1280), ("mobilenetv3-small-d", 576)])
def test_system_ds_heads_have_their_authors_layers_in_their_order(name, width):
    with torch.device("meta"):
        dense, activation, dropout, last = zoo.build(name, classes=5).head
    assert (type(activation), dropout.p) == (nn.ReLU, 0.3)
    assert (dense.in_features, dense.out_features, last.out_features) == (width, 128, 5)


@pytest.mark.parametrize(("name", "base"), [("efficientnetv2-b0-d", 5_919_312), ("mobilenetv3-small-d", 939_120)])
def test_below_the_head_stands_what_keras_calls_the_network_without_its_top(name, base):
    described = zoo.describe(name, classes=5)
    width = 1280 if base > 10**6 else 576
    assert described["keras_count"] - (width * 128 + 128 + 128 * 5 + 5) == base


@pytest.mark.parametrize("name", SYSTEM_D)
def test_the_features_are_those_of_the_published_network_with_its_weights(name, tmp_path):
    reference, weights = saved(tmp_path, SYSTEM_D[name])
    model, images = begun_with(name, {"weights": weights}), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        maps = reference.forward_features(images)
        assert torch.equal(model.forward_features(images), maps)
        torch.testing.assert_close(model.pooled(maps), maps.mean((2, 3)))
        torch.testing.assert_close(model(images), model.head(maps.mean((2, 3))))
    assert all(p.requires_grad for p in model.parameters()), "only VGG's published features are frozen"


@pytest.mark.parametrize("architecture", ["test_resnet", "test_convnext", "test_mambaout", "mobilenetv3_small_050"])
def test_as_published_the_head_sees_what_the_published_classifier_saw(architecture, tmp_path):
    reference, weights = saved(tmp_path, architecture)
    model = begun_with(architecture, {"weights": weights, "pool": "own"})
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        rows = model.pooled(model.forward_features(images))
        seen = reference.forward_head(reference.forward_features(images), pre_logits=True)
    assert torch.equal(rows, seen)
    assert model.head[-1].in_features == rows.shape[1]


def test_without_weights_of_its_own_a_network_is_as_it_was_drawn():
    assert zoo.published_for("test_resnet", {"weights": "none"}) is None
    assert zoo.published_for("efficientnetv2-b0-d") is None
    assert zoo.published_for("cnn-basic") is None


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("architecture", ["test_resnet", "test_efficientnet", "test_nfnet"])
@torch.no_grad()
def test_a_pool_gives_what_numpy_makes_of_the_last_map(architecture, pool):
    model = built(architecture, pool=pool)
    maps = model.forward_features(torch.randn(2, 3, 64, 64))
    assert min(maps.shape[2:]) > 1
    expected = POOLS[pool](maps.numpy().astype(np.float64))
    np.testing.assert_allclose(model.pooled(maps).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert model.head[-1].in_features == expected.shape[1]
    torch.testing.assert_close(model.forward_head(maps), model.head(model.pooled(maps)))


@torch.no_grad()
def test_generalised_means_of_channels_that_come_last():
    small = {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    config = PublishedConfig(architecture="swin_tiny_patch4_window7_224", arguments=small, pool="gem")
    model = config.build(classes=3, size=224).eval()
    maps = model.forward_features(torch.randn(2, 3, 224, 224))
    assert maps.shape == (2, 7, 7, 96)
    expected = POOLS["gem"](maps.numpy().transpose(0, 3, 1, 2))
    np.testing.assert_allclose(model.pooled(maps).numpy(), expected, rtol=1e-4)


@torch.no_grad()
def test_generalised_means_lie_between_means_and_maxima_and_do_not_overflow():
    model = built("test_resnet", pool="gem")
    maps = torch.rand(2, 96, 4, 4) * 100
    means = model.pooled(maps)
    assert (maps.mean((2, 3)) < means).all()
    assert (means < maps.amax((2, 3))).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model.pooled(maps.bfloat16()), means, rtol=0.01, atol=0)
    maps = torch.zeros(1, 96, 4, 4, requires_grad=True)
    with torch.enable_grad():
        model.pooled(maps).sum().backward()
    assert torch.isfinite(maps.grad).all(), "a map of zeros has a gradient"


@pytest.mark.parametrize(
    ("architecture", "size", "like"),
    [
        ("test_resnet", 64, "gem"),
        ("mobilenetv2_035", 64, "gem"),
        ("test_efficientnet", 64, "own"),  # its last activation gives negative values
        ("test_vit3", 160, "own"),
        ("levit_128s", 224, "own"),
    ],
)
@torch.no_grad()
def test_auto_is_generalised_means_where_there_is_one_pool_over_the_last_map(architecture, size, like):
    torch.manual_seed(0)
    auto = built(architecture, size=size, pool="auto")
    alike = built(architecture, size=size, pool=like)
    images = torch.randn(2, 3, size, size)
    assert torch.equal(auto(images), alike(images))


def test_a_pool_that_the_architecture_cannot_have_is_refused_with_a_sentence():
    with pytest.raises(UsageError, match="test_vit3 has no pool over its last map; take pool 'own'"):
        built("test_vit3", size=160, pool="gem")
    with pytest.raises(UsageError, match=r"test_convnext cannot be built with pool 'concat' \(.*\); try pool 'own'"):
        built("test_convnext", pool="concat")
    with pytest.raises(UsageError, match=r"network.pool = 'mean' is not possible"):
        built("test_resnet", pool="mean")


@pytest.mark.parametrize(
    ("neck", "pool", "width"),
    [(True, "own", 1024), (True, "concat", 1024), (False, "own", 288), (False, "avg", 288), (False, "concat", 576)],
)
@torch.no_grad()
def test_mobilenetv3s_neck_stays_or_goes(neck, pool, width):
    model = built("mobilenetv3_small_050", neck=neck, pool=pool)
    maps = model.forward_features(torch.randn(2, 3, 64, 64))
    rows = model.pooled(maps)
    assert rows.shape == (2, width)
    assert model.head[-1].in_features == width
    if not neck:
        expected = POOLS["concat" if pool == "concat" else "avg"](maps.numpy())
        np.testing.assert_allclose(rows.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_a_network_without_its_neck_takes_weights_that_have_one(tmp_path):
    reference, weights = saved(tmp_path, "mobilenetv3_small_050")
    bare = begun_with("mobilenetv3_small_050", {"weights": weights, "neck": False})
    whole = begun_with("mobilenetv3_small_050", {"weights": weights})
    assert torch.equal(whole.features.conv_head.weight, reference.conv_head.weight)
    assert torch.equal(bare.features.conv_stem.weight, reference.conv_stem.weight)
    assert not [name for name in bare.state_dict() if "conv_head" in name]


@pytest.mark.parametrize(
    ("changes", "kinds"),
    [
        ({}, "Linear"),
        ({"dropout": 0.2}, "Dropout Linear"),
        ({"dense": [8], "batch_norm": True}, "Linear BatchNorm1d ReLU Linear"),
        ({"dense": [8, 4], "activation": "silu", "dropout": 0.2}, "Linear SiLU Linear SiLU Dropout Linear"),
    ],
)
def test_the_head_is_made_of_what_was_asked_for(changes, kinds):
    # Asked for by name, a network has dropout .2 unless something else is said.
    model = built("test_resnet", **{"dropout": 0, **changes})
    assert " ".join(type(layer).__name__ for layer in model.head) == kinds
    assert model.head[-1].out_features == 3


def test_the_penalty_is_of_the_hidden_layers_weights_alone():
    model = built("test_resnet", dense=[8, 4], l2=0.01)
    hidden = [layer for layer in model.head if isinstance(layer, nn.Linear)][:-1]
    expected = 0.01 * sum((layer.weight.detach().numpy().astype(np.float64) ** 2).sum() for layer in hidden)
    assert model.penalty().item() == pytest.approx(expected, rel=1e-5)
    model.penalty().backward()
    learning = [name for name, p in model.named_parameters() if p.grad is not None]
    assert learning == ["head.0.weight", "head.2.weight"]
    assert built("test_resnet", dense=[8]).penalty() == 0
    assert built("test_resnet", l2=0.01).penalty() == 0


def test_a_network_of_one_size_refuses_others():
    with pytest.raises(UsageError, match="test_vit3 takes images of 160 pixels and no others: --size 160"):
        built("test_vit3", size=96)
    assert built("test_resnet", size=96).size == 96


@pytest.mark.parametrize("architecture", ["test_vit_relpos", "test_resnet", "test_maxvit"])
@torch.no_grad()
def test_a_checkpoint_gives_back_even_what_it_does_not_hold(architecture, tmp_path):
    """Tables of positions are no weights, and are computed when a network is made."""
    size = 64 if architecture == "test_resnet" else 160
    model = built(architecture, size=size, pool="auto", dense=[8])
    save_file({f"model.{key}": value for key, value in model.state_dict().items()}, tmp_path / "best.safetensors")
    again = zoo.restore(json.loads(json.dumps(model.record())), tmp_path / "best.safetensors")
    images = torch.randn(2, 3, size, size)
    assert torch.equal(again(images), model(images))


def test_an_architecture_that_timm_does_not_know_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'tf_efficientnetv2_b0'"):
        PublishedConfig(architecture="tf_eficientnetv2_b0").build(classes=2, size=64)

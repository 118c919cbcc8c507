import json

import pytest
import torch
from torch import nn

from discern.errors import UsageError
from discern.models import zoo
from discern.models.convnet import ConvNet, ConvNetConfig

CONFIGS = {
    "flatten": ConvNetConfig(stages=((4, 6), (8,)), input_size=16, dense=(10, 7), dropout=0.5),
    "avg": ConvNetConfig(stages=((4,), (8,)), input_size=16, pool="avg", activation="gelu", stage_dropout=0.1),
    "max": ConvNetConfig(stages=((4,),), input_size=16, pool="max", batch_norm=False, kernel=5, padding=2),
    "norm last": ConvNetConfig(stages=((4,), (8,)), input_size=16, norm_last=True, padding=0),
}


def spelled(layers):
    """The layers of a Sequential as words: 'conv 3-32 k3 p1', 'bn 32', 'relu', ..."""
    words = {
        nn.Conv2d: lambda m: f"conv {m.in_channels}-{m.out_channels} k{m.kernel_size[0]} p{m.padding[0]}",
        nn.BatchNorm2d: lambda m: f"bn {m.num_features}",
        nn.ReLU: lambda m: "relu",
        nn.GELU: lambda m: "gelu",
        nn.MaxPool2d: lambda m: f"maxpool {m.kernel_size}",
        nn.AdaptiveMaxPool2d: lambda m: f"global max {m.output_size}",
        nn.AdaptiveAvgPool2d: lambda m: f"global avg {m.output_size}",
        nn.Flatten: lambda m: "flatten",
        nn.Dropout: lambda m: f"drop {m.p}",
        nn.Linear: lambda m: f"linear {m.in_features}-{m.out_features}",
    }
    return [words[type(layer)](layer) for layer in layers]


def stage(*widths, before, norm="before", activation="relu", padding=1, dropout=None):
    layers = []
    for inputs, outputs in zip((before, *widths[:-1]), widths, strict=True):
        layers.append(f"conv {inputs}-{outputs} k3 p{padding}")
        layers += {
            "before": [f"bn {outputs}", activation],
            "after": [activation, f"bn {outputs}"],
            "none": [activation],
        }[norm]
    return [*layers, "maxpool 2", *([f"drop {dropout}"] if dropout else [])]


# What the reference systems' own code builds.
PLANS = {
    "simple-cnn": (
        10,
        stage(32, before=3, norm="none") + stage(64, before=32, norm="none"),
        ["flatten", "linear 4096-128", "relu", "linear 128-10"],
    ),
    "regularized-cnn": (
        10,
        stage(32, before=3) + stage(64, before=32),
        ["flatten", "linear 4096-128", "relu", "drop 0.5", "linear 128-10"],
    ),
    "cnn-basic": (
        3,
        stage(64, 64, before=3, activation="gelu")
        + stage(128, 128, before=64, activation="gelu")
        + stage(256, 256, before=128, activation="gelu")
        + stage(512, 512, before=256, activation="gelu"),
        ["global max 1", "flatten", "linear 512-128", "gelu", "drop 0.5", "linear 128-3"],
    ),
    "parts-cnn": (
        5,
        stage(32, 32, before=3) + stage(64, 64, before=32) + stage(128, 128, before=64),
        ["global avg 1", "flatten", "linear 128-128", "relu", "drop 0.4", "linear 128-5"],
    ),
    "cifar-cnn": (
        10,
        stage(32, 32, before=3, norm="after", dropout=0.2)
        + stage(64, 32, before=32, norm="after", dropout=0.2)
        + stage(128, before=32, norm="after", dropout=0.2),
        ["flatten", "linear 2048-256", "relu", "drop 0.45", "linear 256-10"],
    ),
    "cifar-cnn-small": (
        10,
        stage(32, before=3, norm="none", padding=0) + stage(64, before=32, norm="none", padding=0),
        ["flatten", "linear 2304-128", "relu", "linear 128-10"],
    ),
}


@pytest.mark.parametrize("name", PLANS)
def test_the_reference_networks_have_their_authors_layers_in_their_order(name):
    classes, stages, head = PLANS[name]
    model = zoo.build(name, classes=classes)
    assert spelled([*model.features, *model.head]) == stages + head


@pytest.mark.parametrize("name", [*PLANS, "flexible-cnn"])
def test_the_features_are_the_last_convolutions_map_not_yet_pooled(name):
    size = zoo.MODELS[name].config.input_size
    model = zoo.build(name, classes=2).eval()
    *_, last = (layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d))
    shapes = []
    last.register_forward_hook(lambda layer, inputs, output: shapes.append(output.shape))
    with torch.no_grad():
        assert [model.forward_features(torch.rand(1, 3, size, size)).shape] == shapes


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_forward_is_the_head_of_the_features(config):
    model = ConvNet(config, classes=3, size=16).eval()
    images = torch.randn(2, 3, 16, 16)
    logits = model(images)
    assert logits.shape == (2, 3)
    maps = model.forward_features(images)
    assert maps.shape[:2] == (2, config.stages[-1][-1])
    assert torch.equal(logits, model.forward_head(maps))


def test_global_pooling_takes_any_size_and_flatten_one_only():
    images = torch.randn(1, 3, 24, 24)
    assert ConvNet(CONFIGS["avg"], classes=3, size=16)(images.repeat(2, 1, 1, 1)).shape == (2, 3)
    assert ConvNet(CONFIGS["flatten"], classes=3, size=24).eval()(images).shape == (1, 3)
    with pytest.raises(RuntimeError, match="shapes"):
        ConvNet(CONFIGS["flatten"], classes=3, size=16).eval()(images)


@pytest.mark.parametrize(("config", "least"), [("flatten", 4), ("avg", 4), ("max", 2), ("norm last", 10)])
def test_too_small_a_size_is_refused_with_a_sentence(config, least):
    ConvNet(CONFIGS[config], classes=3, size=least)
    with pytest.raises(UsageError, match=f"Images of {least - 1} pixels are too small .* larger size"):
        ConvNet(CONFIGS[config], classes=3, size=least - 1)


FLEXIBLE = {
    # filters, kernel -> counted by system B's own program, 10 classes at 224 pixels
    ((64,) * 5, 5): 1_240_202,
    ((32, 64, 128, 256, 512), 3): 14_421_258,
    ((128,) * 5, 3): 3_812_106,
    ((128,) * 5, 5): 3_293_962,
    ((128,) * 5, 7): 3_827_466,
    ((32,) * 5, 3): 846_666,
    ((32,) * 5, 5): 520_522,
    ((32,) * 5, 7): 358_986,
}


@pytest.mark.parametrize(("filters", "kernel"), FLEXIBLE)
def test_flexible_cnn_has_exactly_its_authors_parameters(filters, kernel):
    described = zoo.describe("flexible-cnn", classes=10, changes={"filters": list(filters), "kernel": kernel})
    assert described["parameters"] == FLEXIBLE[filters, kernel]


def test_flexible_cnn_has_its_authors_layers_in_their_order():
    model, expected = zoo.build("flexible-cnn", classes=10), []
    for inputs in (3, 64, 64, 64, 64):
        expected += [f"conv {inputs}-64 k5 p1", "bn 64", "relu", "maxpool 2"]
    assert spelled([*model.features, *model.head]) == [*expected, "flatten", "linear 1600-512", "linear 512-10"]


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "mish"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_every_choice_of_flexible_cnn_is_one_layer_in_its_place(activation, batch_norm):
    changes = {"filters": [8, 6], "kernel": 7, "dropout": 0.2, "dense": 9}
    changes |= {"batch_norm": batch_norm, "activation": activation}
    model = zoo.build("flexible-cnn", classes=3, size=32, changes=changes)
    names = [type(layer).__name__.lower() for layer in [*model.features, *model.head]]
    block = ["conv2d", *["batchnorm2d"] * batch_norm, activation, "maxpool2d"]
    assert names == [*block, *block, "flatten", "linear", "dropout", "linear"]
    shapes = [(layer.kernel_size, layer.padding) for layer in model.features if isinstance(layer, nn.Conv2d)]
    assert shapes == [((7, 7), (1, 1))] * 2
    assert model.head[-3].weight.shape == (9, 6 * 5 * 5)  # 32 - 4 = 28, 14, 10, 5
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(("kernel", "least"), [(3, 32), (5, 94), (7, 156)])
def test_flexible_cnn_refuses_images_too_small_for_its_pools(kernel, least):
    zoo.describe("flexible-cnn", classes=10, size=least, changes={"kernel": kernel})
    with pytest.raises(UsageError, match=f"Images of {least - 1} pixels are too small .* larger size"):
        zoo.describe("flexible-cnn", classes=10, size=least - 1, changes={"kernel": kernel})


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_record_survives_json_and_builds_the_same_network(config):
    model = ConvNet(config, classes=4, size=20)
    again = zoo.from_record(json.loads(json.dumps(model.record())))
    assert again.config == config
    assert repr(again) == repr(model)
    assert (again.classes, again.size) == (4, 20)


def test_a_record_of_before_there_were_families_is_a_convnets():
    model = ConvNet(CONFIGS["avg"], classes=4, size=20)
    record = model.record()
    del record["family"], record["config"]["dense_activation"]
    assert repr(zoo.from_record(record)) == repr(model)

"""Batch norms learn while their layer does: in every network of the zoo that has some."""

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from discern.models import zoo
from discern.models.cutting import inference_norms
from discern.models.layers import trained


def norms(network):
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, _BatchNorm)}


@pytest.mark.parametrize("name", zoo.MODELS)
def test_every_norm_learns_when_everything_does_and_none_below_the_head_when_the_head_alone_does(name):
    changes = {"weights": "none"} if "weights" in zoo.describe(name, classes=3)["config"] else {}
    with torch.device("meta"):
        network = zoo.outline(name, classes=3, changes=changes).train()
    learnable = {key for key, value in network.named_parameters() if value.requires_grad}
    inference_norms(network, learnable)
    assert [key for key, layer in norms(network).items() if not layer.training] == []
    inference_norms(network, trained(network, "head"))
    assert [key for key, layer in norms(network).items() if layer.training and not key.startswith("head.")] == []


def test_statistics_of_the_fast_net_move_though_its_scales_are_fixed():
    network = zoo.build("fast-cnn", classes=3, size=32).train()
    inference_norms(network, {key for key, value in network.named_parameters() if value.requires_grad})
    network(torch.randn(8, 3, 32, 32))
    assert norms(network)
    for layer in norms(network).values():
        assert layer.num_batches_tracked == 1
        assert layer.running_mean.abs().sum() > 0

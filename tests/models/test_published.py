import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from discern.errors import UnknownName
from discern.models import zoo
from discern.models.published import PublishedConfig

SYSTEM_D = {"efficientnetv2-b0-d": "tf_efficientnetv2_b0", "mobilenetv3-small-d": "tf_mobilenetv3_small_100"}


@pytest.mark.parametrize(("name", "width"), [("efficientnetv2-b0-d", 1280), ("mobilenetv3-small-d", 576)])
def test_system_ds_heads_have_their_authors_layers_in_their_order(name, width):
    with torch.device("meta"):
        pool, flatten, dense, activation, dropout, last = zoo.build(name, classes=5).head
    assert (pool.output_size, type(flatten), type(activation), dropout.p) == (1, nn.Flatten, nn.ReLU, 0.3)
    assert (dense.in_features, dense.out_features, last.out_features) == (width, 128, 5)


@pytest.mark.parametrize(("name", "base"), [("efficientnetv2-b0-d", 5_919_312), ("mobilenetv3-small-d", 939_120)])
def test_below_the_head_stands_what_keras_calls_the_network_without_its_top(name, base):
    described = zoo.describe(name, classes=5)
    width = 1280 if base > 10**6 else 576
    assert described["keras_count"] - (width * 128 + 128 + 128 * 5 + 5) == base


@pytest.mark.parametrize("name", SYSTEM_D)
def test_the_features_are_those_of_the_published_network_with_its_weights(name, tmp_path):
    torch.manual_seed(0)
    reference = timm.create_model(SYSTEM_D[name], num_classes=0)
    reference.train()(torch.randn(4, 3, 64, 64))
    save_file(reference.state_dict(), tmp_path / "weights.safetensors")
    model = zoo.build(name, classes=3, changes={"weights": str(tmp_path / "weights.safetensors")}).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.forward_features(images), reference.eval().forward_features(images))
    assert all(p.requires_grad for p in model.parameters()), "only VGG's published features are frozen"


def test_an_architecture_that_timm_does_not_know_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'tf_efficientnetv2_b0'"):
        PublishedConfig(architecture="tf_eficientnetv2_b0").build(classes=2, size=64)

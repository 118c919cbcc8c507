import pytest
import torch
import torchvision

from discern.models import zoo
from discern.models.resnet import ResNet, ResNetConfig


def test_resnet18_computes_what_torchvisions_does():
    """The same weights, in the order in which both have them, give the same logits."""
    torch.manual_seed(0)
    reference, model = torchvision.models.resnet18(num_classes=3), zoo.build("resnet18-scratch", classes=3, size=64)
    for given in (reference, model):
        assert sum(p.numel() for p in given.parameters()) == 11_178_051
    reference.train()(torch.randn(4, 3, 64, 64) * 2 + 1)
    theirs, ours = reference.state_dict(), model.state_dict()
    for stage in ("layer2", "layer3", "layer4"):  # a block's shortcut stands behind its convolutions in both
        assert f"{stage}.0.downsample.0.weight" in theirs
    assert [value.shape for value in theirs.values()] == [value.shape for value in ours.values()]
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), reference.eval()(images))


def test_its_first_weights_are_spread_as_torchvisions():
    torch.manual_seed(0)
    theirs, ours = torchvision.models.resnet18(num_classes=3), zoo.build("resnet18-scratch", classes=3)
    for their, our in zip(theirs.state_dict().values(), ours.state_dict().values(), strict=True):
        if their.ndim == 4:
            assert float(our.std()) == pytest.approx(float(their.std()), rel=0.05)
        elif their.is_floating_point() and len(their) > 3:
            assert torch.equal(our, their)


def test_deeper_and_narrower_ones_can_be_asked_for():
    model = zoo.build("resnet18-scratch", classes=5, size=64, changes={"blocks": [1, 3], "widths": [8, 16]})
    assert isinstance(model, ResNet)
    assert model.config == ResNetConfig(blocks=(1, 3), widths=(8, 16))
    assert model.forward_features(torch.randn(2, 3, 64, 64)).shape == (2, 16, 8, 8)
    assert model(torch.randn(2, 3, 40, 40)).shape == (2, 5)

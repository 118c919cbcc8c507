"""Losses equal torch's, and their formulas where torch has none."""

import pytest
import torch
from torch import nn

from discern.training.losses import batch_loss, targets_of

WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 0.1])


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(12, 4, requires_grad=True), torch.randint(0, 4, (12,))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [torch.ones(4), WEIGHTS])
def test_labels_alone_give_torchs_cross_entropy_and_its_gradient(batch, weights, smoothing):
    logits, labels = batch
    ours = batch_loss(logits, targets_of(labels, 4), weights=weights, total=weights[labels].sum(), smoothing=smoothing)
    theirs = nn.CrossEntropyLoss(weights, label_smoothing=smoothing)(logits, labels)
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_mixed_targets_give_the_mixed_losses(batch):
    logits, labels = batch
    other, share = labels.roll(1), torch.rand(12, 1)
    mixed = share * targets_of(labels, 4) + (1 - share) * targets_of(other, 4)
    ours = batch_loss(logits, mixed, weights=torch.ones(4), total=torch.tensor(12.0))
    each = [nn.functional.cross_entropy(logits, truth, reduction="none") for truth in (labels, other)]
    torch.testing.assert_close(ours, (share[:, 0] * each[0] + (1 - share[:, 0]) * each[1]).mean())
    torch.testing.assert_close(ours, nn.CrossEntropyLoss()(logits, mixed))


@pytest.mark.parametrize("focus", [0.5, 2.0, 5.0])
def test_focal_loss_is_its_formula(batch, focus):
    logits, labels = batch
    ours = batch_loss(logits, targets_of(labels, 4), weights=WEIGHTS, total=torch.tensor(3.0), focus=focus)
    p = logits.softmax(1).double()[torch.arange(12), labels]
    expected = (-WEIGHTS[labels].double() * (1 - p) ** focus * p.log()).sum() / 3
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_focal_loss_of_two_classes_is_torchvisions(batch):
    from torchvision.ops import sigmoid_focal_loss

    logits, labels = batch[0][:, :1].detach(), batch[1] % 2
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)  # a sigmoid is a softmax against zero
    ours = batch_loss(two, targets_of(labels, 2), weights=torch.ones(2), total=torch.tensor(12.0), focus=2.0)
    theirs = sigmoid_focal_loss(logits[:, 0], labels.float(), alpha=-1, gamma=2.0, reduction="mean")
    torch.testing.assert_close(ours, theirs)


def test_a_class_that_is_certain_has_a_finite_gradient():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = batch_loss(logits, torch.tensor([[1.0, 0.0]]), weights=torch.ones(2), total=torch.tensor(1.0), focus=0.5)
    loss.backward()
    assert logits.grad.isfinite().all()

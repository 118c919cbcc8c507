"""Mixup and CutMix: shares are drawn as published, images and targets are mixed alike, and nothing else matters."""

import numpy as np
import pytest
import torch
from scipy import stats

from discern.training.mixing import Mixing

COUNT, SIDE = 4000, 8


@pytest.fixture(scope="module")
def batch():
    """Images of one colour each, their own number, so that what came from where shows."""
    images = torch.arange(COUNT, dtype=torch.float32)[:, None, None, None].expand(-1, 3, SIDE, SIDE).clone()
    return images, torch.eye(COUNT), np.random.default_rng(0).integers(0, 2**63, COUNT).astype(np.uint64)


def mixed(batch, **alphas):
    images, targets, keys = batch
    found, shares = Mixing(**alphas).mix(images, targets, seed=1, epoch=2, keys=keys)
    return found, shares


def own_shares(shares):
    torch.testing.assert_close(shares.sum(1), torch.ones(len(shares)))
    return shares.diagonal()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixup_draws_beta_shares_and_mixes_images_and_targets_alike(batch, alpha):
    found, targets = mixed(batch, mixup=alpha)
    own = own_shares(targets)
    assert stats.kstest(own.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    numbers = torch.arange(COUNT, dtype=torch.float32)
    expected = own * numbers + (1 - own) * numbers.roll(-1)
    torch.testing.assert_close(found[:, 0, 3, 5], expected, rtol=1e-4, atol=0.02)
    assert (found == found[:, :1, :1, :1]).all(), "every pixel has the same share"


def test_cutmix_pastes_a_box_of_the_next_image_and_its_area_is_the_share(batch):
    found, targets = mixed(batch, cutmix=1.0)
    own, numbers = own_shares(targets), torch.arange(COUNT, dtype=torch.float32)
    kept = found[:, 0] == numbers[:, None, None]
    other = found[:, 0] == numbers.roll(-1)[:, None, None]
    assert (kept | other).all()
    torch.testing.assert_close(kept.float().mean((1, 2)), own)
    for picture in other[:200]:
        rows, columns = picture.any(1), picture.any(0)
        assert torch.equal(picture, rows[:, None] & columns[None, :]), "a box"
    assert 0.4 < own.mean() < 0.75  # boxes are cut off at the edges


def test_with_both_half_of_the_images_get_each(batch):
    found, _ = mixed(batch, mixup=0.5, cutmix=1.0)
    flat = (found == found[:, :1, :1, :1]).flatten(1).all(1)
    assert 0.45 < flat.float().mean() < 0.62  # a cut of nothing or of everything is flat, too


def test_the_share_of_an_image_is_its_own_whatever_is_beside_it(batch):
    images, targets, keys = batch
    some = slice(100, 120)
    alone = Mixing(mixup=0.4, cutmix=1.0).mix(images[some], targets[some], seed=1, epoch=2, keys=keys[some])
    whole = mixed(batch, mixup=0.4, cutmix=1.0)
    torch.testing.assert_close(alone[0][:-1], whole[0][some][:-1])
    torch.testing.assert_close(alone[1][:-1], whole[1][some][:-1])
    for other in ({"seed": 2, "epoch": 2}, {"seed": 1, "epoch": 3}):
        again = Mixing(mixup=0.4).mix(images[some], targets[some], keys=keys[some], **other)
        assert not torch.equal(
            again[1], Mixing(mixup=0.4).mix(images[some], targets[some], seed=1, epoch=2, keys=keys[some])[1]
        )


def test_nothing_is_mixed_unless_asked():
    assert not Mixing()
    assert Mixing(mixup=0.1)
    assert Mixing(cutmix=0.1)

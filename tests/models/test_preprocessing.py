import json

import numpy as np
import torch

from discern.models.preprocessing import Preprocessing

RECORD = Preprocessing(size=6, fit="pad", mean=(0.47, 0.46, 0.39), std=(0.19, 0.18, 0.2))


def images(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, 6, 6, 3), np.uint8)


def test_the_value_is_x_over_255_minus_mean_over_std():
    pictures = images()
    expected = (pictures.astype(np.float64) / 255 - np.array(RECORD.mean)) / np.array(RECORD.std)
    given = RECORD.normalize(torch.from_numpy(pictures))
    assert given.dtype == torch.float32
    assert given.shape == (3, 3, 6, 6)
    np.testing.assert_allclose(given.numpy(), expected.transpose(0, 3, 1, 2), atol=2e-6)


def test_without_statistics_the_range_is_zero_to_one():
    plain = Preprocessing(size=6, fit="pad", mean=(0, 0, 0), std=(1, 1, 1))
    ends = torch.tensor([0, 255, 51], dtype=torch.uint8).expand(1, 6, 6, 3)
    given = plain.normalize(ends)
    assert [given[0, c].unique().tolist() for c in range(3)] == [[0.0], [1.0], [np.float32(0.2)]]


def test_the_result_lies_channels_last_in_memory():
    given = RECORD.normalize(torch.from_numpy(images()))
    assert given.is_contiguous(memory_format=torch.channels_last)
    assert given.stride() == (6 * 6 * 3, 1, 6 * 3, 3)


def test_the_pictures_are_not_changed():
    pictures = torch.from_numpy(images())
    before = pictures.clone()
    RECORD.normalize(pictures)
    assert torch.equal(pictures, before)


def test_a_record_survives_json_exactly():
    again = Preprocessing.from_json(json.loads(json.dumps(RECORD.to_json())))
    assert again == RECORD
    assert type(again.mean) is tuple

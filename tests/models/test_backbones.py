"""Backbones: loaded from a folder, a file or not at all; the preprocessing they were trained with comes along."""

import json

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from discern.errors import UnknownName, UsageError
from discern.models.backbones import load_backbone


def published(folder, name="test_resnet", seed=0, **config):
    """A folder in timm's layout with random weights."""
    torch.manual_seed(seed)
    network = timm.create_model(name)
    folder.mkdir(exist_ok=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    usual = {key: network.pretrained_cfg[key] for key in ("first_conv", "classifier")}
    own = {"input_size": [3, 64, 64], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "license": "mit", **config}
    (folder / "config.json").write_text(
        json.dumps(
            {"architecture": name, "num_classes": 1000, "pretrained_cfg": {"num_classes": 1000, **usual, **own}}
        )
    )
    return folder


@pytest.fixture
def photo():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))


def test_a_folder_gives_the_network_without_its_classifier(tmp_path, photo):
    folder = published(tmp_path / "weights")
    backbone = load_backbone("test_resnet", str(folder))
    torch.manual_seed(0)
    whole = timm.create_model("test_resnet").eval()
    images = backbone.normalize(photo)
    with torch.inference_mode():
        features = backbone.network(images)
        expected = whole.forward_head(whole.forward_features(images), pre_logits=True)
    torch.testing.assert_close(features, expected)
    assert not backbone.network.training
    assert (backbone.name, backbone.size, backbone.fixed_size) == ("test_resnet", 64, False)
    assert (backbone.mean, backbone.std, backbone.licence) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "mit")


def test_images_are_normalised_as_the_weights_were_trained(tmp_path, photo):
    backbone = load_backbone("test_resnet", str(published(tmp_path / "weights")))
    expected = (photo.numpy() / 255 - np.array([0.1, 0.2, 0.3])) / np.array([0.4, 0.5, 0.6])
    found = backbone.normalize(photo)
    assert found.shape == (2, 3, 64, 64)
    np.testing.assert_allclose(found.numpy().transpose(0, 2, 3, 1), expected, atol=1e-5)


def test_a_file_gives_the_same_network_as_its_folder(tmp_path):
    folder = published(tmp_path / "weights")
    of_file = load_backbone("test_resnet", str(folder / "model.safetensors"))
    assert of_file.weights == load_backbone("test_resnet", str(folder)).weights


def test_other_weights_have_another_digest(tmp_path):
    one, again, other = (published(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    digests = [load_backbone("test_resnet", str(folder)).weights for folder in (one, again, other)]
    assert digests[0] == digests[1] != digests[2]


def test_a_network_of_fixed_size_says_so(tmp_path):
    folder = published(tmp_path / "weights", "test_vit", input_size=[3, 160, 160], fixed_input_size=True)
    backbone = load_backbone("test_vit", str(folder))
    assert (backbone.size, backbone.fixed_size) == (160, True)


def test_an_unknown_network_is_named_with_the_nearest():
    with pytest.raises(UnknownName, match="Unknown backbone 'mobilnetv2_100': did you mean 'mobilenetv2_100'"):
        load_backbone("mobilnetv2_100")


@pytest.mark.parametrize("place", ["nowhere", "weights.bin", "nowhere.safetensors"])
def test_weights_that_are_not_there(tmp_path, place):
    (tmp_path / "weights.bin").write_bytes(b"weights")
    with pytest.raises(UsageError, match=r"No weights at .*: give a folder with config\.json and model\.safetensors"):
        load_backbone("test_resnet", str(tmp_path / place))


def test_weights_of_another_network_are_refused(tmp_path):
    folder = published(tmp_path / "weights")
    with pytest.raises(UsageError, match="holds weights of test_resnet, not test_vit; name that model"):
        load_backbone("test_vit", str(folder))
    with pytest.raises(UsageError, match="does not hold weights of test_vit"):
        load_backbone("test_vit", str(folder / "model.safetensors"))


@pytest.mark.parametrize("damage", ["weights", "half", "a layer", "config", "no config"])
def test_damaged_weights_are_refused(tmp_path, damage):
    folder = published(tmp_path / "weights")
    file, config = folder / "model.safetensors", folder / "config.json"
    if damage == "weights":
        file.write_bytes(b"no weights at all")
    elif damage == "half":
        file.write_bytes(file.read_bytes()[:100_000])
    elif damage == "a layer":
        save_file({name: values for name, values in load_file(file).items() if "layer2" not in name}, file)
    elif damage == "config":
        config.write_text("{")
    else:
        config.unlink()
    with pytest.raises(UsageError, match=r"does not hold weights of test_resnet .*; check the file"):
        load_backbone("test_resnet", str(folder))


def test_without_a_network_connection_a_local_copy_is_asked_for(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"weights of test_resnet could not be fetched .* --weights PATH"):
        load_backbone("test_resnet")


def test_published_weights_tell_photos(real_data):
    """Features of photos of one class are more alike than those of others."""
    from discern.data.scan import scan
    from discern.data.sources import open_dataset

    backbone = load_backbone("mobilenetv2_100", str(real_data / "weights" / "mobilenetv2_100.imagenet"))
    assert (backbone.size, backbone.mean, backbone.std) == (224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    data, pixels = scan(open_dataset(real_data / "tools" / "dataset_testing"), size=224, fit="pad")
    with torch.inference_mode():
        features = backbone.network(backbone.normalize(torch.from_numpy(pixels.take(data.index)))).numpy()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    alike = unit @ unit.T - 2 * np.eye(len(unit))
    assert features.shape == (105, 1280)
    assert (data.labels[alike.argmax(axis=1)] == data.labels).mean() > 0.75

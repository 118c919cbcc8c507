"""Backbones: loaded from a folder, a file or not at all; the preprocessing they were trained with comes along."""

import json
import re
import shutil

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from discern.errors import UnknownName, UsageError
from discern.models import zoo
from discern.models.backbones import find_published, load_backbone


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


@pytest.mark.parametrize("place", ["nowhere", "weights.txt", "nowhere.safetensors", "nowhere.pth", "empty"])
def test_weights_that_are_not_there(tmp_path, place):
    (tmp_path / "weights.txt").write_bytes(b"weights")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"No weights at .*: give a folder with config\.json and model\.safetensors"):
        load_backbone("test_resnet", str(tmp_path / place))


def test_weights_of_another_network_are_refused_with_the_keys_that_differ(tmp_path):
    folder = published(tmp_path / "weights")
    with pytest.raises(UsageError, match="holds weights of test_resnet, not test_vit; name that model"):
        load_backbone("test_vit", str(folder))
    with pytest.raises(UsageError, match="does not hold weights of test_efficientnet") as refusal:
        load_backbone("test_efficientnet", str(shutil.copy(folder / "model.safetensors", tmp_path)))
    assert "it misses conv_stem.weight, " in str(refusal.value)
    assert re.search(r"it does not know conv1\.0\.\S+, \S+, \S+ and \d+ more", str(refusal.value))
    assert "name the model they are of" in str(refusal.value)


def test_a_file_has_the_description_beside_it_and_is_not_said_to_be_timms_without_one(tmp_path):
    folder = published(tmp_path / "weights")
    told = json.loads((folder / "config.json").read_text())
    told["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "license": "cc-by-nc-4.0"}
    (folder / "config.json").write_text(json.dumps(told))
    beside = find_published("test_resnet", str(folder / "model.safetensors"))
    assert (beside.mean, beside.licence, beside.free) == ((0.1, 0.2, 0.3), "cc-by-nc-4.0", False)
    with pytest.raises(UsageError, match="holds weights of test_resnet, not test_efficientnet; name that model"):
        find_published("test_efficientnet", str(folder / "model.safetensors"))
    alone = find_published("test_resnet", str(shutil.copy(folder / "model.safetensors", tmp_path)))
    assert alone.licence is None


def test_a_layer_too_few_too_many_or_of_another_shape_is_named(tmp_path):
    file = published(tmp_path / "weights") / "model.safetensors"
    state = load_file(file)
    few = {name: values for name, values in state.items() if name != "bn1.weight"}
    for changed, sentence in (
        (few, r"\(it misses bn1\.weight\)"),
        ({**state, "bn9.bias": torch.zeros(2)}, r"\(it does not know bn9\.bias\)"),
        ({**state, "bn1.weight": torch.zeros(2)}, r"\(it has in another shape bn1\.weight\)"),
    ):
        save_file(changed, file)
        with pytest.raises(UsageError, match=f"does not hold weights of test_resnet {sentence}; name the model"):
            load_backbone("test_resnet", str(file.parent))


def test_a_classifier_of_any_number_of_classes_or_none_is_left_out(tmp_path):
    folder = published(tmp_path / "weights")
    file, digest = folder / "model.safetensors", load_backbone("test_resnet", str(folder)).weights
    state = {name: values for name, values in load_file(file).items() if not name.startswith("fc.")}
    for classifier in ({}, {"fc.weight": torch.zeros(7, 96), "fc.bias": torch.zeros(7)}):
        save_file({**state, **classifier}, file)
        assert load_backbone("test_resnet", str(folder)).weights == digest


def test_a_norm_that_goes_with_the_classifier_is_left_out_too(tmp_path):
    torch.manual_seed(0)
    whole = timm.create_model("shvit_s1")
    save_file(whole.state_dict(), tmp_path / "weights.safetensors")
    assert "bn.weight" in whole.head.state_dict()
    network = load_backbone("shvit_s1", str(tmp_path / "weights.safetensors")).network
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(network.forward_features(images), whole.eval().forward_features(images))


def test_a_network_is_built_as_the_description_of_its_weights_says(tmp_path):
    torch.manual_seed(0)
    folder, deeper = published(tmp_path / "weights"), timm.create_model("test_resnet", layers=[1, 1, 3, 1])
    save_file(deeper.state_dict(), folder / "model.safetensors")
    with pytest.raises(UsageError, match=r"does not know layer3.1"):
        load_backbone("test_resnet", str(folder))
    described = json.loads((folder / "config.json").read_text())
    described["model_args"] = {"layers": [1, 1, 3, 1], "num_classes": 12, "global_pool": "max"}
    (folder / "config.json").write_text(json.dumps(described))
    found = find_published("test_resnet", str(folder))
    assert found.arguments == {"layers": [1, 1, 3, 1]}
    assert len(load_backbone("test_resnet", str(folder)).network.layer3) == 3
    model = zoo.build("test_resnet", classes=2, size=64, published=found)
    assert len(model.features.layer3) == 3
    assert len(zoo.from_record(json.loads(json.dumps(model.record()))).features.layer3) == 3


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("weights", r"model\.safetensors is damaged or holds no weights \(.*\); get it again"),
        ("half", r"model\.safetensors is damaged or holds no weights \(.*\); get it again"),
        ("nothing", r"model\.safetensors is damaged or holds no weights \(.*\); get it again"),
        ("config", r"config\.json does not describe weights of test_resnet \(.*\); check the file"),
        ("config is a list", r"config\.json does not describe weights of test_resnet \(.*\); check the file"),
        ("no mean", r"config\.json does not describe weights of test_resnet \(KeyError: 'mean'\); check the file"),
        ("no config", r"No weights at .*: give a folder with config\.json and model\.safetensors"),
    ],
)
def test_damaged_weights_are_refused(tmp_path, damage, sentence):
    folder = published(tmp_path / "weights")
    file, config = folder / "model.safetensors", folder / "config.json"
    if damage == "weights":
        file.write_bytes(b"no weights at all")
    elif damage == "half":
        file.write_bytes(file.read_bytes()[:100_000])
    elif damage == "nothing":
        file.write_bytes(b"")
    elif damage == "config":
        config.write_text("{")
    elif damage == "config is a list":
        config.write_text("[1]")
    elif damage == "no mean":
        described = json.loads(config.read_text())
        del described["pretrained_cfg"]["mean"]
        config.write_text(json.dumps(described))
    else:
        config.unlink()
    with pytest.raises(UsageError, match=sentence) as refusal:
        load_backbone("test_resnet", str(folder))
    assert "\n" not in str(refusal.value)


class Evil:
    """Unpickled in the usual way, it writes a file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


@pytest.mark.parametrize("wrapped", ["plain", "state_dict", "model", "module."])
def test_a_pickle_is_read_where_it_is_trusted(tmp_path, wrapped):
    folder = published(tmp_path / "weights")
    state = load_file(folder / "model.safetensors")
    if wrapped == "module.":
        state = {f"module.{name}": values for name, values in state.items()}
    torch.save(state if wrapped in ("plain", "module.") else {wrapped: state, "epoch": 3}, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match=r"weights\.pth is a pickle, .*--trust-pickle if you trust where it is from"):
        load_backbone("test_resnet", str(tmp_path / "weights.pth"))
    trusted = load_backbone("test_resnet", str(tmp_path / "weights.pth"), trust_pickle=True)
    assert trusted.weights == load_backbone("test_resnet", str(folder)).weights


def test_code_in_a_pickle_does_not_run_even_where_it_is_trusted(tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    torch.save({**state, "bn1.weight": Evil(tmp_path / "harm")}, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match=r"weights\.pth holds more than tensors, and is not read") as refusal:
        load_backbone("test_resnet", str(tmp_path / "weights.pth"), trust_pickle=True)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", ["half", "nothing", "a list", "weights"])
def test_a_damaged_pickle_is_refused(tmp_path, content):
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), file)
    if content == "a list":
        torch.save([torch.zeros(2)], file)
    else:
        file.write_bytes({"half": file.read_bytes()[:100_000], "nothing": b"", "weights": b"weights"}[content])
    with pytest.raises(UsageError, match=r"weights\.pth (is damaged or holds no weights|holds more than tensors)"):
        load_backbone("test_resnet", str(file), trust_pickle=True)


@pytest.mark.parametrize(
    ("licence", "free"),
    [(None, True), ("apache-2.0", True), ("MIT", True), ("cc-by-nc-4.0", False), ("other", False)],
)
def test_a_licence_allows_every_use_or_has_to_be_accepted(tmp_path, licence, free):
    assert find_published("test_resnet", str(published(tmp_path / "weights", license=licence))).free == free


@pytest.mark.parametrize(
    ("size", "fixed", "best"), [(224, False, 288), (64, False, 96), (32, False, 32), (16, False, 32), (224, True, 224)]
)
def test_images_are_shown_larger_than_those_it_was_trained_with(tmp_path, size, fixed, best):
    folder = published(tmp_path / "weights", input_size=[3, size, size], fixed_input_size=fixed)
    found = find_published("test_resnet", str(folder))
    assert (found.size, found.best_size) == (size, best)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A factory: `hub("owner/name", folder)` lays files out as the hub's client keeps them; there is no network.

    It has a list of what was asked of the network.
    """
    asked = []

    def unreachable(self, repository, **options):
        asked.append(repository)
        raise ConnectionError("the network is unreachable")

    def lay(repository, folder, revision="main"):
        place = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        commit = f"{len(list(place.parent.glob('*/snapshots/*'))):040x}"
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / revision).write_text(commit)
        shutil.copytree(folder, place / "snapshots" / commit)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    lay.asked = asked
    return lay


def test_without_another_word_weights_are_those_that_timm_names(tmp_path, hub):
    folder = published(tmp_path / "weights")
    (folder / "config.json").unlink()
    hub("timm/test_resnet.r160_in1k", folder)
    found = find_published("test_resnet")
    assert (found.source, found.size, found.licence) == ("timm/test_resnet.r160_in1k", 160, "apache-2.0")
    assert found.mean == tuple(timm.get_pretrained_cfg("test_resnet").mean)
    of_file = load_backbone("test_resnet", str(folder / "model.safetensors"))
    assert load_backbone("test_resnet").weights == of_file.weights
    assert hub.asked == []


def test_a_repository_on_the_hub_is_the_same_as_its_folder(tmp_path, hub):
    folder = published(tmp_path / "weights")
    hub("someone/parts", folder)
    here, there = (load_backbone("test_resnet", where) for where in (str(folder), "someone/parts"))
    assert here.weights == there.weights
    assert (there.size, there.mean, there.licence) == (64, (0.1, 0.2, 0.3), "mit")
    assert find_published("test_resnet", "someone/parts").source == "someone/parts"
    assert hub.asked == []


def test_a_revision_of_a_repository_can_be_named(tmp_path, hub):
    hub("someone/parts", published(tmp_path / "new"))
    old = published(tmp_path / "old", seed=1)
    hub("someone/parts", old, "v1")
    found = load_backbone("test_resnet", "someone/parts@v1").weights
    assert found == load_backbone("test_resnet", str(old)).weights
    assert found != load_backbone("test_resnet", "someone/parts").weights


@pytest.mark.parametrize("weights", ["auto", "someone/parts"])
def test_without_a_network_a_local_copy_is_asked_for_at_once(hub, monkeypatch, weights):
    tried, real = [], huggingface_hub.hf_hub_download
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **k: tried.append(k) or real(*a, **k))
    repository = "timm/test_resnet.r160_in1k" if weights == "auto" else weights
    sentence = rf"The weights {repository} could not be fetched \(the network is unreachable\); .*--weights PATH"
    with pytest.raises(UsageError, match=sentence):
        load_backbone("test_resnet", weights)
    assert hub.asked == [repository]
    assert [kept["local_files_only"] for kept in tried] == [True], "a download is tried again and again"


def test_a_hub_that_is_switched_off_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match=r"The weights timm/test_resnet\S* could not be fetched .* --weights PATH"):
        load_backbone("test_resnet")


def test_an_architecture_without_published_weights_says_so():
    with pytest.raises(
        UsageError, match=r"timm knows no weights for test_mambaout: get some .* or take --weights none"
    ):
        load_backbone("test_mambaout")


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

import pytest

from discern.data.augment import Augmentation
from discern.errors import UnknownName, UsageError
from discern.models import zoo
from discern.training.recipe import Recipe, load_recipe, recipe_from_mapping, recipe_names, resolved


@pytest.fixture
def recipe_file(tmp_path):
    def write(text):
        path = tmp_path / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_loads_and_fits_its_network(name):
    recipe = load_recipe(name)
    entry = zoo.find(recipe.model)
    zoo.describe(recipe.model, classes=10, size=recipe.size or entry.config.input_size)


def has(recipe, **settings):
    return {key: getattr(recipe, key) for key in settings} == settings


def test_system_a_baseline_settings():
    recipe = load_recipe("cifar-simple-cnn")
    assert has(recipe, model="simple-cnn", size=32, batch_size=64, optimizer="adam", learning_rate=1e-3, epochs=10)
    assert has(recipe, normalize="none", weight_decay=0, schedule="constant", warmup_epochs=0, label_smoothing=0)
    assert has(recipe, augment=Augmentation(), patience=None)


def test_system_a_regularised_settings():
    recipe = load_recipe("cifar-regularized-cnn")
    assert has(recipe, model="regularized-cnn", size=32, batch_size=64, optimizer="adam", learning_rate=1e-3)
    assert has(recipe, normalize="none", weight_decay=1e-4, schedule="constant", epochs=25, patience=None)
    assert recipe.augment == Augmentation(flip=0.5, shift=4 / 32), "flip .5 and a crop of 32 after padding by 4"


def test_system_d_settings():
    recipe = load_recipe("parts-cnn")
    assert has(recipe, model="parts-cnn", size=224, batch_size=16, optimizer="adam", learning_rate=1e-3, patience=15)
    assert has(recipe, normalize="none", weight_decay=0, schedule="constant", monitor="val_loss")
    assert recipe.augment == Augmentation(flip=0.5, rotate=0.15 * 360, zoom=0.1, shift=0.1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("learning_rat: 1", r"Unknown recipe key 'learning_rat' in .*mine.yaml: did you mean 'learning_rate'\?"),
        ("augment: {rotat: 5}", r"Unknown augment key 'rotat' in .*mine.yaml: did you mean 'rotate'\?"),
        ("epochs: many", r"mine.yaml: epochs = 'many' is not possible: .*valid integer"),
        ("epochs: 2.5", r"mine.yaml: epochs = 2.5 is not possible: .*fractional"),
        ("epochs:", r"mine.yaml: epochs = None is not possible"),
        ("optimizer: lion", r"optimizer = 'lion' is not possible: .*'adamw', 'adam', 'sgd', 'muon' or 'lbfgs'"),
        ("monitor: test_acc", r"monitor = 'test_acc' is not possible: .*'val_loss' or 'val_acc'"),
        ("augment: 5", r"augment = 5 is not possible"),
        ("augment: {flip: often}", r"augment.flip = 'often' is not possible"),
        ("augment: {flip: 1.5}", r"augment.flip = 1.5 is not possible: it must lie between 0 and 1\."),
        ("epochs: 0", r"epochs = 0 is not possible: it must lie between 1 and 100000\."),
        ("batch_size: -3", r"batch_size = -3 is not possible"),
        ("val_share: 1", r"val_share = 1.0 is not possible"),
        ("learning_rate: .nan", r"learning_rate = nan is not possible"),
        ("learning_rate: .inf", r"learning_rate = inf is not possible"),
        ("seed: 99999999999999999999", r"seed = 9+ is not possible"),
        ("model: cnn-basic\nnetwork: {filters: [8]}", r"Unknown network key 'filters' in .*mine.yaml"),
        ("model: flexible-cnn\nnetwork: {kernal: 3}", r"'kernal' in .*mine.yaml: did you mean 'kernel'\?"),
        ("model: flexible-cnn\nnetwork: {kernel: big}", r"mine.yaml: network.kernel = 'big' is not possible: "),
        ("model: flexible\nnetwork: {kernel: 3}", r"Unknown model 'flexible': did you mean 'flexible-cnn'"),
        ("network: 5", r"mine.yaml: network = 5 is not possible: "),
        ("network:", r"mine.yaml: network = None is not possible: "),
        ("a: [", r"mine.yaml is not YAML: "),
        (b"model: \xff\xfe", r"mine.yaml is not YAML: .*utf-8"),
        ("epochs: !!python/object/apply:os.getpid []", r"mine.yaml is not YAML: "),
        ("- epochs: 3", r"mine.yaml is not a recipe: expected lines such as `epochs: 20`\."),
        ("just words", r"mine.yaml is not a recipe"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_in_one_sentence(recipe_file, text, sentence):
    with pytest.raises(UsageError, match=sentence) as refusal:
        load_recipe(recipe_file(text))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["gone.yaml", "gone.yml", "folder/gone.yaml"])
def test_a_missing_file_is_said_to_be_missing(tmp_path, name):
    with pytest.raises(UsageError, match=f"No such recipe file: .*{name}"):
        load_recipe(str(tmp_path / name))


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'parts-cnn'"):
        load_recipe("part-cnn")


def test_an_empty_file_is_the_default_recipe(recipe_file):
    assert load_recipe(recipe_file("# nothing\n")) == Recipe()


def test_a_file_without_a_suffix_is_read_too(tmp_path):
    (tmp_path / "mine").write_text("epochs: 7")
    assert load_recipe(str(tmp_path / "mine")).epochs == 7


def test_numbers_as_yaml_reads_them():
    # YAML 1.1 reads 1e-3 as text; people write it so.
    assert recipe_from_mapping({"learning_rate": "1e-3", "epochs": 3.0}, "x") == Recipe(learning_rate=1e-3, epochs=3)


@pytest.mark.parametrize("name", recipe_names())
def test_a_resolved_recipe_survives_yaml_exactly(name, tmp_path):
    recipe = resolved(load_recipe(name), size=97, precision="bfloat16", channels_last=True)
    assert (recipe.size, recipe.precision, recipe.channels_last) == (97, "bfloat16", True)
    recipe.write(tmp_path / "recipe.yaml")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


def test_awkward_numbers_survive_yaml(tmp_path):
    recipe = Recipe(learning_rate=1e-07, weight_decay=0.1 + 0.2, seed=2**63, patience=None, gamma=1 / 3)
    recipe.write(tmp_path / "recipe.yaml")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


def test_a_partial_augmentation_changes_only_its_keys():
    recipe = Recipe(epochs=5, augment=Augmentation(flip=0.5, rotate=20))
    changed = recipe.with_changes({"augment": {"rotate": 3}, "batch_size": 7})
    assert changed.augment == Augmentation(flip=0.5, rotate=3)
    assert (changed.epochs, changed.batch_size) == (5, 7)
    assert recipe.augment.rotate == 20


def test_a_recipe_reaches_every_option_of_its_network(recipe_file):
    text = "{filters: [8, 16], kernel: 5, dropout: .2, batch_norm: true, activation: gelu, dense: 512}"
    recipe = load_recipe(recipe_file(f"model: flexible-cnn\nnetwork: {text}"))
    config = zoo.configured(recipe.model, recipe.network)
    assert (config.filters, config.kernel, config.dropout) == ((8, 16), 5, 0.2)
    assert (config.batch_norm, config.activation, config.dense) == (True, "gelu", 512)


def test_changes_to_the_network_survive_yaml_exactly(tmp_path):
    recipe = Recipe().with_changes({"model": "custom-vgg", "network": {"convolutions": ((8, 1), ("9", 3.0))}})
    assert recipe.network == {"convolutions": [[8, 1], [9, 3]]}
    recipe.write(tmp_path / "recipe.yaml")
    assert load_recipe(str(tmp_path / "recipe.yaml")) == recipe


def test_changes_to_the_network_add_up_but_not_over_models():
    recipe = Recipe().with_changes({"model": "flexible-cnn", "network": {"kernel": 3, "dense": 9}})
    assert recipe.with_changes({"network": {"kernel": 5}}).network == {"kernel": 5, "dense": 9}
    assert recipe.with_changes({"epochs": 3}).network == {"kernel": 3, "dense": 9}
    assert recipe.with_changes({"model": "cnn-basic"}).network == {}
    assert recipe.with_changes({"model": "cnn-basic", "network": {"kernel": 5}}).network == {"kernel": 5}


def test_a_whole_augmentation_replaces_the_recipes():
    assert Recipe().with_changes({"augment": Augmentation(zoom=0.5)}).augment == Augmentation(zoom=0.5)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epoch": 3}, "Unknown recipe key 'epoch' in the changes: did you mean 'epochs'"),
        ({"augment": {"flop": 1}}, "did you mean 'flip'"),
        ({"augment": 5}, "augment = 5 is not possible"),
        ({"augment": None}, "augment = None is not possible"),
        ({"batch_size": 0}, "the changes: batch_size = 0 is not possible"),
    ],
)
def test_changes_are_checked_like_a_file(changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        Recipe().with_changes(changes)

"""Recipe: everything that determines a training run, as a frozen dataclass and as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml
from pydantic import BeforeValidator

from discern.data.augment import Augmentation
from discern.data.batches import Balance, refuse_to_stream
from discern.data.decode import Fit
from discern.data.duplicates.gate import Leakage
from discern.data.streaming import Kept
from discern.errors import UnknownName, UsageError
from discern.files import writing
from discern.models import zoo
from discern.training.losses import Loss
from discern.training.mixing import Mixing
from discern.training.phases import Optimizer, Phase

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: Any) -> Any:
    """'10m' as seconds; other values as they are."""
    if isinstance(value, str) and value[-1:] in _UNITS:
        with suppress(ValueError):
            return float(value[:-1]) * _UNITS[value[-1]]
    return value


Seconds = Annotated[float, BeforeValidator(_seconds)]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. The defaults suit a few thousand photos and a network from scratch."""

    model: str = "cnn-basic"
    """Name of the network; `discern models` lists them."""
    network: dict[str, Any] = field(default_factory=dict)
    """Changes to the named network, such as {kernel: 3, dense: 256}; `discern models NAME` lists what it has."""
    seed: int = 0
    """Of the split, the initial weights, the order, the augmentation and dropout."""
    val_share: float = 0.15
    """Share of the training images held out for validation when the data have no validation split."""
    group_by: str | None = None
    """Regular expression, or a column of a manifest: images in whose names it finds the same, or that have the same
    there, stay in one split (a patient, a scene, a day)."""
    leakage: Leakage | None = None
    """What to do with copies of a photo in several splits; none refuses such data."""
    because: str | None = None
    """The reason for leakage 'allow'; it stands in the report."""
    size: int | None = None
    """Side of the square images are fitted to, pixels; none takes the network's own, or half of it without a GPU."""
    fit: Fit = "pad"
    """How a picture becomes a square; 'pad' because it cuts nothing away and bends nothing."""
    pixels: Kept = "disk"
    """Decode every image once and keep it in the cache, or 'stream': keep none and decode every image anew in every
    epoch, for data that would be larger than the disk when decoded."""
    normalize: Literal["auto", "dataset", "published", "none"] = "auto"
    """Subtract the training images' mean and divide by their deviation ('dataset'), do so with the numbers that
    published weights were trained with ('published'), or keep [0, 1]; 'auto' does what the weights want."""
    augment: Augmentation = field(default_factory=lambda: Augmentation(flip=0.5, shift=0.1, rotate=10.0, zoom=0.1))
    """How far training images are varied; mild, as most objects have an upright pose."""
    phases: tuple[Phase, ...] = ()
    """What is trained when, one after the other, each from the best of the one before; none trains everything at
    once, except for published weights: the head first, then more of the network."""
    views: int = 6
    """Augmented views of each training image for which frozen work is done, once, besides the plain one."""
    epochs: int = 20
    """Passes over the training images at most; another number caps every phase that published weights have by
    default."""
    batch_size: int = 32
    """Images per step."""
    accumulate: int = 1
    """Parts into which a step's images are split, one after the other, to save memory: their gradients are added."""
    start_size: int | None = None
    """Side at which training begins, pixels, to grow to `size` over two thirds of the epochs; none keeps `size`."""
    optimizer: Optimizer = "adamw"
    """AdamW (Loshchilov & Hutter, 2019), Adam (Kingma & Ba, 2015), SGD with Nesterov momentum, or Muon (Jordan et al.,
    2024; AdamW for what is no matrix)."""
    momentum: float = 0.9
    """Of SGD."""
    amsgrad: bool = False
    """Whether AdamW and Adam divide by the largest second moment so far (Reddi et al., 2018)."""
    learning_rate: float = 3e-4
    """At the start of the schedule (after warm-up); low enough for nets of eight convolutions (docs/decisions.md)."""
    weight_decay: float = 0.01
    """Decoupled for adamw, an L2 term for adam and sgd."""
    bias_rate: float = 1.0
    """Times the learning rate for the biases of batch norms."""
    schedule: Literal["cosine", "linear", "onecycle", "exponential", "step", "plateau", "constant"] = "cosine"
    """Over all epochs to zero, along a cosine or a line (a triangle with the warm-up); one-cycle; times `gamma` after
    each epoch, every `step_epochs`, or when validation has not improved for `plateau_epochs`; or no change."""
    gamma: float = 0.95
    """Factor of the exponential, step and plateau schedules."""
    step_epochs: int = 10
    """Epochs between the steps of schedule 'step'."""
    plateau_epochs: int = 2
    """Epochs without improvement that schedule 'plateau' waits through."""
    warmup_epochs: float = 1.0
    """Epochs of linear rise to the learning rate."""
    clip: float | None = None
    """Largest norm of a step's gradients; longer ones are scaled down."""
    ema: float = 0.0
    """Decay per step of an exponential moving average of the weights, such as .999, which is then validated and
    chosen; 0 keeps none."""
    swa: float = 0.0
    """Share of the epochs, the last ones, whose weights are averaged (stochastic weight averaging, Izmailov et al.,
    2018), which is then validated and chosen; 0 averages none."""
    lookahead: int = 0
    """Steps after which slow weights go half way to the fast ones (Zhang et al., 2019); 0 keeps none."""
    loss: Loss = "cross_entropy"
    """Cross-entropy, or 'focal' (Lin et al., 2017): what is known already counts less."""
    focus: float = 2.0
    """Exponent gamma of the focal loss."""
    mixup: float = 0.0
    """Alpha of Mixup (Zhang et al., 2018); 0 mixes none. With cutmix too, half of the images get each."""
    cutmix: float = 0.0
    """Alpha of CutMix (Yun et al., 2019); 0 mixes none."""
    label_smoothing: float = 0.0
    """Share of the target spread over all classes (Szegedy et al., 2016)."""
    balance: Balance = "weights"
    """'weights' lets every class weigh the same in the loss (each image by n / (classes x class size)), in training
    and in validation; without it, a class of one in twelve is not learned from a thousand photos. 'sampler' draws an
    epoch's images so that every class is as likely; 'oversample' repeats the smaller classes, varied anew each time,
    until they equal the largest."""
    monitor: Literal["val_loss", "val_acc"] = "val_loss"
    """The validation score that picks the checkpoint and stops early; loss has no ties on small splits."""
    patience: int | None = 8
    """Epochs without improvement before stopping early; none trains all epochs."""
    min_delta: float = 0.0
    """What an improvement of the monitored score must exceed to count for patience and plateau."""
    validate_every: int = 1
    """Epochs from one validation to the next; the last epoch always is."""
    time_budget: Seconds | None = None
    """Seconds, or '90s', '10m', '1.5h': epochs are fitted to end within it, judging included."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the network; 'auto' measures this machine and takes the fastest."""
    channels_last: bool | None = None
    """Memory order of images and filters; none measures this machine and takes the fastest."""
    final: bool = False
    """Train on the validation images too, for all epochs: nothing is left to choose by, and the last weights count."""
    refit: bool = True
    """Where validation chooses a head on kept features, train it once more on training and validation images together,
    for as many epochs: seconds. Validation scores stay those of the head that had not seen them."""
    overfit: int | None = None
    """Train on so many training images alone, unvaried, and be judged on them: whether it can learn at all."""
    begin: str | None = None
    """A run whose weights training begins with; classes that it does not know get a new head."""
    accept_license: bool = False
    """Whether published weights may be used whose licence does not allow every use."""
    trust_pickle: bool = False
    """Whether weights may be read from a pickle; only tensors are, but pickles have been made to do other things."""

    @property
    def mixing(self) -> Mixing:
        """How the images of a batch are mixed."""
        return Mixing(mixup=self.mixup, cutmix=self.cutmix)

    def size_in(self, epoch: int) -> int:
        """The side of images in an epoch, counted from zero, of a recipe that names its size."""
        size = self.size or 0
        if self.start_size is None:
            return size
        grown = min(1.0, epoch / max(1.0, self.epochs * _GROWING))
        unit = 32 if size >= 128 else 4
        return min(size, self.start_size + round((size - self.start_size) * grown / unit) * unit)

    def in_phase(self, phase: Phase) -> Recipe:
        """The recipe as it is during a phase."""
        own = {
            key: getattr(phase, key) for key in ("epochs", "optimizer", "learning_rate", "weight_decay", "patience")
        }
        return replace(self, **{key: value for key, value in own.items() if value is not None})

    def to_yaml(self) -> str:
        """The whole recipe, every field named."""
        return str(yaml.safe_dump(asdict(self), sort_keys=False))

    def write(self, path: Path) -> None:
        """Write as YAML, whole or not at all."""
        with writing(path) as temporary:
            temporary.write_text(self.to_yaml(), encoding="utf-8")

    def with_changes(self, changes: Mapping[str, Any], *, place: str = "the changes") -> Recipe:
        """This recipe with some keys replaced, and checked like a file's; `augment` and `network` may be partial.

        Another model drops the changes to the one before. `place` says in errors where the changes came from.
        """
        augment, network = changes.get("augment", {}), changes.get("network", {})
        if isinstance(augment, Mapping):
            augment = {**asdict(self.augment), **augment}
        if isinstance(network, Mapping) and changes.get("model", self.model) == self.model:
            network = {**self.network, **network}
        return recipe_from_mapping({**asdict(self), **changes, "augment": augment, "network": network}, place)


_GROWING = 2 / 3  # of the epochs, while images grow from start_size

_VALID: pydantic.TypeAdapter[Recipe] = pydantic.TypeAdapter(Recipe)

_LIMITS: dict[str, tuple[float, float]] = {
    "seed": (-(2**63), 2**64 - 1),  # what torch.manual_seed takes
    "val_share": (0.001, 0.9),
    "size": (4, 4096),
    "epochs": (1, 100_000),
    "batch_size": (1, 65_536),
    "learning_rate": (0, 1e3),
    "weight_decay": (0, 1e3),
    "gamma": (0, 1),
    "momentum": (0, 0.999),
    "bias_rate": (0.001, 1000),
    "accumulate": (1, 65_536),
    "start_size": (4, 4096),
    "step_epochs": (1, 100_000),
    "plateau_epochs": (0, 100_000),
    "clip": (1e-6, 1e6),
    "ema": (0, 0.999_999),
    "swa": (0, 1),
    "lookahead": (0, 10_000),
    "focus": (0, 20),
    "mixup": (0, 100),
    "cutmix": (0, 100),
    "min_delta": (0, 100),
    "validate_every": (1, 100_000),
    "time_budget": (1, 1e9),
    "overfit": (1, 1_000_000),
    "warmup_epochs": (0, 100_000),
    "label_smoothing": (0, 0.999),
    "patience": (1, 100_000),
    "views": (0, 200),
    "augment.flip": (0, 1),
    "augment.vertical_flip": (0, 1),
    "augment.shift": (0, 1),
    "augment.rotate": (0, 180),
    "augment.zoom": (0, 0.95),
    "augment.shear": (0, 80),
    "augment.brightness": (0, 1),
    "augment.contrast": (0, 1),
    "augment.saturation": (0, 1),
    "augment.hue": (0, 0.5),
    "augment.blur": (0, 99),
    "augment.erase": (0, 1),
    "augment.policy_ops": (1, 10),
    "augment.policy_strength": (0, 30),
}
"""Smallest and largest value that makes sense, both allowed."""


def load_recipe(name: str) -> Recipe:
    """A named recipe (`recipe_names`) or a YAML file.

    Raises UsageError naming the file, the key and, for a misspelt key, the nearest right one.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise UsageError(f"No such recipe file: {path}; check the path.")
        data, place = path.read_bytes(), str(path)
    elif name in recipe_names():
        data, place = _folder().joinpath(f"{name}.yaml").read_bytes(), f"recipe {name}"
    else:
        raise UnknownName("recipe", name, recipe_names())
    try:
        values = yaml.safe_load(data.decode("utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{place} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{place} is not a recipe: expected lines such as `epochs: 20`.")
    return recipe_from_mapping(values, place)


def recipe_names() -> list[str]:
    """Names of the recipes that come with Discern."""
    return sorted(f.name.removesuffix(".yaml") for f in _folder().iterdir() if f.name.endswith(".yaml"))


def about_recipe(name: str) -> str:
    """What a named recipe says of itself: the first line of its file."""
    first = _folder().joinpath(f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return str(first.removeprefix("# "))


def recipe_from_mapping(values: Mapping[str, Any], place: str) -> Recipe:
    """A Recipe from plain values; `place` says in errors where they came from."""
    _known(values, Recipe, "recipe key", place)
    phases = values.get("phases") or ()
    if not isinstance(phases, list | tuple):
        raise UsageError(f"{place}: phases = {phases!r} is not possible: give a list, such as [{{train: head}}].")
    for phase in phases:
        if isinstance(phase, Mapping):
            _known(phase, Phase, "phase key", place)
    if isinstance(values.get("augment"), Mapping):
        _known(values["augment"], Augmentation, "augment key", place)
    try:
        recipe = _VALID.validate_python(dict(values))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        if first["loc"][:1] == ("phases",) and "train" in first["loc"]:
            raise UsageError(
                f"{place}: phases: train = {first['input']!r} is not possible: give 'head', 'all', a number of layers "
                "(4), a share of them (0.3), or names of layers ([layer4])."
            ) from error
        key = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and not part.isupper())
        raise UsageError(f"{place}: {key} = {first['input']!r} is not possible: {first['msg']}.") from error
    augment = {f"augment.{key}": value for key, value in asdict(recipe.augment).items()}
    for key, value in {**asdict(recipe), **augment}.items():
        low, high = _LIMITS.get(key, (None, None))
        if low is not None and high is not None and value is not None and not low <= value <= high:
            raise UsageError(f"{place}: {key} = {value} is not possible: it must lie between {low} and {high}.")
    solved = [phase.train for phase in recipe.phases if phase.optimizer == "lbfgs"]
    if recipe.optimizer == "lbfgs" or any(train != "head" for train in solved):
        raise UsageError(
            f"{place}: lbfgs trains a linear head and nothing else: phases: [{{train: head, optimizer: lbfgs}}]."
        )
    if recipe.overfit and recipe.final:
        raise UsageError(f"{place}: overfit trains on a few images to see whether it can, final on all; choose one.")
    if recipe.ema and recipe.swa:
        raise UsageError(f"{place}: ema and swa are two averages of the weights; choose one.")
    if recipe.start_size and recipe.size and recipe.start_size > recipe.size:
        raise UsageError(f"{place}: start_size = {recipe.start_size} is larger than size = {recipe.size}.")
    if recipe.pixels == "stream":
        refuse_to_stream(recipe.balance)
    if recipe.network:
        recipe = replace(recipe, network=zoo.checked(recipe.model, recipe.network, place=place))
    return recipe


def resolved(recipe: Recipe, **chosen: Any) -> Recipe:
    """The recipe with every automatic choice replaced by what was chosen, so that it can be repeated."""
    return replace(recipe, **chosen)


def _known(values: Mapping[str, Any], kind: type[Any], what: str, place: str) -> None:
    known = [f.name for f in fields(kind)]
    for key in values:
        if key not in known:
            raise UnknownName(what, str(key), known, place=place)


def _folder() -> Any:
    return resources.files("discern") / "recipes"

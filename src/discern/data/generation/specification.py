"""What to generate: classes, their prompts and everything else that determines the images, as a YAML file."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import pydantic
import yaml

from discern.errors import UnknownName, UsageError

AXES: dict[str, str] = {"angle": "angles", "lighting": "lighting", "background": "backgrounds"}
"""Placeholder of the template -> the key that lists what can stand there, besides {prompt}, in usual order."""

MOST_COMBINATIONS = 10_000
"""Per class; planning looks at all of them for every image, which takes a second at this many."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One class."""

    prompts: tuple[str, ...]
    """Descriptions of what the images of this class show."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What to generate; with one model, equal ones give equal images. The counts are those of system D's set."""

    classes: dict[str, Subject]
    """Class name -> what it looks like; the name becomes a folder."""
    model: str = "stabilityai/stable-diffusion-xl-base-1.0"
    """Hub name of a text-to-image model that diffusers can load, or the path of a folder that holds one."""
    revision: str | None = None
    """Commit, branch or tag of a hub model; none takes the newest, and resuming keeps to what that was."""
    angles: tuple[str, ...] = ()
    """Points of view."""
    lighting: tuple[str, ...] = ()
    """Kinds of light."""
    backgrounds: tuple[str, ...] = ()
    """Surroundings."""
    template: str | None = None
    """How the parts make a prompt, such as '{prompt}, {angle}, {background}'; none joins what is given by commas."""
    negative_prompt: str = ""
    """What no image should show."""
    per_class: int = 100
    """Training images of each class."""
    test_per_class: int = 10
    """Test images of each class; 0 leaves the test split to be made later."""
    size: int = 1024
    """Side of the square images, pixels, a multiple of 8; 1024 is what SDXL was trained on."""
    steps: int = 30
    """Denoising steps; more take longer and change little beyond 30."""
    guidance: float = 6.0
    """How closely the prompt is followed (classifier-free guidance, Ho & Salimans, 2022)."""
    seed: int = 0
    """Another seed gives another set of the same kind."""

    @property
    def pattern(self) -> str:
        """The template, or the one that stands for none."""
        if self.template is not None:
            return self.template
        return ", ".join(["{prompt}", *(f"{{{name}}}" for name, key in AXES.items() if getattr(self, key))])

    def to_yaml(self) -> str:
        """Everything, every key named."""
        plain = asdict(self) | {key: list(getattr(self, key)) for key in AXES.values()}
        plain["classes"] = {name: {"prompts": list(subject.prompts)} for name, subject in self.classes.items()}
        return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=119))


_VALID: pydantic.TypeAdapter[Generation] = pydantic.TypeAdapter(Generation)

_LIMITS: dict[str, tuple[float, float]] = {
    "per_class": (1, 1_000_000),
    "test_per_class": (0, 1_000_000),
    "size": (8, 4096),
    "steps": (1, 1000),
    "guidance": (0, 100),
    "seed": (-(2**63), 2**64 - 1),
}
"""Smallest and largest value that makes sense, both allowed."""


def example() -> str:
    """A worked file: the five classes of system D, with comments."""
    return (resources.files("discern.data.generation") / "example.yaml").read_text(encoding="utf-8")


def load_generation(path: Path) -> Generation:
    """Read and check a YAML file.

    Raises UsageError naming the file, the key and, for a misspelt key, the nearest right one.
    """
    try:
        values = yaml.safe_load(path.read_bytes().decode("utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UsageError(
            f"No such file: {path}; `discern generate --example > classes.yaml` writes one to start from."
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); change its permissions.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} says nothing to generate: `discern generate --example` prints a whole file.")
    return generation_from_mapping(values, str(path))


def generation_from_mapping(values: Mapping[str, Any], place: str) -> Generation:
    """A Generation from plain values; `place` says in errors where they came from."""
    _known(values, Generation, "key", place)
    classes = values.get("classes")
    if not isinstance(classes, Mapping) or not classes:
        raise UsageError(
            f"{place} names no classes: write them below `classes:`, as `discern generate --example` shows."
        )
    for name, subject in classes.items():
        if isinstance(subject, Mapping):
            _known(subject, Subject, f"key of class '{name}'", place)
    try:
        generation = _VALID.validate_python(dict(values))
    except pydantic.ValidationError as error:
        raise UsageError(f"{place}: {_first_problem(error)}") from error
    _check_numbers(generation, place)
    _check_classes(generation, place)
    _check_template(generation, place)
    return generation


def _known(values: Mapping[str, Any], kind: type[Any], what: str, place: str) -> None:
    known = [f.name for f in fields(kind)]
    for key in values:
        if key not in known:
            raise UnknownName(what, str(key), known, place=place)


def _first_problem(error: pydantic.ValidationError) -> str:
    """The first thing that is wrong, in words for someone who writes YAML."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if first["type"] == "missing":
        return f"{key} is missing."
    shown = repr(first["input"]) if len(repr(first["input"])) <= 60 else "what stands there"
    reason = {
        "tuple_type": "it must be a list, one `- ...` per line",
        "string_type": "it must be text; put it in quotes",
        "dataclass_type": "it must hold `prompts:` with a list",
    }.get(first["type"], first["msg"])
    return f"{key} = {shown} is not possible: {reason}."


def _check_numbers(generation: Generation, place: str) -> None:
    for key, (low, high) in _LIMITS.items():
        value = getattr(generation, key)
        if not low <= value <= high:
            raise UsageError(f"{place}: {key} = {value} is not possible: it must lie between {low} and {high}.")
    if generation.size % 8:
        nearest = 8 * max(1, round(generation.size / 8))
        raise UsageError(
            f"{place}: size = {generation.size} is not possible: it must be a multiple of 8, such as {nearest}."
        )


def _check_classes(generation: Generation, place: str) -> None:
    for name, subject in generation.classes.items():
        if not name.strip() or name != Path(name).name or name.startswith((".", "__MACOSX")) or "\0" in name:
            raise UsageError(f"{place}: a class cannot be called '{name}': its name becomes a folder.")
        if not subject.prompts:
            raise UsageError(f"{place}: classes.{name}.prompts is empty; write at least one prompt.")
        _check_texts(f"classes.{name}.prompts", subject.prompts, place)
    for key in AXES.values():
        _check_texts(key, getattr(generation, key), place)
    others = math.prod(max(1, len(getattr(generation, key))) for key in AXES.values())
    for name, subject in generation.classes.items():
        if len(subject.prompts) * others > MOST_COMBINATIONS:
            raise UsageError(
                f"{place}: class '{name}' has {len(subject.prompts) * others:,} combinations of prompt, "
                f"{', '.join(AXES)}: give fewer, {MOST_COMBINATIONS:,} at most."
            )


def _check_texts(key: str, texts: tuple[str, ...], place: str) -> None:
    """Texts that are empty or stand twice would put one and the same combination into training and test."""
    for number, text in enumerate(texts):
        if not text.strip():
            raise UsageError(f"{place}: {key}.{number} is empty; write something or remove the line.")
        if text in texts[:number]:
            raise UsageError(f"{place}: {key} has '{text}' twice; remove one.")


def _check_template(generation: Generation, place: str) -> None:
    """Every placeholder exists and has something to stand for it, and nothing that is listed goes unused."""
    try:
        pieces = list(string.Formatter().parse(generation.pattern))
    except ValueError as error:
        raise UsageError(
            f"{place}: template is not possible ({error}); write such as '{{prompt}}, {{angle}}'."
        ) from error
    used = {name for _, name, _, _ in pieces if name is not None}
    for _, name, form, conversion in pieces:
        if name is not None and (name not in ("prompt", *AXES) or form or conversion):
            raise UnknownName("placeholder", name or "{}", ("prompt", *AXES), place=f"template of {place}")
    if "prompt" not in used:
        raise UsageError(f"{place}: template has no {{prompt}}: without it all classes would look the same.")
    for name, key in AXES.items():
        if name in used and not getattr(generation, key):
            raise UsageError(f"{place}: template has {{{name}}}, but {key} is empty; list some or remove it.")
        if getattr(generation, key) and name not in used:
            raise UsageError(f"{place}: {key} is given, but template has no {{{name}}}; put it in or remove {key}.")

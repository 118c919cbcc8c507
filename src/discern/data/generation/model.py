"""The text-to-image model: fetched or found, loaded through diffusers, and asked for pictures."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image
from safetensors import SafetensorError

from discern.data.generation.specification import Generation
from discern.errors import MissingExtra, UsageError
from discern.progress import Progress

WAY_ON = "give `model:` the path of a folder that holds one (with model_index.json and safetensors weights)"


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded text-to-image pipeline and what is to be recorded of it."""

    pipeline: Any
    """A diffusers text-to-image pipeline, or something that is called like one."""
    name: str
    """Hub name or folder, as it was given."""
    revision: str
    """Commit of a hub model; `blake2b-` and a digest of the files of a folder."""
    licence: str | None
    """What the model's README says its licence is; none when it says nothing."""
    device: str
    """'cuda' or 'cpu'."""
    dtype: str
    """Arithmetic: 'bfloat16' on a GPU, 'float32' on the CPU."""

    @property
    def batch(self) -> int:
        """Images painted at a time unless told otherwise: one on the CPU, whose cores a single image keeps busy."""
        return 4 if self.device == "cuda" else 1


def load_model(name: str, revision: str | None, *, progress: Progress) -> Model:
    """Load a folder or a model of the hub, on the GPU where there is one.

    Raises MissingExtra without diffusers, and UsageError that says how to go on for a model that cannot be had.
    """
    for package in ("diffusers", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "generate")
    folder, revision = _place(name, revision, progress)
    device, dtype = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
    progress.say(f"Loading {name} on the {'GPU' if device == 'cuda' else 'CPU'}.")
    from diffusers import AutoPipelineForText2Image

    family: Any = AutoPipelineForText2Image  # its methods carry no types
    try:
        with _without_bars(), _enough_memory():
            pipeline = family.from_pretrained(folder, dtype=dtype, use_safetensors=True, local_files_only=True).to(
                device
            )
    # What diffusers, transformers and safetensors raise for folders that are incomplete, damaged or of another kind.
    except (OSError, ValueError, RuntimeError, AttributeError, ImportError, SafetensorError) as error:
        raise UsageError(
            f"{name} cannot be loaded as a text-to-image model ({_first_sentence(error)}); choose another `model:`."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    if hasattr(getattr(pipeline, "vae", None), "enable_slicing"):
        pipeline.vae.enable_slicing()  # one image at a time: a batch would take most memory here
    return Model(
        pipeline=pipeline,
        name=name,
        revision=revision,
        licence=_licence(folder),
        device=device,
        dtype=str(dtype).removeprefix("torch."),
    )


def paint(
    model: Model, generation: Generation, prompts: Sequence[str], seeds: Sequence[int], *, batch: int
) -> list[Image.Image | None]:
    """One picture per prompt and seed; none where the model's safety checker, or a failure, left it black.

    Every call of the pipeline has the same shape, filled up with the last prompt: kernels round differently for
    different shapes, and so a picture does not depend on what is painted beside it. The noise is drawn on the CPU and
    so is the same on every device.
    """
    asked = {
        "negative_prompt": [generation.negative_prompt] * batch if generation.negative_prompt else None,
        "height": generation.size,
        "width": generation.size,
        "num_inference_steps": generation.steps,
        "guidance_scale": generation.guidance,
        "output_type": "pil",
    }
    asked = {key: value for key, value in asked.items() if value is not None}
    _check_taken(model, asked)
    pictures: list[Image.Image | None] = []
    for start in range(0, len(prompts), batch):
        real = len(prompts[start : start + batch])
        fill = [start + min(k, real - 1) for k in range(batch)]
        generators = [torch.Generator("cpu").manual_seed(seeds[k]) for k in fill]
        try:
            with _without_warnings(), _enough_memory():
                done = model.pipeline(prompt=[prompts[k] for k in fill], generator=generators, **asked)
        except ValueError as error:
            raise UsageError(
                f"{model.name} refuses these settings ({_first_sentence(error)}); change them."
            ) from error
        flagged = getattr(done, "nsfw_content_detected", None) or [False] * batch
        for picture, flag in list(zip(done.images, flagged, strict=True))[:real]:
            _check_size(model, picture, generation.size)
            black = not any(high for _, high in picture.convert("RGB").getextrema())
            pictures.append(None if flag or black else picture.convert("RGB"))
    return pictures


def too_long(model: Model, texts: Sequence[str]) -> list[str]:
    """The texts of which every text encoder of the model cuts off the end."""
    names = ("tokenizer", "tokenizer_2", "tokenizer_3")
    tokenizers = [t for t in (getattr(model.pipeline, name, None) for name in names) if t is not None]
    with _without_warnings():
        return [
            text
            for text in texts
            if tokenizers and all(len(t(text).input_ids) > t.model_max_length for t in tokenizers)
        ]


def _place(name: str, revision: str | None, progress: Progress) -> tuple[Path, str]:
    """The folder that holds the model, and its revision."""
    path = Path(name).expanduser()
    if not path.is_dir():
        if path.exists() or not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
            wrong = "is a file" if path.exists() else "does not exist"
            raise UsageError(f"The model {name} {wrong}: give a hub name such as owner/model, or {WAY_ON[5:]}.")
        return _fetched(name, revision)
    if not (path / "model_index.json").is_file():
        raise UsageError(f"The folder {path} holds no diffusers model (it has no model_index.json); {WAY_ON}.")
    progress.say(f"Reading {name}.")
    found = f"blake2b-{_digest(path)}"
    if revision not in (None, found):
        raise UsageError(
            f"The folder {path} holds the model {found}, not {revision}, which was asked for or used so far: put that "
            "one back, or leave out `revision:` and give a new folder for the images."
        )
    return path, found


def _digest(folder: Path) -> str:
    """32 hexadecimal digits that change with any file the pipeline may be made of; a GB takes about a second."""
    files = [file for file in folder.rglob("*") if file.suffix in (".json", ".safetensors", ".txt", ".model")]
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(files):
        digest.update(f"\0{file.relative_to(folder).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as content:
            while piece := content.read(1 << 24):
                digest.update(piece)
    return digest.hexdigest()


def _fetched(name: str, revision: str | None) -> tuple[Path, str]:
    """A hub model's folder in the cache, downloaded where needed, and its commit."""
    from diffusers import DiffusionPipeline
    from huggingface_hub import hf_hub_download

    try:
        folder = Path(DiffusionPipeline.download(name, revision=revision, use_safetensors=True))
    except (OSError, ValueError) as error:
        raise UsageError(_why_not_fetched(name, revision, error)) from error
    with suppress(OSError):  # without its README the licence stays unknown
        hf_hub_download(name, "README.md", revision=folder.name)
    return folder, folder.name


def _why_not_fetched(name: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import errors

    reasons = [error, error.__cause__, error.__context__]

    def because(*kinds: type[Exception]) -> bool:
        return any(isinstance(reason, kinds) for reason in reasons)

    if because(errors.GatedRepoError):
        return (
            f"The model {name} asks you to accept its terms: do so on its page, run `hf auth login`, then try again."
        )
    if because(errors.RepositoryNotFoundError):
        return f"There is no model {name} on the hub, or it is private: check the name, or run `hf auth login`."
    if because(errors.RevisionNotFoundError):
        return f"The model {name} has no revision '{revision}' on the hub; leave `revision:` out for the newest."
    if because(ValueError):
        return f"The model {name} cannot be used ({_first_sentence(error)}); choose another `model:`."
    return f"The model {name} is not in the cache and cannot be downloaded from the hub: connect, or {WAY_ON}."


def _licence(folder: Path) -> str | None:
    """The `license` of the model card, which is the YAML between the first two lines of dashes."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    found = re.match(r"---\s*\n(.*?)\n---\s*\n", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        about = yaml.safe_load(found[1]) if found else None
    except yaml.YAMLError:
        return None
    licence = (about.get("license_name") or about.get("license")) if isinstance(about, dict) else None
    return str(licence) if licence else None


def _check_taken(model: Model, asked: dict[str, Any]) -> None:
    """A setting that a pipeline does not know would be left out without a word."""
    keys = {"negative_prompt": "negative_prompt", "guidance_scale": "guidance", "height": "size"}
    taken = inspect.signature(model.pipeline.__call__).parameters
    for word, key in keys.items():
        if word in asked and word not in taken:
            raise UsageError(f"{model.name} takes no {key}: remove `{key}:`, or choose another `model:`.")


def _check_size(model: Model, picture: Image.Image, size: int) -> None:
    if picture.size != (size, size):
        raise UsageError(
            f"{model.name} paints {picture.width} x {picture.height} pixels where size is {size}: set `size:` to what "
            "it can do."
        )


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UsageError(
            "The GPU's memory is too small: give the same command --batch 1, or take a smaller `size:` or `model:`."
        ) from error


@contextmanager
def _without_bars() -> Iterator[None]:
    """Loading a model of a dozen files draws two dozen bars."""
    with ExitStack() as restore:
        for library in _loggers():
            if library.is_progress_bar_enabled():
                restore.callback(library.enable_progress_bar)
                library.disable_progress_bar()
        yield


@contextmanager
def _without_warnings() -> Iterator[None]:
    """What they say of every image, flagged or cut off, is told once for all."""
    with ExitStack() as restore:
        for library in _loggers():
            restore.callback(library.set_verbosity, library.get_verbosity())
            library.set_verbosity(library.CRITICAL)
        yield


def _loggers() -> tuple[Any, Any]:
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    return of_diffusers, of_transformers


def _first_sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    first = re.split(r"(?<=[.!?]) (?=[A-Z])", text)[0].rstrip(".")
    return first if len(first) <= 200 else f"{first[:200]} ..."

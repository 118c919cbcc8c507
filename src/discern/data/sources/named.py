"""Named sets: the usual benchmarks, fetched once from the Hugging Face hub, where they are kept as Parquet."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from discern.errors import UsageError, storing
from discern.files import cache_folder, write_json
from discern.progress import Progress

PATIENCE = 10.0
"""Seconds to wait for the hub's first answer; who is offline should read so before reaching for Ctrl-C."""


@dataclass(frozen=True, kw_only=True)
class Set:
    """A set of labelled images on the hub."""

    repository: str
    """Owner and name there."""
    folder: str
    """The folder in it with a Parquet file or more per split."""
    megabytes: int
    """To download, about."""


SETS = {
    "cifar10": Set(repository="uoft-cs/cifar10", folder="plain_text", megabytes=144),
    "cifar100": Set(repository="uoft-cs/cifar100", folder="cifar100", megabytes=142),
    "fashion-mnist": Set(repository="zalando-datasets/fashion_mnist", folder="fashion_mnist", megabytes=36),
    "flowers": Set(repository="Donghyun99/Oxford-Flower-102", folder="data", megabytes=347),
    "mnist": Set(repository="ylecun/mnist", folder="mnist", megabytes=18),
    "pets": Set(repository="timm/oxford-iiit-pet", folder="data", megabytes=791),
    "stl10": Set(repository="tanganke/stl10", folder="data", megabytes=231),
    "svhn": Set(repository="ufldl-stanford/svhn", folder="cropped_digits", megabytes=183),
}
"""By the names that people call them; each has the split into training and test images that is published."""

WANTED = ("train-*.parquet", "validation-*.parquet", "test-*.parquet")
"""Of a set's files; what is in none of these splits (the extra images of svhn) stays there."""

Download = Callable[[Set, Path], str]
"""Puts a set's files below a folder and tells their version."""


def set_called(word: str) -> str | None:
    """The name in SETS that is meant, in any capitals and with `_` for `-`."""
    name = word.lower().replace("_", "-")
    return name if name in SETS else None


def nearest(word: str) -> str | None:
    """The name that is nearest to a word, if any is near."""
    return next(iter(difflib.get_close_matches(word.lower().replace("_", "-"), SETS, n=1, cutoff=0.7)), None)


def fetch(name: str, progress: Progress, download: Download | None = None) -> Path:
    """The folder with the Parquet files of a named set, downloaded unless it is in the cache already.

    Raises UsageError when that is not possible, with the way on.
    """
    wanted, folder = SETS[name], cache_folder() / "sets" / name
    complete = folder / "complete.json"
    if not complete.exists():
        progress.say(f"Downloading {name}, about {wanted.megabytes} MB, from {_page(wanted)} into {folder}")
        with storing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            version = (download or _from_hub)(wanted, folder)
        except Exception as error:  # the hub's client raises all kinds, and none of them has a common ancestor
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(
                f"The set '{name}' could not be downloaded from {_page(wanted)} ({reason}); where there is a network, "
                f"put its Parquet files (the folder {wanted.folder}/) into a folder and name that instead of '{name}'."
            ) from error
        if not any((folder / wanted.folder).glob("*.parquet")):
            raise UsageError(f"{_page(wanted)} has no Parquet files in {wanted.folder}/ any more; get them elsewhere.")
        write_json(complete, {"repository": wanted.repository, "version": version})
    return folder / wanted.folder


def _page(wanted: Set) -> str:
    return f"huggingface.co/datasets/{wanted.repository}"


def _from_hub(wanted: Set, folder: Path) -> str:
    from huggingface_hub import HfApi, snapshot_download

    # Asked first, as it takes a time limit; the download of a snapshot waits for ever for a hub that does not answer.
    version = HfApi().repo_info(wanted.repository, repo_type="dataset", timeout=PATIENCE).sha
    snapshot_download(
        wanted.repository,
        repo_type="dataset",
        revision=version,
        local_dir=folder,
        allow_patterns=[f"{wanted.folder}/{pattern}" for pattern in WANTED],
        etag_timeout=PATIENCE,
    )
    return str(version)

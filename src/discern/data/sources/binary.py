"""Binary files of small images: IDX (MNIST and its relatives) and the binary version of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import polars as pl

from discern.data.records import cifar_labels, idx_labels, idx_layout
from discern.data.sources.listing import Listing, listing_of, refuse_half_splits, rows_inside, split_of
from discern.errors import DataError

_IDX_IMAGES = re.compile(r"(.*)images([-.])idx[34]-ubyte(\.gz)?")
_CIFAR_NAMES = ("batches.meta.txt", "fine_label_names.txt")
_PICKLES = ({"batches.meta", "test_batch"}, {"meta", "train", "test"})


def accepts(path: Path) -> bool:
    """An IDX file of images, or a folder with such files, in it or in raw/, or with CIFAR's batches."""
    return bool(_idx_files(path) or _cifar_files(path)) or _is_pickled(path)


def listing(path: Path) -> Listing:
    """The images of all files; classes are numbers, or named by the file beside the batches."""
    if _is_pickled(path):
        raise DataError(
            f"{path} holds CIFAR as Python pickles, and reading a pickle can run whatever code is in it: download the "
            "binary version (cifar-10-binary.tar.gz, cifar-100-binary.tar.gz) and name its folder."
        )
    files = _idx_files(path) or _cifar_files(path)
    root = path if path.is_dir() else path.parent
    names = _class_names(path)
    splits = [split_of(file.name.replace("t10k", "test").replace("data_batch", "train")) for file in files]
    refuse_half_splits(list(zip(files, splits, strict=True)))
    parts = []
    for file, split in zip(files, splits, strict=True):
        labels = [str(label) for label in _labels(file)]
        if names:
            labels = [_name(names, int(label), file) for label in labels]
        parts.append(rows_inside(root, file.relative_to(root).as_posix(), labels, split))
    return listing_of(root, pl.concat(parts), classes=names)


def _idx_files(path: Path) -> list[Path]:
    """Images in IDX files; of a file that is there packed and unpacked the latter."""
    if path.is_file():
        return [path] if _IDX_IMAGES.fullmatch(path.name) else []
    places = [file for folder in (path, path / "raw") if folder.is_dir() for file in sorted(folder.iterdir())]
    found = {file for file in places if _IDX_IMAGES.fullmatch(file.name)}
    return sorted(file for file in found if file.suffix != ".gz" or file.with_suffix("") not in found)


def _cifar_files(path: Path) -> list[Path]:
    found = [*path.glob("data_batch_*.bin"), *path.glob("test_batch.bin")]
    if (path / "fine_label_names.txt").is_file():
        found += [file for file in (path / "train.bin", path / "test.bin") if file.is_file()]
    return sorted(found)


def _is_pickled(path: Path) -> bool:
    """Whether the folder holds the version of CIFAR that torchvision downloads."""
    return any(all((path / name).is_file() for name in names) for names in _PICKLES)


def _labels(file: Path) -> list[int]:
    """The label of every image, once it is sure that there are as many images."""
    try:
        if file.suffix == ".bin":
            return [int(label) for label in cifar_labels(file)]
        labels, layout = idx_labels(_idx_labels_file(file)), idx_layout(file)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{file} or its labels cannot be read ({error}); download them again.") from error
    if len(labels) != layout.count:
        raise DataError(f"{file} has {layout.count} images, but there are {len(labels)} labels; download both again.")
    size, wanted = file.stat().st_size, layout.start + layout.count * layout.size
    if file.suffix != ".gz" and size < wanted:  # of a packed file it shows when it is unpacked
        raise DataError(f"{file} is cut off: it has {size:,} bytes instead of {wanted:,}; download it again.")
    return [int(label) for label in labels]


def _idx_labels_file(images: Path) -> Path:
    name = re.sub(r"images([-.])idx[34]", r"labels\1idx1", images.name.removesuffix(".gz"))
    found = next((file for file in (images.with_name(name), images.with_name(f"{name}.gz")) if file.is_file()), None)
    if found is None:
        raise DataError(f"{images} has no labels beside it: expected {name} or {name}.gz.")
    return found


def _class_names(path: Path) -> list[str] | None:
    """The names in the text file that comes with CIFAR, one on each line; None where there is no such file."""
    file = next((path / name for name in _CIFAR_NAMES if (path / name).is_file()), None)
    if file is None:
        return None
    return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def _name(names: list[str], label: int, file: Path) -> str:
    if label >= len(names):
        raise DataError(f"{file} has the label {label}, but {len(names)} classes are named beside it.")
    return names[label]

"""Fixtures that several rooms share: small folders of images, a cache of their own, the real data."""

import gzip
import io
import json
import os
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import settings
from PIL import Image

from discern.cli.main import main
from discern.data import decode, scan, sources  # noqa: F401 - loaded before a test gives up its rights

# A machine with other work to do is slow now and then; no test is about its own time.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Every test scans into a cache of its own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DISCERN_CACHE", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path):
    """A factory: `photos({"cat": 3, "train/dog": 2})` writes that many distinct images and gives the folder.

    The files are JPEG and PNG in turns, named 0.jpg, 1.png, ...; every call in a test gives other pictures.
    """
    made = 0

    def write(counts, *, into="photos", side=24):
        nonlocal made
        root = tmp_path / into
        root.mkdir(exist_ok=True)
        for folder, count in counts.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                made += 1
                picture = Image.fromarray(np.random.default_rng(made).integers(0, 256, (side, side + 8, 3), np.uint8))
                picture.save(root / folder / (f"{number}.jpg" if number % 2 == 0 else f"{number}.png"))
        return root

    return write


@pytest.fixture
def real_data():
    """The folder of real data that DISCERN_DATA names."""
    if "DISCERN_DATA" not in os.environ:
        pytest.skip("DISCERN_DATA is not set: no real data")
    return Path(os.environ["DISCERN_DATA"])


@contextmanager
def _unprivileged():
    """The block runs without root's right to read and write everything."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("root here cannot become another user")
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def unprivileged():
    """A context manager that takes root's rights away."""
    return _unprivileged


@pytest.fixture
def shared_tmp():
    """A temporary folder that other users can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name).resolve()


@pytest.fixture
def mounted(tmp_path):
    """A factory of mounted file systems: `mounted("size=64k")` is a disk that is soon full, not an imitation."""
    places = []

    def mount(options):
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("no right to mount a file system")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", place], check=True)


@dataclass(frozen=True)
class Answer:
    """What one command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one object on standard output; anything else there is an error."""
        return json.loads(self.out)


TINY = ("--model", "simple-cnn", "--size", "8", "--epochs", "2", "--set", "precision=float32")
TINY += ("--set", "channels_last=false")
"""Options of a training that takes half a second; the arithmetic is given so that none is measured."""


@pytest.fixture
def tiny():
    """The options of a training of half a second."""
    return TINY


@pytest.fixture
def discern(capfd):
    """The command line in this process: `discern("train", photos).code`."""

    def call(*words):
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Answer(left.value.code or 0, out, err)

    return call


def write_colours(root, counts, seed=8):
    """Folders of 20 x 24 images whose colour tells the class; some grey, with alpha, or turned by EXIF."""
    random = np.random.default_rng(seed)  # with 8, every kind is among the judged images of `trained`
    for k, (folder, count) in enumerate(counts.items()):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture = random.integers(0, 120, (20, 24, 3))
            picture[..., k % 3] += 100
            image, exif, name = Image.fromarray(picture.astype(np.uint8)), Image.Exif(), f"{number}.jpg"
            if number % 4 == 1:
                image, name = image.convert("L"), f"{number}.png"
            elif number % 4 == 2:
                image, name = image.copy(), f"{number}.png"
                image.putalpha(Image.fromarray(random.integers(0, 256, (20, 24), np.uint8)))
            elif number % 4 == 3:
                exif[0x0112] = 6
            image.save(root / folder / name, **({"exif": exif} if number % 4 == 3 else {}))
    return root


@pytest.fixture
def colours(tmp_path):
    """A factory: `colours({"red": 8, "green": 8})` writes images that a tiny network can tell apart.

    They begin like those that `trained` was trained with unless another seed is given.
    """
    return lambda counts, into="colours", seed=8: write_colours(tmp_path / into, counts, seed)


def scene(seed, kind, side):
    """A smooth coloured picture, each seed another; its colour and its texture tell the kind."""
    random = np.random.default_rng(seed)
    sizes, shape = ((6, 5), (24, 20), (side, side * 3 // 4)), (side, side * 3 // 4)
    layers = [random.integers(0, 256, (height, width, 3), np.uint8) for width, height in sizes]
    grown = [np.asarray(Image.fromarray(layer).resize(shape, Image.Resampling.BICUBIC), float) for layer in layers]
    weights = ((0.6, 0.2, 0.1), (0.3, 0.5, 0.1), (0.5, 0.1, 0.3))[kind % 3]
    picture = sum(weight * layer for weight, layer in zip(weights, grown, strict=True))
    picture[..., kind % 3] += 25
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def draw_scene():
    """`draw_scene(seed, kind, side)`: a single picture of those that `scenes` writes."""
    return scene


@pytest.fixture
def scenes(tmp_path):
    """A factory: `scenes({"cat": 30, "train/dog": 30})` writes pictures as photos are: smooth, with fine detail.

    They are JPEG files named 000.jpg, ...; the last part of the folder decides what kind they are.
    """
    made = 0

    def write(counts, *, into="scenes", side=96):
        nonlocal made
        kinds = sorted({Path(folder).name for folder in counts})
        for folder, count in counts.items():
            place = tmp_path / into / folder
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                made += 1
                scene(made, kinds.index(Path(folder).name), side).save(place / f"{number:03d}.jpg", quality=90)
        return tmp_path / into

    return write


@dataclass(frozen=True)
class Trained:
    """A finished Run that tests share; look, do not touch."""

    photos: Path
    run: Path
    before: dict
    """Bytes and modification time of every file below photos before training."""

    @property
    def now(self):
        """The same as it is now."""
        return contents(self.photos)


def contents(folder):
    """Bytes and modification time of every file below a folder, by its name there."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """One Run of three classes, made by `discern train` in the shortest way."""
    folder = tmp_path_factory.mktemp("trained")
    photos = write_colours(folder / "photos", {"red": 12, "green": 12, "blue": 12})
    before = contents(photos)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCERN_CACHE", str(folder / "cache"))
        with pytest.raises(SystemExit) as left:
            main(["train", str(photos), *TINY, "--runs", str(folder / "runs"), "--name", "first"])
    assert not left.value.code
    return Trained(photos, folder / "runs" / "first", before)


def _pack_tar(place, images, together):
    for start in range(0, len(images), together):
        with tarfile.open(place / f"{start:05}.tar", "w") as shard:
            for number, file in enumerate(images[start : start + together], start):
                for name, data in (
                    (f"{number:05}{file.suffix}", file.read_bytes()),
                    (f"{number:05}.cls", file.parent.name.encode()),
                ):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    shard.addfile(info, io.BytesIO(data))


def _pack_parquet(place, images, together):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    column = pa.array([{"bytes": file.read_bytes(), "path": file.name} for file in images], kind)
    table = pa.table({"image": column, "label": [file.parent.name for file in images]})
    pq.write_table(table, place / "photos.parquet", row_group_size=together)


def _pack_idx(place, images, together):
    pictures = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in images])
    classes = sorted({file.parent.name for file in images})
    labels = np.array([classes.index(file.parent.name) for file in images], np.uint8)
    for name, values in (("train-images-idx4-ubyte", pictures), ("train-labels-idx1-ubyte", labels)):
        head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
        (place / f"{name}.gz").write_bytes(gzip.compress(head + values.tobytes()))


@pytest.fixture
def pack(tmp_path):
    """A factory: `pack(photos, "tar")` writes the images of class folders into tar shards of `together` images.

    Or into "parquet" with row groups of as many, or as "idx"; "folder" leaves them as they are. It gives the place.
    """
    packers = {"tar": _pack_tar, "parquet": _pack_parquet, "idx": _pack_idx}

    def write(photos, kind, *, together=10):
        if kind == "folder":
            return photos
        place = tmp_path / f"{photos.name}-{kind}"
        place.mkdir()
        packers[kind](place, sorted(file for file in photos.rglob("*") if file.is_file()), together)
        return place

    return write

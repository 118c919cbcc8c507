"""Claims: the seconds of a training epoch grow with the number of images, and with their pixels, not faster; the
memory of the process does not grow with the number of images.

    python bench/epoch_cost.py

By images: the fast net on growing parts of CIFAR-10, 32 pixels. By pixels: ResNet-18 from scratch on data/tools at
growing sizes. Seconds are those of the training images in the quickest of the epochs but the first, validation left
out. An exponent of 1, the slope between the logarithms, is linear; below 1, what is fixed weighs more than what grows.
"""

from __future__ import annotations

import argparse

import measure
import numpy as np
import pictures
from trainings import by_discern

IMAGES, SIZES = (5_000, 10_000, 20_000, 40_000), (64, 96, 128, 192, 256)

GATE = ("--leakage", "allow", "--because", "nothing is measured but time")


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description="Cost of an epoch against images and pixels.")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="two small steps of each, no RESULTS.md")
    asked = parser.parse_args()
    setting = measure.setting()
    images, sizes = ((1_000, 2_000), (32, 64)) if asked.quick else (IMAGES, SIZES)
    parts = [by_images(images, asked.epochs), by_pixels(sizes, asked.epochs)]
    measure.publish("Cost of an epoch", "\n\n".join(parts), setting, quick=asked.quick)


def by_images(counts: tuple[int, ...], epochs: int) -> str:
    """The fast net on so many images."""
    rows = []
    with measure.scratch() as folder:
        for count in counts:
            pictures.written(pictures.some(pictures.cifar(), count), folder / str(count))
            rows.append((count, *cost(folder / str(count), "--recipe", "fast", epochs=epochs)))
    return told("images", rows, "The fast net, 32 pixels.")


def by_pixels(sizes: tuple[int, ...], epochs: int) -> str:
    """ResNet-18 on photos of so many pixels."""
    photos = pictures.data() / "tools" / "dataset"
    words = ("--model", "resnet18-scratch", "--set", "patience=null")
    rows = [(size**2, *cost(photos, *words, "--size", str(size), epochs=epochs)) for size in sizes]
    return told("pixels", rows, "ResNet-18 from scratch on data/tools.")


def cost(photos: object, *words: str, epochs: int) -> tuple[int, float, int]:
    """Training images, seconds for them in the quickest epoch but the first, and the most memory held."""
    turn = by_discern(photos, *words, *GATE, "--epochs", str(epochs))
    lines = turn.told["metrics"]
    count = turn.told["info"]["data"]["splits"]["train"]
    seconds = min(count / line["images_per_second"] for line in lines[1:])
    print(words, count, f"{seconds:.2f} s", f"{turn.peak / 1e9:.2f} GB", flush=True)
    return count, seconds, turn.peak


def told(what: str, rows: list[tuple[int, int, float, int]], setting: str) -> str:
    """A table, and how the seconds grow."""
    x, seconds = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
    exponent = np.polyfit(np.log(x), np.log(seconds), 1)[0]
    straight = np.corrcoef(x, seconds)[0, 1] ** 2
    cells = [
        [f"{row[0]:,}", f"{row[1]:,}", f"{row[2]:.2f}", f"{1e6 * row[2] / row[0]:.1f}", f"{row[3] / 1e9:.2f}"]
        for row in rows
    ]
    columns = [what, "trained on", "seconds per epoch", f"µs per {what[:-1]}", "GB at most"]
    return (
        f"{setting} Seconds against {what}: exponent {exponent:.2f}, R² of a straight line {straight:.4f}.\n\n"
        f"{measure.table(columns, cells)}"
    )


if __name__ == "__main__":
    main()

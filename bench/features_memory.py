"""Claim: features of 100,000 images are computed and kept in under 4 GB of memory.

    python bench/features_memory.py

CIFAR-10's 60,000 images and 40,000 mirrored crops of them as JPEG files; `discern embed` with MobileNetV2 at 64
pixels in a process of its own, whose memory is watched from outside.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import measure
import pictures

LIMIT = 4.0  # GB

_EMBED = [sys.executable, "-c", "from discern.cli.main import main; main()", "embed"]


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description="Memory of computing and keeping features.")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--quick", action="store_true", help="2,000 images, nothing written to RESULTS.md")
    asked = parser.parse_args()
    images = 2_000 if asked.quick else asked.images
    setting = measure.setting()
    weights = Path(os.environ["DISCERN_DATA"]) / "weights/mobilenetv2_100.imagenet"
    with measure.scratch() as folder:
        pictures.small_photos(folder / "photos", images)
        words = [*_EMBED, folder / "photos", "--model", "mobilenetv2_100", "--weights", weights, "--size", "64"]
        ended = measure.run([*words, "--out", folder / "out.parquet"], DISCERN_CACHE=folder / "cache")
        kept = sum(file.stat().st_size for file in (folder / "cache" / "features").rglob("*") if file.is_file())
    row = [
        f"{images:,}",
        f"{ended.seconds:.0f}",
        f"{ended.own / 1e9:.2f}",
        f"{ended.peak / 1e9:.2f}",
        f"{kept / 1e9:.2f}",
    ]
    columns = ["images", "seconds", "own GB at most", "GB at most, mapped files included", "GB kept on disk"]
    text = f"Claimed: under {LIMIT:.0f} GB.\n\n{measure.table(columns, [row])}"
    measure.publish("Features: memory", text, setting, quick=asked.quick)


if __name__ == "__main__":
    main()

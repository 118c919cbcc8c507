"""One rendering process: reads jobs from standard input, writes files, answers with one line each.

A plain child process rather than a pool: it needs no guard in the caller's script, works from notebooks
and standard input, limits its own threads before numpy loads, and ends by itself when its parent dies.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from discern.data.synthetic.faults import as_jpeg, damaged, shrunk
from discern.data.synthetic.plan import Entry
from discern.data.synthetic.render import generator, picture


def produce(folder: Path, entry: Entry, *, seed: int, size: int, domain: str) -> None:
    """Render one planned original into the folder, its mask into the hidden folder."""
    key = {"seed": seed, "split": entry.split, "index": entry.index, "size": size, "domain": domain}
    pixels, mask = picture(entry.true_class, **key)  # type: ignore[arg-type]
    if entry.fault == "tiny":
        pixels, mask = shrunk(pixels, entry), (shrunk(mask, entry) > 127).astype(np.uint8) * 255
    quality = int(generator("quality", *key.values(), entry.true_class).integers(80, 96))
    data = as_jpeg(Image.fromarray(pixels), quality)
    if entry.fault == "unreadable":
        data = damaged(data, entry.detail or "")
    (folder / entry.path).write_bytes(data)
    if entry.mask is not None:
        Image.fromarray(mask).save(folder / entry.mask, compress_level=3)


def main() -> None:
    """Serve jobs until standard input ends."""
    cv2.setNumThreads(1)
    for line in sys.stdin:
        job = json.loads(line)
        produce(
            Path(job["folder"]),
            Entry(**job["entry"]),
            seed=job["seed"],
            size=job["size"],
            domain=job["domain"],
        )
        print("done", flush=True)

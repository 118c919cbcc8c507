"""Claims: 100,000 small images scan in constant memory; a second audit of unchanged data takes under 5 % of the first.

    python bench/scan_memory.py

The images are JPEG files: CIFAR-10's 60,000 and 40,000 mirrored crops of them. First a scan in a process of its own,
which notes its memory after every tenth of the images. Memory of its own is what it cannot give back; the mapped file
of pixels grows with the data but is the system's file cache, which gives way when others need the room. Then `discern
audit` on an empty cache, and again and again on the same folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import measure
import pictures

from discern.data.scan import scan
from discern.data.sources import open_dataset
from discern.progress import Advance, Silent
from discern.steps.audit import size_for

GROWTH = 0.1
"""Of a scan's own memory from the first tenth of the images to the last, up to which it counts as constant."""

SHARE = 0.05
"""Of the time of a first audit that a second one may take."""

_AUDIT = [sys.executable, "-c", "from discern.cli.main import main; main()", "audit"]


class Course(Silent):
    """A Progress that notes the memory of this process after every tenth of the images."""

    def __init__(self) -> None:
        self.noted: list[dict[str, float]] = []
        self._began = time.perf_counter()

    def note(self, images: int) -> None:
        """Note it now."""
        self.noted.append({"images": images, "seconds": time.perf_counter() - self._began, **measure.memory()})

    @contextmanager
    def track(self, label: str, total: int, unit: str = "images") -> Iterator[Advance]:
        """Note it at every tenth; the scan calls this from one thread at a time."""
        done = 0

        def advance(more: int, note: str) -> None:
            nonlocal done
            before, done = done, done + more
            if done * 10 // total > before * 10 // total:
                self.note(done)

        yield advance


def main() -> None:
    """Measure both claims."""
    parser = argparse.ArgumentParser(description="Memory of a scan, and the time of a second audit.")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5, help="audits after the first")
    parser.add_argument("--quick", action="store_true", help="5,000 images, nothing written to RESULTS.md")
    parser.add_argument("--child", nargs=2, metavar=("PHOTOS", "ANSWER"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        photos, answer = asked.child
        Path(answer).write_text(json.dumps(scanned(photos)))
        return
    images = 5000 if asked.quick else asked.images
    setting = measure.setting()
    with measure.scratch() as folder:
        pictures.small_photos(folder / "photos", images)
        answer = folder / "answer.json"
        measure.run([sys.executable, __file__, "--child", folder / "photos", answer], DISCERN_CACHE=folder / "cache-1")
        found = json.loads(answer.read_text())
        print(f"scan: {found['course'][-1]}", flush=True)
        audits = []
        for _ in range(1 + asked.repeats):
            command = [*_AUDIT, folder / "photos", "--out", folder / "audit"]
            audits.append(measure.run(command, DISCERN_CACHE=folder / "cache-2"))
            print(f"audit: {audits[-1]}", flush=True)
    measure.publish("Scan: memory", memory_section(found), setting, quick=asked.quick)
    measure.publish("Audit: the second time", audit_section(images, audits), setting, quick=asked.quick)


def scanned(photos: str) -> dict[str, Any]:
    """The course of a first scan's memory, and the seconds of it and of a second one, listing included."""
    course, began = Course(), time.perf_counter()
    listing = open_dataset(photos)
    course.note(0)
    dataset, _ = scan(listing, size=size_for(listing), fit="pad", progress=course)
    course.note(len(dataset))
    first = time.perf_counter() - began
    listing = open_dataset(photos)
    scan(listing, size=size_for(listing), fit="pad")
    return {"course": course.noted, "first": first, "second": time.perf_counter() - began - first}


def memory_section(found: dict[str, Any]) -> str:
    """The course as a table."""
    listed, *course, ended = found["course"]
    own = [note["RssAnon"] for note in course]
    names = ["listed", *(f"{note['images']:,}" for note in course), "scan ended"]
    rows = [
        [name, f"{note['seconds']:.1f}", *(f"{note[kind] / 1e6:.0f}" for kind in ("RssAnon", "RssFile", "VmHWM"))]
        for name, note in zip(names, [listed, *course, ended], strict=True)
    ]
    verdict = "constant" if max(own) <= own[0] * (1 + GROWTH) else "not constant"
    return (
        f"{ended['images']:,} JPEG files of 32 × 32 in one scan. From the first tenth of the images to the last, its "
        f"own memory is {min(own) / 1e6:.0f} to {max(own) / 1e6:.0f} MB, at most {max(own) / own[0] - 1:+.0%} on the "
        f"first ({verdict}, the limit being {GROWTH:+.0%}); with the table of what was found, a row for each image, "
        f"it ends at {ended['RssAnon'] / 1e6:.0f} MB. Listing and scanning took {found['first']:.1f} s, again in the "
        f"same process {found['second']:.2f} s ({found['second'] / found['first']:.1%}).\n\n"
        + measure.table(["images read", "seconds", "own MB", "mapped MB", "peak of both MB"], rows)
        + "\n\nMapped are libraries and the file of pixels, which is the system's file cache: it can take that back."
    )


def audit_section(images: int, audits: list[measure.Ended]) -> str:
    """First against later audits."""
    first, *later = audits
    seconds = [each.seconds for each in later]
    share = statistics.median(seconds) / first.seconds
    rows = [
        ["first", f"{first.seconds:.1f}", f"{first.own / 1e6:.0f}", f"{first.peak / 1e6:.0f}"],
        [
            f"later ({len(later)})",
            measure.spread(seconds),
            *(measure.spread([getattr(each, kind) / 1e6 for each in later], 0) for kind in ("own", "peak")),
        ],
    ]
    return (
        f"`discern audit` of {images:,} JPEG files of 32 × 32, whole processes. A later audit of the same files takes "
        f"{share:.1%} of the first (claimed: under {SHARE:.0%}).\n\n"
        + measure.table(["audit", "seconds", "own MB at most", "MB at most, mapped files included"], rows)
    )


if __name__ == "__main__":
    main()

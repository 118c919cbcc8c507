"""What the audit finds of faults that are put in on purpose: built-in parts, tools, CIFAR-10.

    python bench/self_check.py parts tools --seeds 3
    python bench/self_check.py cifar10 --seeds 1

The same as `discern audit --self-check`, with features of the pretrained backbone below $DISCERN_DATA/weights and, for
comparison, with patches of the images themselves, which need no network. Seeds choose the images and the wrong labels.
"""

from __future__ import annotations

import argparse
import time

import measure
import pictures

from discern.data.dataset import Dataset
from discern.data.sources import open_dataset
from discern.data.synthetic.parts import Parts, ensure
from discern.steps.self_check import Row, SelfCheck, self_check

BACKBONE, WEIGHTS = "mobilenetv2_100", "mobilenetv2_100.imagenet"


def parts() -> Dataset:
    """The built-in images of the demo."""
    return open_dataset(ensure(Parts()))


SETS = {"parts": parts, **pictures.SETS}


def main() -> None:
    """Check every set that was asked for."""
    parser = argparse.ArgumentParser(description="Self-check on real images.")
    parser.add_argument("sets", nargs="+", choices=SETS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", type=int, help="only so many of the images, at random")
    parser.add_argument("--patches", action="store_true", help="also with patches in place of the backbone")
    parser.add_argument("--quick", action="store_true", help="600 images, one seed, nothing written to RESULTS.md")
    asked = parser.parse_args()
    if asked.quick:
        asked.images, asked.seeds = asked.images or 600, 1
    weights = str(pictures.data() / "weights" / WEIGHTS)
    for name in asked.sets:
        setting = measure.setting()
        dataset = SETS[name]()
        dataset = pictures.some(dataset, asked.images or len(dataset))
        found: dict[str, list[SelfCheck]] = {}
        began = time.perf_counter()
        for seed in range(asked.seeds):
            checked = self_check(dataset, backbone=BACKBONE, weights=weights, seed=seed)
            found.setdefault(BACKBONE, []).append(checked)
            if asked.patches:
                found.setdefault("patches", []).append(self_check(dataset, seed=seed))
            print(f"{name}, seed {seed}: {time.perf_counter() - began:.0f} s so far", flush=True)
        part = f", {len(dataset):,} images" if asked.images else ""
        measure.publish(f"Self-check on {name}{part}", section(dataset, found), setting, quick=asked.quick)


def section(dataset: Dataset, found: dict[str, list[SelfCheck]]) -> str:
    """A table per kind of features; faults that do not depend on them are the same in both."""
    first = found[BACKBONE]
    text = [
        f"{first[0].images:,} readable images, {len(dataset.classes)} classes; seeds: {len(first)}, median and range. "
        "Precision of copies: exact and near ones together. Precision and AUPRC of wrong labels count what was put in "
        "alone; labels of real sets that were wrong before stand against them, so there they are lower bounds."
    ]
    for features, checks in found.items():
        faults = [row.fault for row in checks[0].rows]
        shown = faults if features == BACKBONE else ["label_suspect"]
        rows = [_cells([check[fault] for check in checks]) for fault in shown]
        text += [f"Features: {features}.", measure.table(["fault", "put in", "recall", "precision", "AUPRC"], rows)]
    return "\n\n".join(text)


def _cells(rows: list[Row]) -> list[str]:
    shares = [[getattr(row, name) for row in rows] for name in ("recall", "precision", "auprc")]
    known = [[value for value in values if value is not None] for values in shares]
    return [rows[0].fault.strip(), f"{rows[0].count:,}", *(measure.spread(each, 3) if each else "" for each in known)]


if __name__ == "__main__":
    main()

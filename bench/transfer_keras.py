"""Claim: two phases of transfer learning, as reference system D has them, at least 5 × faster than with Keras.

    python bench/transfer_keras.py --repeats 3
    python bench/transfer_keras.py --repeats 3 --side 256

EfficientNetV2-B0 under a dense layer of 128 on the built-in parts, of system D's size (1,024 pixels): 400 photos are
trained on, 100 validate, 50 test. 15 epochs of the head, 20 with the last block and convolution, batches of 16, the
same augmentation and rates, no early stopping. Both begin with random weights, which takes as long as with published
ones; nothing is learned that way, so that what must be equal is the work: the photos, the epochs, and how many numbers
the network has and trains in each phase. Otherwise this ends with an error.

Round after round each runs in a process of its own, from its start to its end, in turns: Discern is `discern train`
with an empty cache, all of its audit, judging, heat maps and report included; Keras has its photos in memory after the
first epoch and keeps no score but the accuracies.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import measure
import peers
from trainings import Turn, by_discern, by_peer, ratios

from discern.data.augment import Augmentation
from discern.data.synthetic.parts import Parts, ensure
from discern.models import zoo
from discern.models.layers import trained
from discern.models.network import keras_count
from discern.training.phases import Phase
from discern.training.recipe import Recipe

CLAIM = 5.0
"""How many times as long as Discern Keras takes, at least."""

SIDE = 1024
"""Of system D's photos, pixels."""

OPEN = ("blocks.5.7", "conv_head", "bn2")
"""What the last 20 layers of Keras' network are called in timm's."""


def main() -> None:
    """Measure one size of photos."""
    parser = argparse.ArgumentParser(description="Speed of two phases of transfer learning against Keras.")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--side", type=int, default=SIDE, help="of the square photos, pixels")
    parser.add_argument("--quick", action="store_true", help="2 + 2 epochs, one round, 256 pixels, no RESULTS.md")
    asked = parser.parse_args()
    if asked.quick:
        asked.repeats, asked.side = 1, 256
    python, setting = peers.python_of("keras"), measure.setting()
    recipe = recipe_of((2, 2) if asked.quick else (15, 20))
    photos = ensure(Parts(size=asked.side), cache=measure.folder() / "parts")
    turns: dict[str, list[Turn]] = {"discern": [], "keras": []}
    for round_ in range(asked.repeats):
        for tool in ("keras", "discern") if round_ % 2 else ("discern", "keras"):
            turns[tool].append(turn(tool, python, photos, recipe))
            print(f"round {round_ + 1}, {tool}: {turns[tool][-1].seconds:.1f} s", flush=True)
    title = "Two phases of transfer learning against Keras"
    title += "" if asked.side == SIDE else f", photos of {asked.side} pixels"
    measure.publish(title, section(turns, recipe, asked.side), setting, quick=asked.quick)
    works = {tool: work(tool, turns[tool][-1], recipe) for tool in turns}
    if works["discern"] != works["keras"]:
        sys.exit(f"The work is not the same, so the speeds do not compare: {works}.")


def recipe_of(epochs: tuple[int, int]) -> Recipe:
    """System D's, to its end."""
    return Recipe(
        model="efficientnetv2-b0-d",
        network={"weights": "none"},
        size=224,
        val_share=0.2,
        augment=Augmentation(flip=0.5, shift=0.1, rotate=54.0, zoom=0.1),
        phases=(
            Phase(train="head", epochs=epochs[0], learning_rate=1e-3),
            Phase(train=OPEN, epochs=epochs[1], learning_rate=1e-5, norms="keep"),
        ),
        batch_size=16,
        optimizer="adam",
        weight_decay=0.0,
        schedule="constant",
        warmup_epochs=0.0,
        balance="none",
        patience=None,
        refit=False,
    )


def turn(tool: str, python: Path, photos: Path, recipe: Recipe) -> Turn:
    """Train with one of them."""
    if tool == "keras":
        return by_peer(python, tool, photos, *(phase.epochs for phase in recipe.phases))
    with measure.scratch() as own:
        recipe.write(own / "recipe.yaml")
        return by_discern(photos, "--recipe", own / "recipe.yaml")


def work(tool: str, turn: Turn, recipe: Recipe) -> dict[str, object]:
    """What was done: photos, epochs and numbers of each phase."""
    told = turn.told
    if tool == "keras":
        phases = [(len(phase["epochs"]), phase["trained"]) for phase in told["phases"]]
        return {"images": told["images"], "numbers": told["numbers"], "phases": phases}
    network = zoo.build(recipe.model, classes=len(told["info"]["classes"]), changes=recipe.network)
    sizes = {name: value.numel() for name, value in network.named_parameters()}
    phases = []
    for place, phase in enumerate(recipe.phases):
        done = sum(line["phase"] == place + 1 for line in told["metrics"])
        phases.append((done, sum(sizes[name] for name in trained(network, phase.train))))
    images = {split: told["info"]["dataset"][split] for split in ("train", "val", "test")}
    return {"images": images, "numbers": keras_count(network), "phases": phases}


def epochs_of(tool: str, turn: Turn) -> list[list[float]]:
    """Seconds of each epoch, by phase; what Discern keeps of frozen work before them is not in them."""
    if tool == "keras":
        return [phase["epochs"] for phase in turn.told["phases"]]
    lines, before = turn.told["metrics"], [0.0, *(line["seconds"] for line in turn.told["metrics"])]
    spent = [(line["phase"], line["seconds"] - earlier) for line, earlier in zip(lines, before, strict=False)]
    return [[seconds for phase, seconds in spent if phase == number] for number in (1, 2)]


def section(turns: dict[str, list[Turn]], recipe: Recipe, side: int) -> str:
    """Times from end to end, and of epochs."""
    rows = []
    for tool, done in turns.items():
        phases = [[epochs_of(tool, each)[k] for each in done] for k in range(2)]
        inside = [sum(map(sum, epochs_of(tool, each))) for each in done]
        rows.append(
            [
                tool if tool == "discern" else " ".join(f"{k} {v}" for k, v in peers.versions(tool).items()),
                measure.spread([each.seconds for each in done], 1),
                measure.spread([each.processor for each in done], 1),
                "1" if tool == "discern" else measure.spread(ratios(done, turns["discern"]), 1),
                *(measure.spread([statistics.median(epochs[1:]) for epochs in phase], 2) for phase in phases),
                measure.spread([phase[0] for phase in phases[0]], 1),
                measure.spread([each.seconds - own for each, own in zip(done, inside, strict=True)], 1),
                measure.spread([each.peak / 1e9 for each in done], 1),
            ]
        )
    columns = ["tool", "seconds", "processor seconds", "times as long as discern", "frozen epoch", "tuned epoch"]
    columns += ["first epoch", "outside of epochs", "peak GB"]
    frozen, tuned = (phase.epochs for phase in recipe.phases)
    told = work("discern", turns["discern"][-1], recipe)
    return (
        f"EfficientNetV2-B0 with random weights; photos of {side} pixels: {told['images']}; {frozen} epochs of the "
        f"head, {tuned} with the last block. The network has {told['numbers']:,} numbers. Whole processes; seconds of "
        f"epochs are medians of all but the first of a phase; what Discern keeps of frozen work is outside of its "
        f"epochs. Rounds: {len(turns['discern'])}; median and range, the ratios round by round. Claimed: "
        f"{CLAIM:.0f} times.\n\n{measure.table(columns, rows)}"
    )


if __name__ == "__main__":
    main()

"""Probe: what a published network's features tell at once, as baselines beside what was trained on them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from discern.data.dataset import Dataset
from discern.data.pixels import Pixels
from discern.data.streaming import Stream
from discern.models import baselines, zoo
from discern.models.cutting import cut
from discern.models.layers import trained
from discern.models.network import Network
from discern.models.preprocessing import Preprocessing
from discern.models.probes import PROBES
from discern.progress import Progress
from discern.runs.run import ON_FEATURES
from discern.training.feeds import frozen_of
from discern.training.frozen import activations
from discern.training.recipe import Recipe


def vectors(
    dataset: Dataset, pixels: Pixels | Stream, network: Network, preprocessing: Preprocessing, progress: Progress
) -> Float[np.ndarray, "image feature"]:
    """What the head of a network would see of each image; kept, as everything frozen is."""
    found = cut(network.eval(), trained(network, "head"))
    if found is None:
        raise ValueError(f"{network.family}: nothing is below the head")
    kept = activations(
        dataset,
        pixels,
        frozen_of([found], str(getattr(network.config, "architecture", network.family)), preprocessing),
        progress=progress,
    )
    (rows,) = kept.take(np.arange(len(dataset)), np.zeros(len(dataset), np.int64))
    return rows.flatten(1).numpy()


def probed(
    plan: Recipe,
    dataset: Dataset,
    pixels: Pixels | Stream,
    preprocessing: Preprocessing,
    judged: Int[np.ndarray, " row"],
    progress: Progress,
) -> dict[str, Float[np.ndarray, "judged class"]]:
    """Probabilities of the judged rows by every probe, by its name.

    None for a network without published weights, and where there are no validation images to choose settings by.
    """
    published = zoo.published_for(plan.model, plan.network, trust_pickle=plan.trust_pickle)
    if published is None or not len(dataset.split("val")):
        return {}
    classes = len(dataset.classes)
    network = zoo.build(
        plan.model, classes=classes, size=preprocessing.size, changes=plan.network, published=published
    )
    split = dataset.table["split"].to_numpy()
    taught, val = np.flatnonzero(split == "train"), np.flatnonzero(split == "val")
    taught = taught[baselines.spread(len(taught))]
    rows = np.unique(np.concatenate([taught, val, judged]))
    place = np.searchsorted(rows, np.arange(len(dataset)))
    found, labels = vectors(dataset.with_rows(rows), pixels, network, preprocessing, progress), dataset.labels
    said = {}
    for name, probe in PROBES.items():
        model = probe(found[place[taught]], labels[taught], found[place[val]], labels[val], classes)
        said[f"{name}{ON_FEATURES}"] = model(found[place[judged]])
    return said

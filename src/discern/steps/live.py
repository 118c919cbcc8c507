"""Live: what can be looked at while a training runs - its first batch, its curves, and the trackers it was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from discern.files import writing
from discern.models.preprocessing import Preprocessing
from discern.progress import Progress
from discern.report.curves import training_curves
from discern.report.sheet import contact_sheet
from discern.runs.run import Run
from discern.training.feeds import image_feed
from discern.training.recipe import Recipe
from discern.training.stages import Job
from discern.training.tracking import tracked

_SHOWN = 32
"""Images of the first batch on its sheet: four rows, what a screen shows."""

_REST = 20
"""Times as long as a drawing took until the next: quick epochs are not held up by their picture."""


@contextmanager
def live(job: Job, progress: Progress) -> Iterator[Job]:
    """The same training, watched: first_batch.png is there at once, curves.svg and trackers follow its epochs."""
    if not job.main:
        yield job
        return
    _show_first_batch(job)
    draw = _artist()
    with tracked(job.run, progress) as track:

        def watch(run: Run) -> None:
            draw(run, False)
            track()

        try:
            yield replace(job, watch=watch)
        finally:
            draw(job.run, True)


def _artist() -> Callable[[Run, bool], None]:
    """Draws curves.svg: seldom enough to cost a twentieth of the time at most, or when told that it must."""
    due = 0.0

    def draw(run: Run, must: bool) -> None:
        nonlocal due
        start = time.perf_counter()
        if not (must or start >= due) or not (run.path / "metrics.jsonl").exists():
            return
        if lines := run.metrics:  # none when a first epoch was stopped in the middle
            with writing(run.path / "curves.svg") as temporary:
                temporary.write_text(training_curves(lines, name=run.name), encoding="utf-8")
        end = time.perf_counter()
        due = end + _REST * (end - start)

    return draw


def _show_first_batch(job: Job) -> None:
    """first_batch.png: the images that the first step learns from, as the network sees them."""
    file, train = job.run.path / "first_batch.png", job.dataset.split("train")
    if file.exists():
        return
    feed = replace(image_feed(job, job.model), recipe=_seen(job.recipe))
    fed = next(feed.epoch(train, 0))
    pictures = pictured(fed.inputs[:_SHOWN], job.preprocessing)
    captions = [shares(each, train.classes) for each in fed.targets[:_SHOWN].cpu()]
    with writing(file) as temporary:
        contact_sheet(pictures, captions).save(temporary, format="PNG")


def _seen(recipe: Recipe) -> Recipe:
    """As it is in the first phase: where the work of frozen layers is kept, images are not mixed."""
    if recipe.views and recipe.phases and recipe.phases[0].train != "all":
        return replace(recipe, mixup=0.0, cutmix=0.0)
    return recipe


def pictured(inputs: Float[Tensor, "b 3 s s"], preprocessing: Preprocessing) -> UInt8[np.ndarray, "b s s 3"]:
    """Normalised inputs as pictures again."""
    mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    levels = (inputs.float().cpu().permute(0, 2, 3, 1) * std + mean) * 255
    pictures: UInt8[np.ndarray, "b s s 3"] = levels.round().clamp(0, 255).to(torch.uint8).numpy()
    return pictures


def shares(target: Float[Tensor, " classes"], classes: tuple[str, ...]) -> list[str]:
    """What is in an image: its class, or two with the share of each, the larger first."""
    top = target.topk(min(2, len(classes)))
    parts = [(classes[k], share) for share, k in zip(top.values.tolist(), top.indices.tolist(), strict=True)]
    if len(parts) == 1 or round(100 * parts[1][1]) == 0:
        return [parts[0][0]]
    return [f"{name} {share:.0%}" for name, share in parts]

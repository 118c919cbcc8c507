"""Suspects: labels that are probably wrong, told by features of the images.

A linear classifier is cross-validated on the features, so that no image is judged by a model that has seen its
label, and copies of it are in the same fold; its probabilities are calibrated. A label is suspect when another class
is eight times as probable. `cleanlab_labels` asks the cleanlab package instead, about the same probabilities:
confident learning (Northcutt, Jiang & Chuang, 2021) names images whose other class is as probable as it is on average
for its own, which finds a little more and is wrong far more often.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from discern.data.audit.findings import Finding
from discern.data.dataset import Dataset
from discern.data.split import Clusters, folds
from discern.errors import DataError, MissingExtra
from discern.progress import Progress, Silent

Features = Float[np.ndarray, "image feature"]
Probabilities = Float[np.ndarray, "image class"]
Labels = Int[np.ndarray, " image"]

SURE = 8.0
"""How many times as probable as the given class another one must be. Measured with 10 % of the labels changed at
random, features of MobileNetV2, mean of 3 seeds: of the suspects among 1,700 built-in parts 94 % were changed (82 % of
the changed ones found), among 1,765 photos of tools 79 % (50 %), among 200 of them 93 % (67 %) and 92 % (57 %).
Cleanlab: parts 76 % (87 %), tools 42 % (78 %). With 2 % changed: parts 56 % (91 %), tools 54 % (84 %). With patches as
features half of the suspects were changed, and one changed label in six was found."""

_FOLDS = 5

_TAUGHT_BY, _LEAST_OF_CLASS = 16_000, 100
"""Images that teach each classifier, at most, and how many of each class at least: more find hardly more."""

_STRENGTH = 1e-3
"""Inverse of the L2 penalty on standardised features: the best of 1e-4, 1e-3 and 1e-2 for finding flipped labels."""


def out_of_sample(
    dataset: Dataset, features: Features, *, clusters: Clusters = (), seed: int = 0, progress: Progress | None = None
) -> Probabilities | None:
    """For every image the class probabilities given by classifiers that have seen neither it nor its copies.

    None, and a sentence to `progress`, when a class has too few images for five folds.
    """
    progress = progress or Silent()
    try:
        fold = folds(dataset, _FOLDS, seed=seed, clusters=clusters)
    except DataError as error:
        progress.say(f"Wrong labels are not looked for. {error}")
        return None
    labels, standard = dataset.labels, _standardised(features)
    probabilities, random = np.zeros((len(labels), len(dataset.classes))), np.random.default_rng(seed)
    with progress.track("Checking labels", _FOLDS, unit="folds") as advance:
        for k in range(_FOLDS):
            model = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=200, tol=1e-3)
            taught = _some_of_each(np.flatnonzero(fold != k), labels, random)
            with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # near enough to rank
                model.fit(standard[taught], labels[taught])
            held = np.flatnonzero(fold == k)
            probabilities[np.ix_(held, model.classes_)] = model.predict_proba(standard[held])
            advance(1, "")
    return _calibrated(probabilities, labels)


def label_scores(labels: Labels, probabilities: Probabilities) -> Float[np.ndarray, " image"]:
    """Probability of the given label: 1 for a label that fits, 0 for a suspect one."""
    given: Float[np.ndarray, " image"] = probabilities[np.arange(len(labels)), labels]
    return given


def suspect_labels(labels: Labels, probabilities: Probabilities) -> Labels:
    """For every image the class that its label is suspected to be meant for; -1 where the label is not suspect."""
    others = _others(labels, probabilities)
    return np.where(others.max(axis=1) >= SURE * label_scores(labels, probabilities), others.argmax(axis=1), -1)


def cleanlab_labels(labels: Labels, probabilities: Probabilities) -> Labels:
    """The same as cleanlab's `find_label_issues` says it: its "prune by noise rate".

    Raises MissingExtra when cleanlab is not installed.
    """
    if importlib.util.find_spec("cleanlab") is None:
        raise MissingExtra("cleanlab", "audit")
    from cleanlab.filter import find_label_issues

    present, numbered = np.unique(labels, return_inverse=True)  # cleanlab knows no class without an image
    issues = find_label_issues(numbered, probabilities[:, present], n_jobs=1)
    return np.where(issues, _others(labels, probabilities).argmax(axis=1), -1)


SUSPECTS: dict[str, Callable[[Labels, Probabilities], Labels]] = {"own": suspect_labels, "cleanlab": cleanlab_labels}
"""Who says which labels are suspect."""


def suspect_findings(dataset: Dataset, probabilities: Probabilities, suggested: Labels) -> Iterator[Finding]:
    """One Finding for each suspect label that nobody has decided about, the most suspect first."""
    labels, decided = dataset.labels, dataset.table["decision"].is_not_null().to_numpy()
    given = label_scores(labels, probabilities)
    agreement = float((probabilities.argmax(axis=1) == labels).mean())
    rows = np.flatnonzero((suggested >= 0) & ~decided)
    for row in rows[np.argsort(given[rows], kind="stable")].tolist():
        name, probability = dataset.classes[suggested[row]], float(probabilities[row, suggested[row]])
        yield Finding(
            kind="label_suspect",
            severity="warning",
            rows=(dataset.images[row],),
            evidence=(
                f"{dataset.images[row]} is labelled '{dataset.classes[labels[row]]}' ({given[row]:.0%}), a classifier "
                f"that has not seen it says '{name}' ({probability:.0%}); of all labels it would give "
                f"{agreement:.0%}."
            ),
            remedy="Look at it; `discern relabel` notes what you decide.",
            detail={
                "given": dataset.classes[labels[row]],
                "suggested": name,
                "probability": round(probability, 4),
                "agreement": round(agreement, 4),
            },
        )


def _some_of_each(rows: Labels, labels: Labels, random: np.random.Generator) -> Labels:
    shuffled = random.permutation(rows)
    classes = np.unique(labels[rows])
    most = max(_TAUGHT_BY // len(classes), _LEAST_OF_CLASS)
    return np.sort(np.concatenate([shuffled[labels[shuffled] == each][:most] for each in classes]))


def _others(labels: Labels, probabilities: Probabilities) -> Probabilities:
    """Without those of the given classes."""
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -1
    return others


def _calibrated(probabilities: Probabilities, labels: Labels) -> Probabilities:
    """With the one temperature at which they fit the labels best (Guo et al., 2017).

    The penalty makes a classifier of few images far too modest, and then hardly anything is many times as probable.
    """
    logits = np.log(np.maximum(probabilities, 1e-12))

    def tempered(log_sharper: float) -> Probabilities:
        return np.asarray(softmax(logits * np.exp(log_sharper), axis=1))

    def loss(log_sharper: float) -> float:
        return -float(np.log(np.maximum(label_scores(labels, tempered(log_sharper)), 1e-12)).mean())

    best: float = minimize_scalar(loss, bounds=(np.log(0.1), np.log(100)), method="bounded").x
    return tempered(best)


def _standardised(features: Features) -> Features:
    values = features.astype(np.float32)
    values -= values.mean(axis=0)
    values /= values.std(axis=0) + 1e-6
    return values

"""Layers of a network from input to output, and which of them a phase of training changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from discern.errors import UnknownName, UsageError
from discern.models.network import Network
from discern.models.published import PublishedNet

Trained = Literal["head", "all"] | int | float | tuple[str, ...]
"""What is trained besides the head: nothing ('head'), everything ('all'), so many of the last layers, a share of all
layers counted from the last, or the parameters whose names begin so."""


def layers(network: Network) -> list[list[str]]:
    """Names of the parameters of each layer below the head, the first layer first.

    A layer is what timm takes for one (a block, usually), or a module of the features where the network is not timm's.
    """
    names = [name for name, _ in network.named_parameters() if name.startswith("features.")]
    if isinstance(network, PublishedNet) and hasattr(network.features, "group_matcher"):
        from timm.models import group_parameters

        groups = group_parameters(network.features, network.features.group_matcher(coarse=False))  # type: ignore[operator]
        return [[f"features.{name}" for name in groups[key]] for key in sorted(groups)]
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(".".join(name.split(".")[: 3 if name.split(".")[1].isalpha() else 2]), []).append(name)
    return list(found.values())


def trained(network: Network, what: Trained) -> frozenset[str]:
    """Names of the parameters that are trained; the head's always are.

    Raises UsageError for more layers than there are, UnknownName for a name that no parameter begins with.
    """
    below = layers(network)
    head = [name for name, _ in network.named_parameters() if not name.startswith("features.")]
    if what == "head":
        return frozenset(head)
    if what == "all":
        return frozenset(name for name, _ in network.named_parameters())
    if isinstance(what, tuple):
        return frozenset([*head, *_named(network, what)])
    count = max(1, round(what * len(below))) if isinstance(what, float) else int(what)
    if count > len(below):
        raise UsageError(f"phases: train = {what} is too much: the network has {len(below)} layers below its head.")
    return frozenset([*head, *(name for layer in below[len(below) - count :] for name in layer)])


def _named(network: Network, prefixes: Sequence[str]) -> list[str]:
    known = [name for name, _ in network.named_parameters()]
    found = []
    for prefix in prefixes:
        wanted = (f"features.{prefix}", prefix)
        fits = [name for name in known if any(name == each or name.startswith(f"{each}.") for each in wanted)]
        if not fits:
            parts = [name.removeprefix("features.").split(".") for name in known]
            modules = {".".join(each[:depth]) for each in parts for depth in range(1, len(each))}
            raise UnknownName("layer", prefix, modules, place="phases")
        found += fits
    return found

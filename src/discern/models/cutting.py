"""Cutting a network where training begins: what is before the cut never changes, and so is computed once.

The network is traced (torch.fx), and every step of it that depends on a trained parameter is behind the cut. So any
network can be cut at any layer, whatever its blocks look like inside; what crosses the cut is one tensor at most
places, and two where a residual connection passes by.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from discern.models.network import Network, settled
from discern.models.published import PublishedNet


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A network in two parts that share its parameters."""

    frozen: fx.GraphModule
    """Normalised images to what crosses the cut, a tuple of tensors; in inference mode."""
    tail: nn.Module
    """What crosses the cut to logits."""
    whole: fx.GraphModule
    """Both parts, step by step."""
    before: tuple[fx.Node, ...]
    """The steps of the frozen part."""
    crossing: tuple[fx.Node, ...]
    """Those of them whose results cross."""

    @property
    def place(self) -> str:
        """The steps that cross, as the network names them."""
        return " ".join(str(node.target) for node in self.crossing)


class _Halves(nn.Module):
    """A network's forward pass without its exception for a batch of one image."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_head(self.network.forward_features(images))


class _Tail(nn.Module):
    """The part behind the cut, on a tuple."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, crossing: tuple[Tensor, ...]) -> Tensor:
        with settled(self, alone=self.training and len(crossing[0]) == 1):
            logits: Tensor = self.part(*crossing)
            return logits


class _Tracer(fx.Tracer):
    """Follows a network into its layers, but not into what timm says cannot be followed."""

    def __init__(self) -> None:
        from timm.models import get_notrace_functions, get_notrace_modules

        super().__init__(autowrap_functions=tuple(get_notrace_functions()))  # type: ignore[no-untyped-call]
        self._closed = tuple(get_notrace_modules())  # type: ignore[no-untyped-call]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self._closed) or super().is_leaf_module(m, module_qualified_name)


def cut(network: Network, trained: Collection[str]) -> Cut | None:
    """The network cut in front of the first of the `trained` parameters, by name; None when nothing is before it.

    The network must be in inference mode, and is left so. Networks whose path depends on their input cannot be traced:
    those are cut in front of their head, or not at all.
    """
    return cuts(network, [trained])[0]


def cuts(network: Network, places: Sequence[Collection[str]]) -> list[Cut | None]:
    """A `cut` in front of each of several sets of parameters; what is before them can be `joined`."""
    whole = _traced(network)
    found = [_cut_at(whole, network, trained) if whole else None for trained in places]
    if not isinstance(network, PublishedNet):
        return found
    own = [all(name.startswith("head.") for name in trained) for trained in places]
    return [each or (_at_head(network) if head else None) for each, head in zip(found, own, strict=True)]


def joined(several: Sequence[Cut]) -> fx.GraphModule:
    """Normalised images to what crosses each of these cuts of one network, every step done once; in inference mode."""
    whole, before = several[0].whole, {node for each in several for node in each.before}
    if any(each.whole is not whole for each in several):
        raise ValueError("cuts of several tracings cannot be joined")
    steps = [node for node in whole.graph.nodes if node in before]
    results = tuple(each.crossing for each in several)
    return _part(whole, steps, given=(), result=results, seeing=_seeing(whole.graph)).eval()


class _Pooled(nn.Module):
    """timm's own way from images to what a head sees."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> Tensor:
        features: Any = self.features
        rows: Tensor = features.forward_head(features.forward_features(images), pre_logits=True)
        return rows


def _at_head(network: PublishedNet) -> Cut:
    """The network in its two halves, without a look inside."""
    root = nn.Module()
    root.pooled, root.head = _Pooled(network.features), network.head
    graph = fx.Graph()
    images = graph.placeholder("images")
    rows = graph.call_module("pooled", (images,))
    graph.output(graph.call_module("head", (rows,)))
    whole = fx.GraphModule(root, graph)
    frozen = _part(whole, (images, rows), given=(), result=(rows,), seeing=_seeing(graph)).eval()
    return Cut(frozen=frozen, tail=_Tail(network.head), whole=whole, before=(images, rows), crossing=(rows,))


def _traced(network: Network) -> fx.GraphModule | None:
    """Every step from images to logits; None when which they are depends on the images."""
    halves = _Halves(network)
    try:
        return fx.GraphModule(halves, _Tracer().trace(halves))
    except (fx.proxy.TraceError, TypeError):
        return None
    finally:
        network.train().eval()  # where timm's networks forget what they remember, here of tracing


def _cut_at(whole: fx.GraphModule, network: Network, trained: Collection[str]) -> Cut | None:
    behind, seeing = _behind(whole, {f"network.{name}" for name in trained}), _seeing(whole.graph)
    before = [node for node in whole.graph.nodes if node in seeing and not behind[node]]
    crossing = tuple(node for node in before if any(behind[user] or user.op == "output" for user in node.users))
    if not any(node.op == "call_module" for node in before) or any(node.op == "placeholder" for node in crossing):
        return None
    (logits,) = whole.graph.output_node().args
    tail = [node for node in whole.graph.nodes if behind[node]]
    frozen = _part(whole, before, given=(), result=crossing, seeing=seeing).eval()
    if not _per_image(frozen, network):
        return None
    return Cut(
        frozen=frozen,
        tail=_Tail(_part(whole, tail, given=crossing, result=logits, seeing=seeing)),
        whole=whole,
        before=tuple(before),
        crossing=crossing,
    )


def _seeing(graph: fx.Graph) -> set[fx.Node]:
    """The steps that depend on the images; the others are about parameters, and both parts may take them."""
    seeing: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or seeing & set(node.all_input_nodes):
            seeing.add(node)
    return seeing


def _part(
    whole: fx.GraphModule, steps: Collection[fx.Node], *, given: Collection[fx.Node], result: Any, seeing: set[fx.Node]
) -> fx.GraphModule:
    """Some steps of a network, from what is given to the result."""
    graph, chosen = fx.Graph(), set(steps)
    known = {node: graph.placeholder(node.name) for node in given}
    for node in whole.graph.nodes:
        if node.op != "output" and (node in chosen or node not in seeing):
            known[node] = graph.node_copy(node, known.__getitem__)
    graph.output(fx.node.map_arg(result, known.__getitem__))
    part = fx.GraphModule(whole, graph)
    part.graph.eliminate_dead_code()
    part.recompile()
    return part


@torch.no_grad()
def _per_image(frozen: nn.Module, network: Network) -> bool:
    """Whether all that crosses has a row for each image; some networks hand on sizes, too."""
    device = next(network.parameters()).device
    crossing = frozen(torch.zeros(2, 3, network.size, network.size, device=device))
    return all(isinstance(each, Tensor) and each.dim() > 1 and len(each) == 2 for each in crossing)


def _behind(whole: fx.GraphModule, trained: Collection[str]) -> Mapping[fx.Node, bool]:
    """For every step whether it depends on a trained parameter; the whole head does, with its dropout."""
    modules, behind = dict(whole.named_modules()), dict[fx.Node, bool]()
    for node in whole.graph.nodes:
        own: list[str] = []
        if node.op == "call_module":
            own = [f"{node.target}.{name}" for name, _ in modules[str(node.target)].named_parameters()]
        elif node.op == "get_attr":
            own = [str(node.target)]
        of_head = node.op == "call_module" and str(node.target).startswith("network.head.")
        started = of_head or any(name in trained for name in own)
        behind[node] = started or any(behind[earlier] for earlier in node.all_input_nodes)
    return behind


def folded(part: fx.GraphModule) -> fx.GraphModule:
    """The same part with each batch norm folded into the convolution before it: equal up to rounding, and faster."""
    part = copy.deepcopy(part)
    modules = dict(part.named_modules())
    for node in part.graph.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        before = node.args[0] if isinstance(norm, _BatchNorm) else None
        if norm is None or before is None or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution = modules[str(before.target)]
        if isinstance(convolution, nn.Conv2d):
            after = [layer for layer in norm.children() if not isinstance(layer, nn.Identity)]  # timm's activation
            part.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            part.set_submodule(str(node.target), nn.Sequential(*after))
    part.recompile()
    return part


def inference_norms(network: nn.Module, learning: Collection[str]) -> None:
    """Put batch norms of which nothing is `learning` into inference mode: their statistics stay.

    A norm without parameters goes with those of the layer that it is part of.
    """
    for name, layer in network.named_modules():
        if not isinstance(layer, _BatchNorm):
            continue
        own = [f"{name}.{each}" for each, _ in layer.named_parameters()]
        around = f"{name.rpartition('.')[0]}."
        learns = any(each in learning for each in own) if own else any(each.startswith(around) for each in learning)
        if not learns:
            layer.eval()


@torch.no_grad()
def shapes(part: nn.Module, size: int) -> list[tuple[int, ...]]:
    """Of what crosses the cut for one image of `size` pixels."""
    device = next(part.parameters()).device
    return [tuple(each.shape[1:]) for each in part(torch.zeros(1, 3, size, size, device=device))]

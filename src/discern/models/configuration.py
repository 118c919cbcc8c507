"""Configurations: frozen dataclasses that spell out a network, read from records and changed by recipes.

Each family keeps its own beside the network it builds. Besides its fields it has `build(classes=, size=)`, the
untrained network; `input_size`, the side of the square it was designed for; and `any_size`, whether it takes others
with the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from torch import nn

from discern.errors import UnknownName, UsageError

Activation = Literal["relu", "gelu", "silu", "mish"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
}

Width = Annotated[int, pydantic.Field(ge=1, le=65_536)]
"""Channels or neurons of a layer; beyond, a slip of the keyboard."""
Kernel = Annotated[int, pydantic.Field(ge=1, le=64)]
"""Side of a convolution's kernel, pixels."""
Share = Annotated[float, pydantic.Field(ge=0, lt=1)]
"""Dropout: all of it would leave nothing."""

Config = TypeVar("Config")

_FIXED = ("input_size", "architecture")  # what makes it the network of its name; images' size has a key of its own


def plain(config: Any) -> dict[str, Any]:
    """A configuration as JSON and YAML hold it."""
    return {key: _listed(value) for key, value in asdict(config).items()}


def configuration(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The configuration that `plain` spelled out; raises pydantic's ValidationError for values it cannot have."""
    valid: Config = _valid(kind).validate_python(dict(values))  # type: ignore[arg-type] # a type is hashable
    return valid


def options(config: Any) -> dict[str, Any]:
    """What a recipe may change of a configuration, and its values."""
    return {key: value for key, value in plain(config).items() if key not in _FIXED}


def changed(config: Config, changes: Mapping[str, Any], *, place: str) -> Config:
    """The configuration with some options replaced; `place` says in errors where the changes came from.

    Raises UnknownName for an option it does not have, UsageError for a value that is not possible.
    """
    known = options(config)
    for key in changes:
        if key not in known:
            raise UnknownName("network key", str(key), known, place=place)
    try:
        values = {field.name: getattr(config, field.name) for field in fields(config)}  # type: ignore[arg-type]
        return configuration(type(config), {**values, **changes})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["network", *(str(part) for part in first["loc"] if isinstance(part, str))])
        raise UsageError(f"{place}: {key} = {first['input']!r} is not possible: {first['msg']}.") from error


@cache
def _valid(kind: type[Any]) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind)


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, (tuple, list)) else value

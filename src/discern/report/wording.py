"""Wording: how a report writes numbers, names and intervals."""

from __future__ import annotations

from discern.runs.evaluation import Interval

_DASH = "\u2013"
_JOINED = "\u00a0"  # a space at which no line ends


def percent(share: float) -> str:
    """A share as percent with one decimal: `38.1%`."""
    return f"{100 * share:.1f}%"


def percent_range(interval: Interval) -> str:
    """An interval of shares: `29.4 to 47.6%` with an en dash between the two."""
    low, high = interval
    return f"{100 * low:.1f}{_DASH}{100 * high:.1f}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points, always signed: `+4.8`."""
    # Rounded first, so that a tiny negative difference is not written -0.0; the minus is a real one.
    rounded = round(100 * difference, 1) + 0.0
    return f"{rounded:+.1f}".replace("-", "\u2212")


def points_range(interval: Interval) -> str:
    """An interval of differences in percentage points: `-1.0 to +10.4`."""
    low, high = interval
    return f"{points(low)} to {points(high)}"


def score(value: float) -> str:
    """A score in [0, 1] that is not a share of images, such as F1: `0.725`."""
    return f"{value:.3f}"


def score_range(interval: Interval) -> str:
    """An interval of scores: `0.690 to 0.755` with an en dash between the two."""
    low, high = interval
    return f"{low:.3f}{_DASH}{high:.3f}"


def p_value(p: float) -> str:
    """A p value with three decimals, or that it is smaller than they show."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_statement(p: float) -> str:
    """A p value as an equation: `p = 0.021` or `p < 0.001`."""
    return f"p{_JOINED}<{_JOINED}0.001" if p < 0.001 else f"p{_JOINED}={_JOINED}{p:.3f}"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """A number with its noun: `1 image`, `1,411 images`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `21.6 s`, `7 min 17 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def milliseconds(value: float) -> str:
    """Milliseconds with two significant digits or more: `0.071`, `0.50`, `12.3`."""
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def listing(names: tuple[str, ...], limit: int = 12) -> str:
    """Names with commas, the last after an `and`; beyond `limit` only how many more there are."""
    if len(names) > limit:
        return f"{', '.join(names[:limit])} and {len(names) - limit} more"
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else "".join(names)

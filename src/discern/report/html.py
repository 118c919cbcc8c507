"""One self-contained HTML page about one Run or several: no request leaves it, it needs no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from discern.files import writing
from discern.report.page import Page, page
from discern.runs.run import Run


def write_report(runs: Sequence[Run], path: Path) -> None:
    """Write the page about `runs` to `path`, whole or not at all; the same runs give the same bytes.

    Raises UsageError without a run, NotARun for one that has not got as far as its scores, StorageError when `path`
    cannot be written.
    """
    text = render(page(runs))
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def render(page: Page) -> str:
    """The page as HTML."""
    return filled("page.html", page=page)


def filled(template: str, **values: object) -> str:
    """A template with these values in it; everything that comes from data is escaped."""
    environment = Environment(
        loader=PackageLoader("discern.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["coded"] = _coded
    style = Markup(environment.get_template("style.css").render())
    return environment.get_template(template).render(style=style, **values)


def _coded(text: str) -> Markup:
    """Text with what stands between backticks set as code."""
    parts = [escape(part) for part in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))

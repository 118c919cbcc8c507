"""`discern relabel`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from discern.cli.options import answer, json_option

if TYPE_CHECKING:
    from discern.data.journal import Decision, Journal, Verdict


@click.command("relabel")
@click.argument("photos", type=click.Path(path_type=str))
@click.argument("images", nargs=-1)
@click.option("--to", "label", metavar="CLASS", help="They show this class.")
@click.option("--drop", is_flag=True, help="Use them no more.")
@click.option("--keep", is_flag=True, help="They are right as they are: settles a doubt, or an earlier decision.")
@click.option("--because", metavar="TEXT", help="Why; every decision needs a reason.")
@click.option("--new-class", is_flag=True, help="Let CLASS be one that does not exist yet.")
@click.option(
    "--from",
    "table",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A CSV file of decisions: image, decision (keep, drop, relabel), label, reason.",
)
@click.option("--list", "show", is_flag=True, help="Show every decision so far, with its number.")
@click.option("--undo", is_flag=False, flag_value="last", metavar="[N]", help="Take back decision N, or the last one.")
@json_option
def command(
    photos: str,
    images: tuple[str, ...],
    label: str | None,
    drop: bool,
    keep: bool,
    because: str | None,
    new_class: bool,
    table: Path | None,
    show: bool,
    undo: str | None,
    as_json: bool,
) -> None:
    """Decide about IMAGES in PHOTOS: keep, drop or relabel them, from now on, for every command.

    Decisions go into a journal beside the photos, PHOTOS/.discern/journal.jsonl; no photo is deleted or changed.

    \b
    discern relabel photos/ Axe/0017.jpg --to Hammer --because "it has a claw"
    discern relabel photos/ Axe/0003.jpg Axe/0004.jpg --drop --because "shows a drawing"
    discern relabel photos/ --from decisions.csv
    discern relabel photos/ --list
    discern relabel photos/ --undo
    """
    from discern.cli.terminal import Terminal
    from discern.data import journal
    from discern.data.sources import found_at
    from discern.steps.relabel import read_decisions, relabel

    asked: tuple[tuple[Verdict, bool], ...] = (("relabel", label is not None), ("drop", drop), ("keep", keep))
    verdicts = [verdict for verdict, given in asked if given]
    _refuse_mixture(images, verdicts, table=table is not None, show=show, undo=undo is not None)
    if show:
        _show(journal.read_journal(found_at(photos, Terminal())), as_json=as_json)
        return
    if undo is not None:
        place = found_at(photos, Terminal())
        taken = journal.undo(place, _number(undo))
        _report(journal.read_journal(place), (taken,), "Undone", as_json=as_json)
        return
    if table is not None:
        decisions = read_decisions(table, reason=because)
    else:
        decisions = [_decided(image, verdicts[0], label, because) for image in images]
    if not decisions:
        raise click.UsageError(f"{table} holds no decision: fill in its column 'decision'.")
    _report(*relabel(photos, decisions, new_classes=new_class), "Decided", as_json=as_json)


def _refuse_mixture(images: tuple[str, ...], verdicts: list[Verdict], *, table: bool, show: bool, undo: bool) -> None:
    jobs = [bool(images), table, show, undo]
    if sum(jobs) != 1:
        raise click.UsageError("Name IMAGES, or give one of --from, --list and --undo.")
    if images and len(verdicts) != 1:
        raise click.UsageError("Say what is decided about the images: one of --to CLASS, --drop and --keep.")
    if verdicts and not images:
        raise click.UsageError(f"Name the images to {verdicts[0]}.")


def _decided(image: str, verdict: Verdict, label: str | None, because: str | None) -> Decision:
    from discern.data.journal import Decision

    if not because:
        raise click.UsageError('Say why: --because "...".')
    return Decision(image=image, decision=verdict, label=label, reason=because)


def _number(text: str) -> int | None:
    if text == "last":
        return None
    if not text.isdecimal():
        raise click.BadParameter(f"'{text}' is not the number of a decision; --list shows them.", param_hint="--undo")
    return int(text)


def _report(journal: Journal, done: tuple[Decision, ...], word: str, *, as_json: bool) -> None:
    if as_json:
        answer({"journal": journal.file and str(journal.file), word.lower(): [each.to_json() for each in done]})
        return
    for each in done[:20]:
        click.echo(f"{word} {each.number}: {each}")
    if len(done) > 20:
        click.echo(f"... and {len(done) - 20} more.")
    count = len(journal.standing)
    click.echo(f"Journal  {journal.file} ({'1 image has' if count == 1 else f'{count:,} images have'} a decision)")


def _show(journal: Journal, *, as_json: bool) -> None:
    from discern.cli.terminal import table

    if as_json:
        answer(
            {
                "journal": journal.file and str(journal.file),
                "decisions": [each.to_json() for each in journal.decisions],
            }
        )
        return
    if not journal.decisions:
        click.echo("No decisions.")
        return
    standing = journal.standing
    rows = [
        (
            str(each.number),
            each.time,
            each.image,
            f"{each.decision}{f' to {each.label}' if each.label else ''}",
            each.reason,
            each.who or "",
            "undone" if each.undone else "stands" if standing[each.image] is each else "replaced",
        )
        for each in journal.decisions
    ]
    table(str(journal.file), (" n", "time", "image", "decision", "reason", "who", ""), rows)

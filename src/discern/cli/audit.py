"""`discern audit`."""

from __future__ import annotations

from pathlib import Path

import click

from discern.cli.options import answer, json_option, test_option, val_option


@click.command("audit")
@click.argument("photos", type=click.Path(path_type=Path))
@test_option
@val_option
@json_option
def command(photos: Path, test: Path | None, val: Path | None, as_json: bool) -> None:
    """Find what is wrong with PHOTOS: unreadable files, copies, leakage between splits, tiny images, imbalance.

    \b
    discern audit photos/
    discern audit photos/ --test more-photos/ --json
    """
    from discern.cli.terminal import Terminal, table
    from discern.data.audit import audit
    from discern.data.findings import grouped
    from discern.data.scan import scan
    from discern.data.sources import open_dataset

    # Any size finds the same; at this one most trainings on a CPU find their Pixels in the cache already.
    dataset, _ = scan(open_dataset(photos, val=val, test=test), size=112, fit="pad", progress=Terminal())
    findings = audit(dataset)
    if as_json:
        answer({"images": len(dataset), "findings": [finding.to_json() for finding in findings]})
        return
    click.echo(dataset)
    if not findings:
        click.echo("No findings.")
        return
    groups = grouped(findings)
    table(
        f"{len(findings)} findings; --json lists each",
        ("severity", "kind", " findings", "evidence of the first", "remedy"),
        [(g[0].severity, g[0].kind, str(len(g)), g[0].evidence, g[0].remedy) for g in groups],
    )

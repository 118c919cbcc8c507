"""`discern parts`."""

from __future__ import annotations

from pathlib import Path

import click

from discern.cli.options import answer, json_option


@click.command("parts")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--per-class", type=int, default=100, show_default=True, help="Training images per class.")
@click.option("--test-per-class", type=int, default=10, show_default=True, help="Test images per class.")
@click.option("--size", type=int, default=256, show_default=True, help="Side of the images, pixels.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--domain", default="workshop", show_default=True, help="Backgrounds and light.")
@click.option("--exact-duplicates", type=float, default=0.0, help="Share of test images copied from training.")
@click.option("--near-duplicates", type=float, default=0.0, help="Share of test images that are edited copies.")
@click.option("--wrong-labels", type=float, default=0.0, help="Share of training images in a wrong folder.")
@click.option("--unreadable", type=int, default=0, help="Files that cannot be decoded.")
@click.option("--tiny", type=int, default=0, help="Images with a side under 20 pixels.")
@click.option("--imbalance", type=float, default=1.0, show_default=True, help="Largest class over smallest.")
@json_option
def command(
    folder: Path,
    per_class: int,
    test_per_class: int,
    size: int,
    seed: int,
    domain: str,
    exact_duplicates: float,
    near_duplicates: float,
    wrong_labels: float,
    unreadable: int,
    tiny: int,
    imbalance: float,
    as_json: bool,
) -> None:
    """Render the built-in industrial parts images into FOLDER, with masks and a table of the truth.

    \b
    discern parts parts/
    discern parts faulty/ --wrong-labels 0.1 --exact-duplicates 0.2
    """
    from discern.cli.terminal import Terminal
    from discern.data.synthetic.parts import Faults, Parts, write

    faults = Faults(
        exact_duplicates=exact_duplicates,
        near_duplicates=near_duplicates,
        wrong_labels=wrong_labels,
        unreadable=unreadable,
        tiny=tiny,
        imbalance=imbalance,
    )
    parts = Parts(
        per_class=per_class, test_per_class=test_per_class, size=size, seed=seed, domain=domain, faults=faults
    )
    with Terminal().track("Rendering", 5 * (per_class + test_per_class)) as advance:
        write(folder, parts, on_progress=lambda done, total: advance(1, ""))
    if as_json:
        answer({"folder": str(folder)})
    else:
        click.echo(f"Images  {folder}\nTruth   {folder / '.truth' / 'truth.parquet'}\nNext    discern train {folder}")

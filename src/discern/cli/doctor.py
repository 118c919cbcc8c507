"""`discern doctor`."""

from __future__ import annotations

import click

from discern.cli.options import answer, json_option


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Say what this machine has, which arithmetic trains fastest on it, and which extras are installed.

    \b
    discern doctor
    """
    from discern.steps.doctor import examine

    found = examine()
    if as_json:
        answer(found)
        return
    for key in ("python", "torch", "cores", "threads", "memory_gib", "gpu", "cache", "disk_free_gib"):
        click.echo(f"{key.replace('_', ' '):<16}{found[key] if found[key] is not None else 'none'}")
    click.echo("\nTraining speed, images/s (parts-cnn at 128 pixels):")
    for name, speed in found["training_images_per_second"].items():
        mark = "  <- fastest, what `precision: auto` takes" if name == found["fastest"] else ""
        click.echo(f"  {name:<26}{speed:>8,.1f}{mark}")
    click.echo("\nExtras:")
    for name, extra in found["extras"].items():
        click.echo(f"  {name:<12}{'installed' if extra['installed'] else extra['install']}")

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
    facts = {
        "Python": found["python"],
        "PyTorch": found["torch"],
        "CPU": f"{found['cores']} cores, {found['threads']} threads",
        "Memory": f"{found['memory_gib']} GiB",
        "GPU": found["gpu"] or "none",
        "Cache": f"{found['cache']} ({found['disk_free_gib']} GiB free)",
    }
    for name, fact in facts.items():
        click.echo(f"{name:<9}{fact}")
    click.echo("\nTraining speed, images/s (parts-cnn at 128 pixels):")
    for name, speed in found["training_images_per_second"].items():
        mark = "  <- fastest here; each training measures its own network" if name == found["fastest"] else ""
        click.echo(f"  {name:<26}{speed:>8,.1f}{mark}")
    click.echo("\nExtras:")
    for name, extra in found["extras"].items():
        click.echo(f"  {name:<12}{'installed' if extra['installed'] else extra['install']}")

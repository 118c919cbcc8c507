"""The command `discern`: finds the command's module, runs it, and turns errors into one sentence and an exit code.

Exit codes: 0 done, 1 a bug or a failed training, 2 the request makes no sense, 3 the data are refused, 130 Ctrl-C, 75
SIGTERM: a scheduler may start the same again later.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence

import click

from discern.errors import DiscernError, Terminated
from discern.stopping import terminable

# name -> what it does; the module discern.cli.<name> holds a click command called `command`.
COMMANDS = {
    "demo": "The whole job on built-in data, in a few minutes.",
    "audit": "Find what is wrong with a folder of images.",
    "relabel": "Keep, drop or relabel images, undoably; no file is changed.",
    "curate": "Write a cleaned, split, balanced copy of a folder of images.",
    "split": "Write down who is in training, validation and test.",
    "train": "Train and judge a model on your photos.",
    "lr-find": "Find a learning rate by trying all of them.",
    "evaluate": "Score a run, on its own test split or on other photos.",
    "compare": "Compare runs with intervals and paired tests.",
    "explain": "Draw heat maps: where a model looks.",
    "report": "Write one self-contained page about runs.",
    "predict": "Classify images with a run.",
    "embed": "Write the features of a published network for every image.",
    "runs": "List runs.",
    "models": "List networks with their licence and speed, or describe one.",
    "recipes": "List training recipes, or print one.",
    "parts": "Render the built-in industrial parts images.",
    "generate": "Paint a data set from prompts with a text-to-image model.",
    "doctor": "Say what this machine has and does fastest.",
}


class Commands(click.Group):
    """A group that imports a command's module only when that command runs: help stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the job."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, imported now."""
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"discern.cli.{name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest right name for a wrong one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from discern.errors import UnknownName

            raise UnknownName("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command takes --json (one object on standard output), --debug (a traceback for bugs) and --help.",
)
@click.version_option(package_name="discern-vision", prog_name="discern")
def cli() -> None:
    """From labelled images to the best classifier you can defend.

    \b
    discern train photos/                 one sub-folder per class
    discern compare runs/*                which one to trust
    discern predict runs/cnn-basic-1 new/*.jpg
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Threads that wait by spinning stop each other when the machine is busy: measured 20 x slower training beside
    # two other processes (docs/decisions.md). Must be set before torch and numpy load their thread pools.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "10")  # the same for numpy's: spins 2^10 ticks, not 2^26
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        with terminable():
            left = cli.main(args=words, prog_name="discern", standalone_mode=False)
        code = left if isinstance(left, int) else 0  # click gives back what Exit was raised with
    except click.exceptions.Exit as exit_:
        code = exit_.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.ClickException as error:
        code = _refuse(error.format_message(), type(error).__name__, error.exit_code, words)
    except DiscernError as error:
        _trace(debug)
        code = _refuse(str(error), type(error).__name__, error.exit_code, words)
    except (KeyboardInterrupt, click.Abort) as stop:
        # click turns one into the other; training leaves the way on as the message.
        way_on = str(stop.__cause__ or stop) or "the same command starts it again."
        click.echo(err=True)  # past the ^C
        ended = next((each for each in (stop, stop.__cause__) if isinstance(each, Terminated)), None)
        code = _refuse(f"Stopped: {way_on}", "KeyboardInterrupt", ended.exit_code if ended else 130, words)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        _trace(debug)
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error):
            sentence = "There is not enough memory for this: take a smaller network, size or batch_size."
            sys.exit(_refuse(sentence, type(error).__name__, 2, words))
        told = " ".join(str(error).split())
        sentence = f"A bug in Discern: {type(error).__name__}: {told}; --debug shows where."
        code = _refuse(sentence, type(error).__name__, 1, words)
    sys.exit(code)


def _trace(debug: bool) -> None:
    if debug:
        traceback.print_exc()


def _refuse(sentence: str, kind: str, code: int, words: list[str]) -> int:
    """Say why in one sentence, as a JSON object too where one was asked for; the exit code."""
    if os.environ.get("RANK", "0") != "0":  # of many processes the first one speaks
        return code
    if "--json" in words:
        click.echo(json.dumps({"error": sentence, "kind": kind, "exit_code": code}, ensure_ascii=False))
    click.echo(f"Error: {sentence}", err=True)
    return code

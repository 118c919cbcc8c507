"""The options of every command, frozen: a new one is a decision, not an accident."""

import importlib

import click
import pytest

from discern.cli.main import COMMANDS

OPTIONS = {
    "demo": "--out --json",
    "audit": "PHOTOS --test --val --backbone --weights --suspects --out --self-check --seed --json",
    "relabel": "PHOTOS IMAGES --to --drop --keep --because --new-class --from --list --undo --json",
    "curate": "PHOTOS OUT --test --val --test-per-class --max-per-class --keep-duplicates --size --fit --balance "
    "--seed --json",
    "split": "PHOTOS OUT --test --val --folds --val-share --seed --group-by --leakage --because --json",
    "train": "PHOTOS --model --recipe --epochs --size --seed --balance --weights "
    "--accept-license --trust-pickle --begin --time-budget --final --overfit --processes --leakage --because "
    "--group-by --test --val --set --runs --name --track --resume --json --help-all",
    "lr-find": "PHOTOS --model --recipe --weights --set --out --json",
    "evaluate": "RUN PHOTOS --checkpoint --leakage --because --json",
    "compare": "RUNS --split --json",
    "explain": "RUN IMAGES --json",
    "report": "RUNS --out --json",
    "predict": "RUN IMAGES --csv --json",
    "embed": "PHOTOS --model --weights --size --fit --accept-license --trust-pickle --out --json",
    "runs": "--runs --json",
    "models": "NAME|PATTERN --classes --size --measure --json",
    "recipes": "NAME --json",
    "parts": "FOLDER --per-class --test-per-class --size --seed --domain --exact-duplicates --near-duplicates "
    "--wrong-labels --unreadable --tiny --imbalance --json",
    "generate": "CLASSES OUT --batch --example --json",
    "doctor": "--json",
}


def words(parameter: click.Parameter) -> str:
    return " ".join(parameter.opts) if isinstance(parameter, click.Option) else parameter.human_readable_name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_takes_these_words_and_no_others(name):
    command = importlib.import_module(f"discern.cli.{name.replace('-', '_')}").command
    found = [words(parameter).split(".")[0].strip("[]") for parameter in command.params]
    assert " ".join(found) == OPTIONS[name]


def test_there_are_these_commands_and_no_others():
    assert list(OPTIONS) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name):
    command = importlib.import_module(f"discern.cli.{name.replace('-', '_')}").command
    obvious = {"--out", "--split", "--seed"}  # the name, with the default shown, says it
    silent = [p.opts[0] for p in command.params if isinstance(p, click.Option) and not p.help]
    assert set(silent) <= obvious

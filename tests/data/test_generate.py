"""A set painted from prompts: planned evenly, painted by a real (tiny, random) pipeline, resumed to the same bytes."""

import hashlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import polars as pl
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from discern.data.generation.generate import ATTEMPTS, RECORD, generate
from discern.data.generation.model import Model, load_model, too_long
from discern.data.generation.plan import plan, seed_of
from discern.data.generation.specification import (
    AXES,
    Generation,
    Subject,
    example,
    generation_from_mapping,
    load_generation,
)
from discern.data.sources import open_dataset
from discern.errors import StorageError, UsageError
from discern.progress import Silent

SMALL = {
    "classes": {"bolt": {"prompts": ["a bolt", "a screw"]}, "große Mutter": {"prompts": ["a nut", "a hexagon nut"]}},
    "angles": ["above", "side"],
    "backgrounds": ["wood", "steel", "concrete"],
    "negative_prompt": "blur",
    "per_class": 4,
    "test_per_class": 2,
    "size": 16,
    "steps": 2,
    "seed": 5,
}
"""What most tests ask for: twelve images."""

ODD = Generation(
    classes={"a": Subject(prompts=("a",)), "b": Subject(prompts=("b",))}, per_class=3, test_per_class=1, size=64
)
"""What tests with a Brush ask for: eight images."""


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A Stable Diffusion pipeline of 40,000 random weights, saved as the hub would give it."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("weights")
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")  # so that every letter is a token
    first, last = len(words) - 2, len(words) - 1
    text = {"vocab_size": len(words), "bos_token_id": first, "eos_token_id": last, "pad_token_id": last}
    width = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    down, up = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    sizes = {"block_out_channels": (4, 8), "norm_num_groups": 2}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL(latent_channels=4, **blocks, **sizes),
            unet=UNet2DConditionModel(
                sample_size=8,
                layers_per_block=1,
                cross_attention_dim=8,
                attention_head_dim=2,
                down_block_types=down,
                up_block_types=up,
                **sizes,
            ),
            text_encoder=CLIPTextModel(CLIPTextConfig(projection_dim=8, **width, **text)),
            tokenizer=CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77),
            scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder / "tiny")
    (folder / "tiny" / "README.md").write_text("---\nlicense: openrail++\n---\n# Tiny\n")
    return folder / "tiny"


@pytest.fixture
def classes(tmp_path, weights):
    """A factory: `classes(steps=3)` writes a YAML file, SMALL with changes, for the tiny pipeline."""

    def write(**changes):
        path = tmp_path / "classes.yaml"
        path.write_text(yaml.safe_dump({**SMALL, "model": str(weights), **changes}, allow_unicode=True))
        return path

    return write


@pytest.fixture(scope="module")
def whole(tmp_path_factory, weights):
    """The folder of one call that nothing interrupted; look, do not touch."""
    folder = tmp_path_factory.mktemp("whole") / "set"
    generate(generation_from_mapping({**SMALL, "model": str(weights)}, "a test"), folder)
    return folder


class Brush:
    """A pipeline that paints the noise of its generators; `black` says at which calls and positions it fails."""

    def __init__(self, black=lambda call, position: False, side=None):
        self.black, self.side, self.calls = black, side, []

    def __call__(self, *, prompt, generator, height, width, num_inference_steps, guidance_scale, output_type):
        self.calls.append(prompt)
        pictures = [torch.rand(self.side or height, self.side or width, 3, generator=one).numpy() for one in generator]
        dark = [self.black(len(self.calls) - 1, position) for position in range(len(prompt))]
        pixels = [
            (255 * picture * (not black)).astype(np.uint8) for picture, black in zip(pictures, dark, strict=True)
        ]
        return SimpleNamespace(images=[Image.fromarray(picture) for picture in pixels])


def model_of(pipeline, revision="r1"):
    return Model(pipeline=pipeline, name="brush", revision=revision, licence=None, device="cpu", dtype="float32")


def pixels(file):
    with Image.open(file) as picture:
        return np.asarray(picture, np.int16)


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def pictures(folder):
    return {name: data for name, data in files(folder).items() if name.endswith(".png")}


def records(folder):
    return [json.loads(line) for line in (folder / ".generation" / "metadata.jsonl").read_text().splitlines()]


class Notes(Silent):
    """Keeps what was said."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


# What is asked for


def test_the_example_asks_for_the_set_of_the_reference_system(discern, tmp_path):
    printed = discern("generate", "--example").out
    (tmp_path / "classes.yaml").write_text(printed)
    asked = load_generation(tmp_path / "classes.yaml")
    assert list(asked.classes) == ["bolt", "carton_box", "cement_bag", "nut", "washer"]
    assert (asked.per_class, asked.test_per_class, asked.size) == (100, 10, 1024)
    images = plan(asked)
    assert len({one.image for one in images}) == len({one.prompt for one in images}) == 550
    assert discern("generate", "--example", "--json").json == {"classes": printed}


def test_a_file_that_spells_everything_out_asks_for_the_same(tmp_path):
    asked = generation_from_mapping(SMALL, "a test")
    (tmp_path / "all.yaml").write_text(asked.to_yaml(), encoding="utf-8")
    assert load_generation(tmp_path / "all.yaml") == asked
    assert yaml.safe_load(example()).keys() <= yaml.safe_load(asked.to_yaml()).keys()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clases": {}}, "Unknown key 'clases' in classes.yaml: did you mean 'classes'?"),
        (
            {"classes": {"bolt": {"prompt": ["x"]}}},
            "Unknown key of class 'bolt' 'prompt' in classes.yaml: did you mean",
        ),
        ({"classes": {}}, "names no classes"),
        ({"classes": ["bolt"]}, "names no classes"),
        ({"classes": {"bolt": ["a bolt"]}}, "classes.bolt = ['a bolt'] is not possible: it must hold `prompts:`"),
        ({"classes": {"bolt": {}}}, "classes.bolt.prompts is missing"),
        ({"classes": {"bolt": {"prompts": []}}}, "classes.bolt.prompts is empty"),
        (
            {"classes": {"bolt": {"prompts": "a bolt"}}},
            "classes.bolt.prompts = 'a bolt' is not possible: it must be a",
        ),
        ({"classes": {"bolt": {"prompts": ["a", 7]}}}, "classes.bolt.prompts.1 = 7 is not possible: it must be text"),
        ({"classes": {"bolt": {"prompts": ["a", "a"]}}}, "classes.bolt.prompts has 'a' twice"),
        ({"classes": {7: {"prompts": ["a"]}}}, "classes.7 = 7 is not possible: it must be text; put it in quotes"),
        ({"classes": {"a/b": {"prompts": ["a"]}}}, "a class cannot be called 'a/b'"),
        ({"classes": {"..": {"prompts": ["a"]}}}, "a class cannot be called '..'"),
        ({"classes": {"": {"prompts": ["a"]}}}, "a class cannot be called ''"),
        ({"angles": ["above", " "]}, "angles.1 is empty"),
        ({"steps": 0}, "steps = 0 is not possible: it must lie between 1 and 1000"),
        ({"guidance": math.nan}, "guidance = nan is not possible"),
        ({"per_class": "many"}, "per_class = 'many' is not possible"),
        ({"size": 500}, "size = 500 is not possible: it must be a multiple of 8, such as 496"),
        (
            {"template": "{prompt}, {angel}, {background}"},
            "Unknown placeholder 'angel' in template of classes.yaml: did",
        ),
        ({"template": "{prompt}, {angle}"}, "backgrounds is given, but template has no {background}"),
        ({"template": "{angle}, {background}"}, "template has no {prompt}"),
        ({"template": "{prompt} {angle} {background} {lighting}"}, "template has {lighting}, but lighting is empty"),
        ({"template": "{prompt"}, "template is not possible"),
        ({"angles": [str(n) for n in range(2000)]}, "has 12,000 combinations"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(changes, sentence):
    with pytest.raises(UsageError) as refusal:
        generation_from_mapping({**SMALL, **changes}, "classes.yaml")
    assert sentence in str(refusal.value)


def test_a_file_that_is_none_is_refused(discern, tmp_path):
    (tmp_path / "broken.yaml").write_text("classes: [")
    (tmp_path / "list.yaml").write_text("- bolt\n")
    for words, sentence in (
        ((), "Name the CLASSES file; --example prints one"),
        ((tmp_path / "nowhere.yaml",), "No such file"),
        ((tmp_path,), "No such file"),
        ((tmp_path / "broken.yaml",), "is not YAML"),
        ((tmp_path / "list.yaml",), "says nothing to generate"),
    ):
        answer = discern("generate", *words, *([tmp_path / "out"] if words else []))
        assert (answer.code, answer.out) == (2, "")
        assert sentence in answer.err
    assert not (tmp_path / "out").exists()


# What is planned


AXIS = st.integers(0, 4)


@given(prompts=st.integers(1, 5), axes=st.tuples(AXIS, AXIS, AXIS), train=st.integers(1, 60), test=st.integers(0, 12))
def test_training_and_test_share_no_combination_and_no_seed(prompts, axes, train, test):
    texts = {key: tuple(f"{key} {n}" for n in range(size)) for key, size in zip(AXES.values(), axes, strict=True)}
    subject = Subject(prompts=tuple(f"prompt {n}" for n in range(prompts)))
    asked = Generation(classes={"a": subject}, per_class=train, test_per_class=test, **texts)
    images = plan(asked)
    assert Counter(one.split for one in images) == Counter(train=train, test=test)
    used = {split: Counter(one.prompt for one in images if one.split == split) for split in ("train", "test")}
    combinations = math.prod([prompts, *(max(1, size) for size in axes)])
    if combinations > 1:
        assert not used["train"].keys() & used["test"].keys()
    for counts in used.values():  # all are used before one is used again
        assert not counts or max(counts.values()) - min(counts.values()) <= 1
    seeds = {split: {seed_of(asked, one, 0) for one in images if one.split == split} for split in used}
    assert len(seeds["train"]) + len(seeds["test"]) == len(seeds["train"] | seeds["test"]) == train + test
    assert all(0 <= seed < 2**53 for seed in seeds["train"] | seeds["test"])


def test_every_part_is_used_equally_often():
    images = plan(generation_from_mapping(yaml.safe_load(example()), "the example"))
    for split, slack in (("train", 1), ("test", 1)):
        for label in ("bolt", "washer"):
            for part in ("prompt", *AXES):
                counts = Counter(one.parts[part] for one in images if (one.split, one.label) == (split, label))
                assert max(counts.values()) - min(counts.values()) <= slack, (split, label, part)
    firsts = [one.label for one in images[:5]]
    assert firsts == ["bolt", "carton_box", "cement_bag", "nut", "washer"]  # who looks early sees every class


def test_a_seed_depends_on_class_split_index_and_attempt_alone():
    small, large = generation_from_mapping(SMALL, ""), generation_from_mapping({**SMALL, "per_class": 9}, "")
    small_seeds = {one.image: seed_of(small, one, 0) for one in plan(small)}
    large_seeds = {one.image: seed_of(large, one, 0) for one in plan(large)}
    assert small_seeds.items() <= large_seeds.items()
    other = replace(small, seed=6)
    assert not set(small_seeds.values()) & {seed_of(other, one, 0) for one in plan(other)}
    attempts = [seed_of(small, plan(small)[0], attempt) for attempt in range(ATTEMPTS)]
    assert len(set(attempts)) == ATTEMPTS


# What is painted


def test_the_set_opens_as_a_dataset(discern, classes, tmp_path):
    answer = discern("generate", classes(), tmp_path / "set", "--json")
    assert answer.code == 0, answer.err
    where = tmp_path / "set" / ".generation" / "metadata.parquet"
    said = {"folder": str(tmp_path / "set"), "images": 12, "made": 12, "blocked": [], "metadata": str(where)}
    assert answer.json == said
    dataset = open_dataset(tmp_path / "set")
    assert dataset.classes == ("bolt", "große Mutter")
    assert dataset.split_counts() == {"train": 8, "test": 4}
    table = pl.read_parquet(where)
    assert table.schema == RECORD
    assert set(table["image"]) == set(dataset.images)
    assert pixels(tmp_path / "set" / table["image"][0]).shape == (16, 16, 3)
    assert len({file.read_bytes() for file in (tmp_path / "set").rglob("*.png")}) == 12
    again = discern("generate", classes(), tmp_path / "set")
    assert "(12, 0 of them made now)" in again.out
    assert again.err == ""  # the model is not even loaded


def test_every_record_is_enough_to_paint_its_image_again(whole, weights):
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(weights)  # by diffusers alone
    pipeline.set_progress_bar_config(disable=True)
    found = records(whole)
    assert len(found) == 12
    for record in found:
        picture = pipeline(
            record["prompt"],
            negative_prompt=record["negative_prompt"],
            generator=torch.Generator().manual_seed(record["seed"]),
            num_inference_steps=record["steps"],
            guidance_scale=record["guidance"],
            height=record["size"],
            width=record["size"],
        ).images[0]
        stored = (whole / record["image"]).read_bytes()
        assert np.array_equal(picture, pixels(whole / record["image"]))
        assert record["digest"] == hashlib.blake2b(stored, digest_size=16).hexdigest()


def test_a_record_names_everything_that_made_the_image(whole, weights):
    record = records(whole)[0]
    assert record.keys() == RECORD.keys()
    words = [record[part] for part in ("subject", "angle", "background")]
    assert record["prompt"] == ", ".join(words)
    assert record["image"] == "train/bolt/00000.png"
    assert (record["model"], record["licence"]) == (str(weights), "openrail++")
    assert record["revision"].startswith("blake2b-")
    assert (record["pipeline"], record["scheduler"]) == ("StableDiffusionPipeline", "DDIMScheduler")
    assert (record["attempt"], record["blocked"], record["lighting"]) == (0, False, None)
    assert record["torch"] == torch.__version__.partition("+")[0]


def test_a_kept_settings_file_makes_the_set_again(discern, whole, tmp_path):
    assert discern("generate", whole / ".generation" / "classes.yaml", tmp_path / "set").code == 0
    assert files(tmp_path / "set") == files(whole)


# What happens in between


def test_a_killed_call_goes_on_to_the_same_bytes(discern, classes, tmp_path):
    asked = classes(per_class=20, steps=4)
    folder = tmp_path / "killed"
    call = [sys.executable, "-c", "from discern.cli.main import main; main()", "generate", asked, folder]
    process = subprocess.Popen(call, stderr=subprocess.DEVNULL)
    log = folder / ".generation" / "metadata.jsonl"
    while process.poll() is None and not (log.is_file() and log.read_bytes().count(b"\n") >= 5):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # and had not come to its end
    made = len(records(folder))
    assert 5 <= made < 44
    with log.open("ab") as end:
        end.write(b'{"image": "train/bolt/000')  # as a power cut in the middle of a line would leave it
    answer = discern("generate", asked, folder, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["made"] in (44 - made, 44 - made + 1)  # a file may be there whose record was not yet
    discern("generate", asked, tmp_path / "whole")
    hidden = {name for name in files(folder) if name.endswith(".tmp")}  # a file that was being written
    assert files(folder) == files(tmp_path / "whole") | {name: files(folder)[name] for name in hidden}
    assert len(hidden) <= 1


def test_ctrl_c_leaves_whole_images_and_the_same_call_goes_on(tmp_path):
    def stop(call, position):
        if call == 2:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt, match="4 of 8 images are made; the same command goes on"):
        generate(ODD, tmp_path / "set", model=model_of(Brush(stop)), batch=2)
    assert len(pictures(tmp_path / "set")) == len(records(tmp_path / "set")) == 4
    assert generate(ODD, tmp_path / "set", model=model_of(Brush()), batch=2).made == 4
    generate(ODD, tmp_path / "whole", model=model_of(Brush()), batch=2)
    assert files(tmp_path / "set") == files(tmp_path / "whole")


@pytest.mark.parametrize("batch", [1, 3])
def test_an_image_that_was_removed_comes_back_the_same_whatever_was_beside_it(classes, tmp_path, batch):
    asked, folder = load_generation(classes()), tmp_path / "set"
    generate(asked, folder, batch=batch)
    before = pictures(folder)
    for name in ("train/bolt/00001.png", "test/große Mutter/00001.png"):
        (folder / name).unlink()
    assert generate(asked, folder, batch=batch).made == 2
    assert pictures(folder) == before
    assert pl.read_parquet(folder / ".generation" / "metadata.parquet").height == 12


def test_the_size_of_the_batch_changes_rounding_alone(classes, tmp_path, whole):
    generate(load_generation(classes()), tmp_path / "set", batch=5)
    for name in pictures(whole):
        one, other = (pixels(folder / name) for folder in (whole, tmp_path / "set"))
        assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"steps": 3}, "(steps was 2 and is 3)"),
        ({"per_class": 5, "seed": 6}, "(per_class was 4 and is 5; seed was 5 and is 6)"),
        ({"angles": ["above"]}, "(angles has changed)"),
        (
            {"classes": {"bolt": {"prompts": ["a bolt"]}}},
            "(classes.bolt has changed; classes.große Mutter has changed)",
        ),
    ],
)
def test_other_settings_for_the_same_folder_are_refused(discern, classes, whole, tmp_path, changes, sentence):
    folder = shutil.copytree(whole, tmp_path / "set")
    (folder / "train" / "bolt" / "00000.png").unlink()
    before = files(folder)
    answer = discern("generate", classes(**changes), folder)
    assert answer.code == 2
    assert sentence in answer.err
    assert "give a new folder" in answer.err
    assert files(folder) == before


def test_settings_may_change_as_long_as_there_is_no_image(classes, tmp_path):
    def refuse(call, position):
        raise ValueError("too many steps")

    with pytest.raises(UsageError, match="too many steps"):
        generate(ODD, tmp_path / "set", model=model_of(Brush(refuse)))
    assert generate(replace(ODD, steps=1), tmp_path / "set", model=model_of(Brush())).made == 8
    assert load_generation(tmp_path / "set" / ".generation" / "classes.yaml").steps == 1


def test_another_model_for_the_same_folder_is_refused(discern, tmp_path, weights):
    path = shutil.copytree(weights, tmp_path / "model")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**SMALL, "model": str(path)}))
    discern("generate", tmp_path / "c.yaml", tmp_path / "set")
    (tmp_path / "set" / "train" / "bolt" / "00000.png").unlink()
    scheduler = path / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace("0.02", "0.03"))
    answer = discern("generate", tmp_path / "c.yaml", tmp_path / "set")
    assert answer.code == 2
    assert "which was asked for or used so far" in answer.err
    generate(ODD, tmp_path / "other", model=model_of(Brush()))
    (tmp_path / "other" / "train" / "a" / "00000.png").unlink()
    with pytest.raises(UsageError, match="made by revision r1 of the model, not r2"):
        generate(ODD, tmp_path / "other", model=model_of(Brush(), revision="r2"))


def test_a_folder_of_something_else_is_left_alone(discern, classes, photos):
    folder = photos({"cat": 1})
    before = files(folder)
    answer = discern("generate", classes(), folder)
    assert answer.code == 2
    assert "was not begun by this command" in answer.err
    assert files(folder) == before


def test_damaged_records_are_refused(discern, classes, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "set")
    (folder / ".generation" / "metadata.jsonl").write_text("[]\n")
    assert "metadata.jsonl is damaged" in discern("generate", classes(), folder).err


def test_a_full_disk_stops_with_one_sentence_and_the_same_call_goes_on(mounted, tmp_path):
    disk = mounted("size=64k")
    with pytest.raises(StorageError, match="disk is full"):
        generate(ODD, disk / "set", model=model_of(Brush()))
    assert all(pixels(file).shape == (64, 64, 3) for file in (disk / "set").rglob("[0-9]*.png"))
    shutil.copytree(disk / "set", tmp_path / "set")
    assert generate(ODD, tmp_path / "set", model=model_of(Brush())).images == 8


# What a model may do


def test_a_flagged_image_is_tried_with_the_next_seed(classes, tmp_path, whole, weights):
    model = load_model(str(weights), None, progress=Silent())
    seen = []

    def checker(images, clip_input):
        seen.append(len(seen))
        flagged = seen[-1] in (0, 3, 4)  # the first image once, the third twice
        return images * (not flagged), [flagged] * len(images)

    features = SimpleNamespace(pixel_values=torch.zeros(1), to=lambda device: features)
    model.pipeline.register_modules(safety_checker=None, feature_extractor=None)
    model.pipeline.safety_checker = checker
    model.pipeline.feature_extractor = lambda pictures, return_tensors: features
    done = generate(load_generation(classes()), tmp_path / "set", model=model)
    assert (done.images, done.blocked) == (12, ())
    attempts = [record["attempt"] for record in records(tmp_path / "set")]
    assert attempts == [1, 0, 2] + [0] * 9
    same = [
        now["seed"] == before["seed"] for now, before in zip(records(tmp_path / "set"), records(whole), strict=True)
    ]
    assert same == [attempt == 0 for attempt in attempts]
    assert all(pixels(file).any() for file in (tmp_path / "set").rglob("*.png"))


def test_an_image_that_is_black_however_often_is_recorded_and_left_out(tmp_path):
    notes, brush = Notes(), Brush(lambda call, position: 1 <= call <= ATTEMPTS)
    done = generate(ODD, tmp_path / "set", model=model_of(brush), progress=notes)
    assert done.blocked == ("train/b/00000.png",)
    assert (done.images, done.made) == (7, 7)
    assert len(brush.calls) == 7 + ATTEMPTS
    assert [note for note in notes.said if note.startswith("warning: 1 images are missing")]
    table = pl.read_parquet(done.metadata)
    assert table.filter("blocked")["image"].to_list() == ["train/b/00000.png"]
    assert table.filter("blocked")["digest"].to_list() == [None]
    assert not (tmp_path / "set" / "train" / "b" / "00000.png").exists()
    again = Brush()
    assert generate(ODD, tmp_path / "set", model=model_of(again)).made == 0
    assert not again.calls  # it would be black again


def test_in_a_batch_only_the_black_ones_are_tried_again(tmp_path):
    brush = Brush(lambda call, position: call == 0 and position in (1, 2))
    generate(ODD, tmp_path / "set", model=model_of(brush), batch=4)
    assert brush.calls[:2] == [["a", "b", "a", "b"], ["b", "a", "a", "a"]]  # filled up to four
    assert [record["attempt"] for record in records(tmp_path / "set")] == [0, 1, 1, 0, 0, 0, 0, 0]


def test_what_the_model_does_not_take_is_refused(tmp_path):
    with pytest.raises(UsageError, match="brush takes no negative_prompt: remove `negative_prompt:`"):
        generate(replace(ODD, negative_prompt="blur"), tmp_path / "set", model=model_of(Brush()))
    with pytest.raises(UsageError, match="brush paints 512 x 512 pixels where size is 64"):
        generate(ODD, tmp_path / "set", model=model_of(Brush(side=512)))

    def refuse(call, position):
        raise ValueError("`height` has to be divisible by 16. And more.")

    with pytest.raises(UsageError, match=r"refuses these settings \(`height` has to be divisible by 16\)"):
        generate(ODD, tmp_path / "set", model=model_of(Brush(refuse)))
    assert not pictures(tmp_path / "set")


def test_a_prompt_that_the_model_cuts_off_is_told(weights):
    model = load_model(str(weights), None, progress=Silent())
    assert too_long(model, ["a" * 75, "b" * 76]) == ["b" * 76]  # with its two marks, 77 tokens fit
    assert too_long(model_of(Brush()), ["c" * 999]) == []


def test_a_class_with_one_combination_is_warned_of(tmp_path):
    notes = Notes()
    generate(ODD, tmp_path / "set", model=model_of(Brush()), progress=notes)
    assert any(note.startswith("warning: a, b: with a single combination") for note in notes.said)


# Where the model is


def test_a_model_that_is_not_there_is_refused_with_the_way_on(discern, classes, tmp_path, weights, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    broken = shutil.copytree(weights, tmp_path / "broken")
    os.truncate(broken / "unet" / "diffusion_pytorch_model.safetensors", 5000)
    for name, sentence in (
        (str(tmp_path / "nowhere"), "does not exist"),
        ("./nowhere", "does not exist"),
        (str(tmp_path / "classes.yaml"), "is a file"),
        (str(tmp_path / "empty"), "holds no diffusers model (it has no model_index.json)"),
        (str(broken), "cannot be loaded as a text-to-image model"),
        ("nobody/no-such-model-anywhere", "is not in the cache and cannot be downloaded from the hub"),
    ):
        answer = discern("generate", classes(model=name), tmp_path / "set")
        assert answer.code == 2
        assert sentence in answer.err.splitlines()[-1]
        assert "model" in answer.err.splitlines()[-1]
    answer = discern("generate", classes(revision="main"), tmp_path / "set")
    assert "leave out `revision:`" in answer.err
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_without_the_extra_its_install_command_is_given(discern, classes, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    answer = discern("generate", classes(), tmp_path / "set")
    assert answer.code == 2
    assert f"'{package}' is not installed: run `pip install 'discern-vision[generate]'`" in answer.err
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
def test_a_real_model_paints_what_it_is_asked(discern, tmp_path):
    """With DISCERN_MODEL set to a hub name or a folder: four images, no two alike, none of one colour."""
    if "DISCERN_MODEL" not in os.environ:
        pytest.skip("DISCERN_MODEL is not set: no real weights")
    asked = {**yaml.safe_load(example()), "model": os.environ["DISCERN_MODEL"], "per_class": 1, "test_per_class": 0}
    asked |= {"size": 256, "steps": 4, "classes": dict(list(asked["classes"].items())[:4])}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(asked))
    answer = discern("generate", tmp_path / "c.yaml", tmp_path / "set")
    assert answer.code == 0, answer.err
    painted = [pixels(file) for file in sorted((tmp_path / "set").rglob("*.png"))]
    assert len(painted) == 4
    assert all(picture.std() > 1 for picture in painted)
    assert all((one != other).any() for one, other in pairwise(painted))

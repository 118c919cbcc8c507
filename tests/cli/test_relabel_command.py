"""`discern relabel`: what it prints, what it refuses, and that every later command follows it."""

import json

import pytest


@pytest.fixture
def root(colours):
    return colours({"red": 6, "green": 6})


def refused(answer, code, sentence):
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert answer.err.splitlines()[-1].startswith("Error: ")
    assert sentence in answer.err.splitlines()[-1]
    return True


def test_decide_list_and_undo(discern, root):
    told = discern("relabel", root, "red/0.jpg", "red/1.png", "--drop", "--because", "out of focus")
    assert told.code == 0
    assert "Decided 2: drop red/1.png, because: out of focus" in told.out
    assert str(root / ".discern" / "journal.jsonl") in told.out
    assert discern("audit", root, "--json").json["images"] == 10

    moved = discern("relabel", root, "green/0.jpg", "--to", "red", "--because", "it is", "--json").json
    assert [(d["number"], d["image"], d["label"]) for d in moved["decided"]] == [(3, "green/0.jpg", "red")]
    assert "(green 5, red 5)" in discern("audit", root).out

    table = discern("relabel", root, "--list")
    assert all(word in table.out for word in ("red/0.jpg", "out of focus", "relabel to red", "stands"))
    undone = discern("relabel", root, "--undo", "1")
    assert "Undone 1: drop red/0.jpg" in undone.out
    last = discern("relabel", root, "--undo", "--json").json
    assert [d["image"] for d in last["undone"]] == ["green/0.jpg"]
    assert discern("audit", root, "--json").json["images"] == 11
    listed = discern("relabel", root, "--list", "--json").json
    assert [d["undone"] for d in listed["decisions"]] == [True, False, True]


def test_a_table_of_decisions(discern, root, tmp_path):
    rows = [
        "image,decision,label,reason",
        *(f"red/{k}.{'png' if k % 4 in (1, 2) else 'jpg'},drop,," for k in range(3)),
    ]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    answer = discern("relabel", root, "--from", tmp_path / "t.csv", "--because", "by eye", "--json")
    assert len(answer.json["decided"]) == 3
    assert discern("audit", root, "--json").json["images"] == 9


def test_nothing_was_decided(discern, root):
    assert discern("relabel", root, "--list").out == "No decisions.\n"
    assert discern("relabel", root, "--list", "--json").json["decisions"] == []
    assert refused(discern("relabel", root, "--undo"), 2, "There is no decision to undo")


def test_training_sees_what_was_decided(discern, root, tiny, tmp_path):
    discern("relabel", root, "red/0.jpg", "--drop", "--because", "x")
    assert discern("train", root, *tiny, "--runs", tmp_path / "runs", "--name", "x").code == 0
    assert "Data: 11 images" in discern("train", root, *tiny, "--runs", tmp_path / "runs", "--name", "y").err
    assert json.loads((tmp_path / "runs/x/run.json").read_text())["status"] == "finished"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "Name IMAGES, or give one of --from, --list and --undo."),
        (["red/0.jpg"], "one of --to CLASS, --drop and --keep"),
        (["red/0.jpg", "--drop", "--keep", "--because", "x"], "one of --to CLASS, --drop and --keep"),
        (["red/0.jpg", "--drop"], 'Say why: --because "..."'),
        (["red/0.jpg", "--drop", "--because", " "], "has no reason"),
        (["red/0.jpg", "--list"], "Name IMAGES, or give one of"),
        (["--list", "--undo"], "Name IMAGES, or give one of"),
        (["--list", "--drop"], "Name the images to drop."),
        (["--undo", "x"], "'x' is not the number of a decision"),
        (["red/9.jpg", "--keep", "--because", "x"], "No image 'red/9.jpg'"),
        (["red/0.jpg", "--to", "rde", "--because", "x"], "did you mean 'red'?"),
        (["--from", "nowhere.csv"], "No such file: nowhere.csv"),
    ],
)
def test_requests_that_make_no_sense(discern, root, words, sentence):
    assert refused(discern("relabel", root, *words), 2, sentence)
    assert not (root / ".discern").exists()


def test_a_table_without_a_decision(discern, root, tmp_path):
    (tmp_path / "t.csv").write_text("image,decision\nred/0.jpg,\n")
    assert refused(discern("relabel", root, "--from", tmp_path / "t.csv"), 2, "holds no decision")


@pytest.mark.parametrize("words", [["--list"], ["--undo"], ["a.jpg", "--keep", "--because", "x"]])
def test_photos_that_do_not_exist(discern, tmp_path, words):
    assert refused(discern("relabel", tmp_path / "nowhere", *words), 2, "No such file or folder")

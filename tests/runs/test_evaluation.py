import json

import numpy as np
import pytest

from discern.evaluation.metrics import evaluate
from discern.files import read_json, write_json
from discern.runs.evaluation import Averages, ClassScores, Evaluation, SplitScores
from discern.runs.predictions import Predictions

CLASSES = ("naïve 猫", "p(x)")


def scores(n=10):
    mean = Averages(precision=0.75, recall=0.7, f1=0.725)
    return SplitScores(
        n=n,
        top1=0.7,
        top1_ci=(0.3968, 0.8922),
        macro_f1=0.725,
        macro_f1_ci=(0.5, 0.9),
        loss=0.61234,
        macro=mean,
        weighted=Averages(precision=0.76, recall=0.71, f1=0.735),
        per_class=tuple(
            ClassScores(name=name, precision=0.75, recall=0.7, recall_ci=(0.4, 0.9), f1=0.725, support=n // 2)
            for name in CLASSES
        ),
        confusion=((4, 1), (2, 3)),
    )


@pytest.fixture
def evaluation():
    return Evaluation(classes=CLASSES, splits={"val": scores(), "test": scores(20)})


def test_what_is_written_is_read_back(evaluation, tmp_path):
    write_json(tmp_path / "evaluation.json", evaluation.to_json())
    found = Evaluation.from_json(read_json(tmp_path / "evaluation.json"))
    assert found == evaluation
    assert list(found.splits) == ["val", "test"]
    assert "naïve 猫" in (tmp_path / "evaluation.json").read_text(encoding="utf-8")


def test_what_was_read_back_is_of_the_same_types(evaluation):
    found = Evaluation.from_json(json.loads(json.dumps(evaluation.to_json())))
    assert hash(found.splits["val"]) == hash(evaluation.splits["val"])  # lists anywhere inside would not hash


def test_what_evaluate_gives_is_plain_json():
    labels = np.array([0, 1, 0, 1, 1])
    predictions = Predictions(
        images=tuple("abcde"),
        splits=("test",) * 5,
        labels=labels,
        probabilities=np.eye(2, dtype=np.float32)[[0, 1, 1, 1, 0]],
        classes=CLASSES,
    )
    evaluation = evaluate(predictions)
    assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json(), allow_nan=False))) == evaluation


def test_printing_shows_every_split_class_and_average_with_n_and_the_interval(evaluation):
    lines = str(evaluation).splitlines()
    assert lines[0] == "val: top-1 70.0% [39.7%, 89.2%], macro F1 0.725, loss 0.6123, n = 10"
    assert lines[1].split() == ["class", "precision", "recall", "f1", "support"]
    assert lines[2].startswith("  naïve 猫")
    assert lines[3].split() == ["p(x)", "0.750", "0.700", "0.725", "5"]
    assert lines[4].split() == ["macro", "0.750", "0.700", "0.725", "10"]
    assert lines[5].split() == ["weighted", "0.760", "0.710", "0.735", "10"]
    assert lines[6].startswith("test: ")
    assert lines[6].endswith("n = 20")
    assert len({len(line) for line in lines[1:6]}) == 1

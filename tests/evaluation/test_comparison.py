import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from discern.errors import DataError, UsageError
from discern.evaluation.comparison import compare, holm, mcnemar, paired_interval
from discern.runs.predictions import Predictions

COUNT = st.integers(0, 300)


def model(correct, classes=3, confidence=0.9):
    """Predictions of images 0, 1, 2 ... that are right where `correct` is true."""
    n = len(correct)
    labels = np.arange(n) % classes
    predicted = np.where(correct, labels, (labels + 1) % classes)
    probabilities = np.full((n, classes), (1 - confidence) / (classes - 1), dtype=np.float32)
    probabilities[np.arange(n), predicted] = confidence
    return Predictions(
        images=tuple(f"{i:05d}.jpg" for i in range(n)),
        splits=("test",) * n,
        labels=labels,
        probabilities=probabilities,
        classes=tuple("abcdefgh"[:classes]),
    )


def right_except(n, wrong):
    correct = np.ones(n, dtype=bool)
    correct[list(wrong)] = False
    return model(correct)


def three_models(seed=0, n=240):
    rng = np.random.default_rng(seed)
    return {name: model(rng.random(n) < p) for name, p in (("low", 0.6), ("high", 0.85), ("mid", 0.8))}


COST = {"low": 1.0, "mid": 2.0, "high": 3.0}


def newcombe(a, b, c, d):
    """Method 10 of Newcombe (1998), one table at a time, from the Wilson limits of statsmodels."""
    n = a + b + c + d
    p1, p2 = (a + b) / n, (a + c) / n
    l1, u1 = proportion_confint(a + b, n, method="wilson")
    l2, u2 = proportion_confint(a + c, n, method="wilson")
    phi = 0.0
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins:
        product = a * d - b * c
        if product > n / 2:
            product -= n / 2
        elif product >= 0:
            product = 0
        phi = product / margins**0.5
    delta = ((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2) ** 0.5
    epsilon = ((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2) ** 0.5
    return p1 - p2 - delta, p1 - p2 + epsilon


def interval(a, b, c, d):
    low, high = paired_interval(*(np.array([x]) for x in (a, b, c)), n=a + b + c + d)
    return low[0], high[0]


@given(COUNT, COUNT)
@settings(deadline=None)
def test_mcnemar_is_statsmodels_exact_test(only_first, only_second):
    p = mcnemar(np.array([only_first]), np.array([only_second]))[0]
    table = [[10, only_first], [only_second, 10]]
    assert p == pytest.approx(reference_mcnemar(table, exact=True).pvalue, rel=1e-9)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 5), (20, 4), (400, 100), (15_200, 14_800), (30_000, 29_900)])
def test_mcnemar_stays_exact_where_others_approximate(b, c):
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert mcnemar(np.array([b, c]), np.array([c, b])) == pytest.approx([expected] * 2, rel=1e-8)


@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.05, 1.0])), min_size=1, max_size=30))
@settings(deadline=None, max_examples=25)  # multipletests collects garbage at each call: 0.1 s
def test_holm_is_statsmodels(p):
    expected = multipletests(p, method="holm")[1]
    np.testing.assert_allclose(holm(np.array(p)), expected, rtol=1e-12)


@given(COUNT, COUNT, COUNT, COUNT)
@settings(deadline=None)
def test_paired_interval_is_newcombes_method_10(a, b, c, d):
    if a + b + c + d:
        assert interval(a, b, c, d) == pytest.approx(newcombe(a, b, c, d), abs=1e-7)


@pytest.mark.parametrize(
    ("table", "published"),
    [
        (
            (1, 1, 7, 12),
            (-0.507, -0.026),
        ),  # Fagerland, Lydersen & Laake (2014), airway reactivity, Newcombe's interval
        ((36, 12, 2, 0), (0.0569, 0.3404)),  # Newcombe (1998), table II, method 10
    ],
)
def test_paired_interval_is_the_published_one(table, published):
    decimals = 3 if abs(published[0]) > 0.5 else 4
    assert tuple(round(float(x), decimals) for x in interval(*table)) == published


@given(COUNT, COUNT, COUNT, COUNT)
@settings(deadline=None)
def test_paired_interval_turns_round_with_the_models_and_holds_the_difference(a, b, c, d):
    if n := a + b + c + d:
        low, high = interval(a, b, c, d)
        assert low <= (b - c) / n + 1e-12
        assert high >= (b - c) / n - 1e-12
        assert interval(a, c, b, d) == pytest.approx((-high, -low), abs=1e-12)


@pytest.mark.parametrize("cells", [(0.75, 0.1, 0.05, 0.1), (0.9, 0.04, 0.04, 0.02), (0.3, 0.3, 0.2, 0.2)])
def test_paired_interval_covers_the_true_difference_about_95_times_in_100(cells):
    a, b, c, _ = np.random.default_rng(5).multinomial(150, cells, size=4000).T
    low, high = paired_interval(a, b, c, n=150)
    truth = cells[1] - cells[2]
    assert 0.935 < np.mean((low <= truth) & (truth <= high)) < 0.985


def test_a_million_images_do_not_overflow():
    # Compared with the same shares of fewer images, whose interval is ten times as wide.
    small, large = interval(4000, 3000, 2000, 1000), interval(400_000, 300_000, 200_000, 100_000)
    assert large[1] - large[0] == pytest.approx((small[1] - small[0]) / 10, rel=0.01)


def test_rows_agree_with_scikit_learn_and_stand_in_order():
    models = three_models()
    result = compare(models, COST)
    assert [row.name for row in result.rows] == ["high", "mid", "low"]
    for row in result.rows:
        p = models[row.name]
        hits = int((p.predicted == p.labels).sum())
        assert row.n == 240
        assert row.top1 == pytest.approx(reference.accuracy_score(p.labels, p.predicted))
        assert row.top1_ci == pytest.approx(proportion_confint(hits, 240, method="wilson"))
        assert row.macro_f1 == pytest.approx(reference.f1_score(p.labels, p.predicted, average="macro"))
        exact = p.probabilities.astype(np.float64)
        expected_loss = reference.log_loss(p.labels, exact / exact.sum(axis=1, keepdims=True))
        assert row.loss == pytest.approx(expected_loss, rel=1e-6)
        assert row.cost == COST[row.name]
        assert not row.baseline


def test_every_pair_agrees_with_statsmodels_holm_included():
    models = three_models(seed=4)
    result = compare(models, COST)
    assert [(p.first, p.second) for p in result.pairs] == list(combinations([r.name for r in result.rows], 2))
    for pair in result.pairs:
        first, second = (models[name].predicted == models[name].labels for name in (pair.first, pair.second))
        table = [[np.sum(first & second), np.sum(first & ~second)],
                 [np.sum(~first & second), np.sum(~first & ~second)]]  # fmt: skip
        assert (pair.only_first, pair.only_second) == (table[0][1], table[1][0])
        assert pair.difference == pytest.approx(first.mean() - second.mean())
        assert pair.difference_ci == pytest.approx(newcombe(*map(int, np.ravel(table))))
        assert pair.p == pytest.approx(reference_mcnemar(table, exact=True).pvalue)
    corrected = multipletests([pair.p for pair in result.pairs], method="holm")[1]
    assert [pair.p_holm for pair in result.pairs] == pytest.approx(list(corrected))


def test_the_pick_is_the_cheapest_model_not_significantly_worse_than_the_best():
    models = {
        "best": right_except(300, range(10)),
        "equal": right_except(300, range(12)),
        "bad": right_except(300, range(80)),
    }
    assert compare(models, {"best": 3, "equal": 2, "bad": 1}).pick == "equal"
    assert compare(models, {"best": 1, "equal": 2, "bad": 3}).pick == "best"
    assert compare(models, {"best": 3, "equal": 2, "bad": 1}).best == "best"


def test_the_correction_for_many_pairs_decides_the_pick():
    # 3 against 13 discordant images: p = 0.021 alone, 0.064 among three pairs.
    models = {"dear": right_except(300, range(3)), "cheap": right_except(300, range(3, 16))}
    cost = {"dear": 2, "cheap": 1, "twin": 3}
    assert compare(models, cost).pick == "dear"
    three = compare(models | {"twin": models["dear"]}, cost)
    assert three.pick == "cheap"
    assert next(p for p in three.pairs if p.second == "cheap").p < 0.05


def test_equal_cost_goes_to_the_higher_score_and_equal_scores_to_the_lower_cost():
    higher, lower = right_except(90, range(2)), right_except(90, range(3))
    assert compare({"a": lower, "b": higher}, {"a": 1, "b": 1}).pick == "b"
    tied = compare({"a": higher, "b": higher}, {"a": 2, "b": 1})
    assert ([row.name for row in tied.rows], tied.best, tied.pick) == (["b", "a"], "b", "b")


def test_a_baseline_stands_in_the_table_and_in_the_tests_and_is_never_picked():
    models = three_models()
    result = compare(models, COST | {"high": 0.0}, baselines=frozenset({"high", "not here"}))
    assert result.rows[0].name == "high"
    assert [row.baseline for row in result.rows] == [True, False, False]
    assert len(result.pairs) == 3
    assert (result.best, result.pick) == ("mid", "mid")
    plain = compare(models, COST | {"high": 0.0})
    assert plain.pick == "high"
    assert plain.pairs == result.pairs


def test_one_model_is_a_comparison_without_pairs():
    result = compare({"only": right_except(30, [1])}, {"only": 1})
    assert (len(result.rows), result.pairs, result.best, result.pick) == (1, (), "only", "only")


def test_a_model_against_itself_is_no_difference():
    p = right_except(90, range(9))
    (pair,) = compare({"a": p, "b": p}, {"a": 1, "b": 2}).pairs
    assert (pair.difference, pair.p, pair.p_holm) == (0.0, 1.0, 1.0)
    assert pair.difference_ci[0] <= 0 <= pair.difference_ci[1]


def test_neither_the_order_of_models_nor_of_images_matters():
    models = three_models()
    shuffled = {
        name: p.take(np.random.default_rng(k).permutation(len(p)))
        for k, (name, p) in enumerate(reversed(models.items()))
    }
    assert compare(shuffled, COST) == compare(models, COST)


def test_only_the_split_asked_for_and_only_known_labels_count():
    expected = compare(three_models(n=210), COST, split="test")
    more = {}
    for name, p in three_models(n=240).items():
        head = three_models(n=210)[name]
        tail = p.take(np.arange(210, 240))
        more[name] = Predictions(
            images=head.images + tail.images,
            splits=("test",) * 220 + ("val",) * 20,
            labels=np.concatenate([head.labels, np.full(10, -1), tail.labels[10:]]),
            probabilities=np.concatenate([head.probabilities, tail.probabilities]),
            classes=p.classes,
        )
    assert compare(more, COST) == expected
    assert compare(more, COST, split="val").rows[0].n == 20
    with pytest.raises(DataError, match="'train' split has no image"):
        compare(more, COST, split="train")


def test_other_images_are_refused_with_both_names_and_the_numbers():
    full = right_except(30, [0])
    fewer = full.take(np.arange(4, 30))
    with pytest.raises(DataError) as refused:
        compare({"vit": full, "cnn": fewer}, {"vit": 1, "cnn": 1})
    message = str(refused.value)
    for part in (
        "'vit' and 'cnn'",
        "4 only in 'vit'",
        "0 only in 'cnn'",
        "'00000.jpg'",
        "discern evaluate RUN PHOTOS",
    ):
        assert part in message


def test_other_labels_are_refused_with_how_many_differ():
    p = right_except(30, [0])
    labels = p.labels.copy()
    labels[[3, 7]] = [1, -1]
    with pytest.raises(DataError, match=r"'b' do not have the same labels for 2 of 30 test images \(e.g. '00003.jpg'"):
        compare({"a": p, "b": replace(p, labels=labels)}, {"a": 1, "b": 1})


@pytest.mark.parametrize(
    ("classes", "detail"),
    [(("a", "b", "x"), "2 only in one of them, e.g. 'c'"), (("b", "a", "c"), "another order")],
)
def test_other_classes_are_refused(classes, detail):
    p = right_except(30, [0])
    with pytest.raises(DataError, match=f"do not have the same classes .{detail}"):
        compare({"a": p, "b": replace(p, classes=classes)}, {"a": 1, "b": 1})


def test_an_image_predicted_twice_is_refused():
    p = right_except(30, [0])
    twice = p.take(np.array([*range(30), 5]))
    with pytest.raises(DataError, match=r"'a' has 1 test images more than once .*00005"):
        compare({"a": twice, "b": twice}, {"a": 1, "b": 1})


@pytest.mark.parametrize("cost", [{}, {"a": float("nan")}, {"a": float("inf")}])
def test_a_missing_or_senseless_cost_is_refused(cost):
    with pytest.raises(UsageError, match="The cost of 'a'"):
        compare({"a": right_except(30, [0])}, cost)


def test_nothing_to_compare_or_to_pick_is_refused():
    with pytest.raises(DataError, match="Nothing to compare"):
        compare({}, {})
    with pytest.raises(DataError, match="1 baselines and no model"):
        compare({"majority": right_except(30, [0])}, {"majority": 0}, baselines=frozenset({"majority"}))


def test_the_json_is_plain_and_whole():
    result = compare(three_models(), {name: np.float32(c) for name, c in COST.items()})
    record = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(record) == ["split", "rows", "pairs", "best", "pick"]
    assert record["rows"][0]["top1"] == result.rows[0].top1
    assert tuple(record["pairs"][0]["difference_ci"]) == result.pairs[0].difference_ci

import re
import xml.dom.minidom

import pytest

from discern.report.curves import training_curves


def lines(epochs, *, validated=1, second=None):
    """Lines of metrics.jsonl; every `validated`-th epoch has validation scores, a second phase begins at `second`."""
    made = []
    for epoch in range(1, epochs + 1):
        line = {"epoch": epoch, "phase": 1 + (second is not None and epoch >= second)}
        line |= {"train_loss": 2 / epoch, "train_acc": epoch / (epoch + 1), "learning_rate": 0.001}
        if validated and epoch % validated == 0:
            line |= {"val_loss": 2.5 / epoch, "val_acc": epoch / (epoch + 2)}
        made.append(line)
    return made


def parsed(text):
    return xml.dom.minidom.parseString(text)


def texts(text):
    return [node.firstChild.data for node in parsed(text).getElementsByTagName("text")]


@pytest.mark.parametrize("epochs", [1, 2, 12, 13, 200])
@pytest.mark.parametrize("validated", [0, 1, 4])
@pytest.mark.parametrize("second", [None, 2])
def test_any_training_can_be_drawn(epochs, validated, second):
    parsed(training_curves(lines(epochs, validated=validated, second=second), name="run"))


def test_it_shows_loss_accuracy_and_rate_of_training_and_validation():
    shown = texts(training_curves(lines(5), name="run"))
    assert {"Loss", "Accuracy", "Learning rate", "training", "validation", "epoch"} <= set(shown)
    assert shown[0] == "run, epoch 5: training loss 0.400; validation: loss 0.500, accuracy 71.4%"


def test_scores_of_an_earlier_epoch_are_called_so():
    assert "validation of epoch 4: loss" in texts(training_curves(lines(6, validated=4), name="run"))[0]


def test_without_validation_there_is_none_to_see():
    shown = texts(training_curves(lines(5, validated=0), name="run"))
    assert "validation" not in shown
    assert shown[0] == "run, epoch 5: training loss 0.400"


def test_phases_are_marked_where_they_begin():
    assert "phase 2" in texts(training_curves(lines(9, second=5), name="run"))
    assert "phase 2" not in texts(training_curves(lines(9), name="run"))
    # A resumed run of old has lines that know no phases.
    assert "phase 2" not in texts(training_curves([{**line, "phase": 1} for line in lines(3)], name="run"))


def test_it_stands_alone_and_has_the_colours_of_a_light_and_of_a_dark_page():
    text = training_curves(lines(5), name="run")
    root = parsed(text).documentElement
    assert root.namespaceURI == "http://www.w3.org/2000/svg"
    used, light, dark = set(re.findall(r"var\((--[a-z]+)\)", text)), *text.split("@media (prefers-color-scheme: dark)")
    assert used
    for variable in used:
        assert f"{variable}: #" in light
        assert f"{variable}: #" in dark.partition("</style>")[0]
    assert not re.search(r"(href|src)=\"(?!#)", text)


def test_any_name_is_shown_as_it_is():
    assert texts(training_curves(lines(2), name="<b>&$x$"))[0].startswith("<b>&$x$, epoch 2")


def test_rates_of_very_different_size_are_all_readable():
    spread = [{**line, "learning_rate": 10.0 ** -line["epoch"]} for line in lines(4)]
    assert {"0.1", "0.001"} & set(texts(training_curves(spread, name="run")))

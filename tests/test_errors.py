import errno
import re
from pathlib import Path

import pytest

from discern import errors
from discern.errors import (
    DataError,
    DiscernError,
    MissingExtra,
    NotARun,
    StorageError,
    TrainingDiverged,
    UnknownName,
    UnreadableImage,
    UsageError,
    storing,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (DiscernError, 1),
        (TrainingDiverged, 1),
        (UsageError, 2),
        (UnknownName, 2),
        (NotARun, 2),
        (MissingExtra, 2),
        (StorageError, 2),
        (DataError, 3),
        (UnreadableImage, 3),
    ],
)
def test_each_error_leaves_with_the_code_the_docs_give(kind, code):
    assert kind.exit_code == code
    assert issubclass(kind, DiscernError)


def test_the_docstring_draws_every_error_there_is():
    drawn = set(re.findall(r"^[\s│├└─]*([A-Z]\w+)  ", errors.__doc__, re.MULTILINE))
    kinds = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, DiscernError | KeyboardInterrupt)
    }
    assert drawn == kinds | {"KeyboardInterrupt"}


def test_a_wrong_name_is_answered_with_the_nearest_right_one():
    error = UnknownName("model", "resnet81", ["vgg16", "resnet18", "mobilenet"])
    assert str(error) == "Unknown model 'resnet81': did you mean 'resnet18'?"
    assert error.nearest == "resnet18"


def test_a_name_like_no_other_is_answered_with_all_of_them():
    error = UnknownName("model", "zzz", (name for name in ["vgg16", "alexnet"]))
    assert str(error) == "Unknown model 'zzz': known: alexnet, vgg16."
    assert error.nearest is None


def test_a_missing_extra_gives_the_install_command():
    assert "pip install 'discern-vision[onnx]'" in str(MissingExtra("onnxruntime", "onnx"))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "disk is full"),
        (errno.EACCES, "No permission"),
        (errno.EPERM, "No permission"),
        (errno.EROFS, "No permission"),
        (errno.ENOTDIR, "another kind"),
        (errno.EISDIR, "another kind"),
    ],
)
def test_the_systems_refusal_to_write_becomes_one_sentence_with_the_path(code, words):
    with pytest.raises(StorageError, match=words) as caught, storing(Path("/out/run.json")):
        raise OSError(code, "as the system says it")
    assert "/out/run.json" in str(caught.value)
    assert caught.value.__cause__.errno == code


def test_other_system_errors_say_what_the_system_said():
    with pytest.raises(StorageError, match=r"x cannot be written \(broken disk\)"), storing(Path("x")):
        raise OSError(errno.EIO, "broken disk")

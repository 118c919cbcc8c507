import os

import pytest

from discern.errors import StorageError
from discern.files import read_json, write_json, writing


def test_what_was_written_stands_under_the_name_and_nothing_else_does(tmp_path):
    with writing(tmp_path / "a" / "b" / "x.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a" / "b" / "x.txt").exists()
    assert (tmp_path / "a" / "b" / "x.txt").read_text() == "new"
    assert os.listdir(tmp_path / "a" / "b") == ["x.txt"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail():
        with writing(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.txt"]


def test_a_full_disk_keeps_the_old_file_and_says_what_to_do(mounted):
    path = mounted("size=64k") / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match=r"disk is full: .*x\.bin could not be written; free some space"):
        write_bytes(path, b"n" * 100_000)
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == ["x.bin"]


def test_a_read_only_disk_is_a_storage_error(mounted):
    with pytest.raises(StorageError, match=r"No permission to write .*x\.bin; choose another place"):
        write_bytes(mounted("size=64k,ro") / "x.bin", b"new")


def test_a_folder_without_permission_is_a_storage_error(shared_tmp, unprivileged):
    (shared_tmp / "locked").mkdir(mode=0o000)
    with unprivileged(), pytest.raises(StorageError, match=r"No permission to write .*x\.bin"):
        write_bytes(shared_tmp / "locked" / "x.bin", b"new")


def test_a_file_where_a_folder_should_be_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"x\.bin cannot be written: a file or folder of another kind"):
        write_bytes(tmp_path / "file" / "x.bin", b"new")


def test_json_comes_back_as_it_went_with_readable_names(tmp_path):
    value = {"näme": ["猫", 1, 0.1, None, True]}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert "猫" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert read_json(tmp_path / "x.json") == {"a": 1}
    assert os.listdir(tmp_path) == ["x.json"]


def write_bytes(path, data):
    with writing(path) as temporary:
        temporary.write_bytes(data)

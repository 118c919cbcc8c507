import json
import os
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.data.journal import Decision, decide, journal_file, read_journal, undo
from discern.data.sources import open_dataset
from discern.errors import DataError, StorageError, UsageError


def drop(image, reason="blurred"):
    return Decision(image=image, decision="drop", reason=reason)


def to(image, label, reason="it is one"):
    return Decision(image=image, decision="relabel", label=label, reason=reason)


def keep(image, reason="it is right"):
    return Decision(image=image, decision="keep", reason=reason)


def plain(decision):
    return replace(decision, time="", who=None, number=0, undone=False)


def listed(photos, **places):
    dataset = open_dataset(photos, **places)
    columns = dataset.table.select("image", "label", "decision").iter_rows()
    return {image: (dataset.classes[label], decision) for image, label, decision in columns}


def test_what_was_decided_is_read_back_in_order(photos):
    root = photos({"cat": 2, "dog": 2})
    said = [drop("cat/0.jpg", 'schräg, \n\u2028 "quoted" 猫'), to("cat/1.png", "dog"), keep("dog/0.jpg")]
    written = decide(root, said)
    journal = read_journal(root)
    assert journal == written
    assert [plain(each) for each in journal.decisions] == said
    assert [each.number for each in journal.decisions] == [1, 2, 3]
    assert all(each.time.endswith("+00:00") for each in journal.decisions)
    assert journal.file == root / ".discern" / "journal.jsonl"


def test_every_read_follows_the_journal(photos):
    root = photos({"cat": 3, "dog": 1})
    decide(root, [drop("cat/0.jpg"), to("cat/1.png", "dog"), keep("dog/0.jpg")])
    assert listed(root) == {"cat/1.png": ("dog", "relabel"), "cat/2.jpg": ("cat", None), "dog/0.jpg": ("dog", "keep")}


def test_no_file_of_the_photos_changes(photos):
    root = photos({"cat": 2, "dog": 2})
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in root.rglob("*.*")}
    decide(root, [drop("cat/0.jpg"), to("cat/1.png", "dog")])
    undo(root)
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in before} == before
    assert {file for file in root.rglob("*.*") if file.is_file()} - before.keys() == {read_journal(root).file}


def test_the_last_decision_about_an_image_stands_and_undoing_it_brings_back_the_one_before(photos):
    root = photos({"cat": 2, "dog": 2})
    decide(root, [to("cat/0.jpg", "dog")])
    decide(root, [drop("cat/0.jpg")])
    assert "cat/0.jpg" not in listed(root)
    assert undo(root).number == 2
    assert listed(root)["cat/0.jpg"] == ("dog", "relabel")
    assert undo(root).number == 1
    assert listed(root)["cat/0.jpg"] == ("cat", None)
    with pytest.raises(UsageError, match="no decision to undo"):
        undo(root)


def test_any_decision_can_be_undone_by_its_number_but_once(photos):
    root = photos({"cat": 2, "dog": 2})
    decide(root, [drop("cat/0.jpg"), drop("dog/0.jpg")])
    assert plain(undo(root, 1)) == drop("cat/0.jpg")
    assert set(listed(root)) == {"cat/0.jpg", "cat/1.png", "dog/1.png"}
    with pytest.raises(UsageError, match=r"Decision 1 .* is undone already"):
        undo(root, 1)
    with pytest.raises(UsageError, match=r"no decision 3 .* which has 2"):
        undo(root, 3)
    assert [each.undone for each in read_journal(root).decisions] == [True, False]


def test_undoing_where_nothing_was_decided_makes_no_file(photos):
    root = photos({"cat": 1, "dog": 1})
    with pytest.raises(UsageError, match="no decision to undo"):
        undo(root)
    assert not (root / ".discern").exists()


def test_a_new_class_comes_last_and_an_emptied_one_is_gone(photos):
    root = photos({"cat": 2, "typo": 1})
    decide(root, [to("typo/0.jpg", "cat"), to("cat/1.png", "bird")])
    dataset = open_dataset(root)
    assert dataset.classes == ("cat", "bird")
    assert dataset.class_counts() == {"cat": 2, "bird": 1}
    assert dataset.table["index"].to_list() == [0, 1, 2]


def test_a_journal_that_drops_everything_is_refused(photos):
    root = photos({"cat": 1, "dog": 1})
    decide(root, [drop("cat/0.jpg"), drop("dog/0.jpg")])
    with pytest.raises(DataError, match=r"journal\.jsonl drops every image of .*undo some"):
        open_dataset(root)


def test_decisions_about_images_that_are_gone_change_nothing_and_are_counted(photos, caplog):
    root = photos({"cat": 2, "dog": 2})
    decide(root, [drop("cat/0.jpg"), to("cat/1.png", "dog"), keep("dog/1.png")])
    (root / "cat/1.png").rename(root / "cat/other.png")
    assert listed(root)["cat/other.png"] == ("cat", None)
    assert "about 1 image that is no longer there, such as cat/1.png" in caplog.text
    (root / "dog/1.png").unlink()
    listed(root)
    assert "about 2 images that are no longer there" in caplog.text


def test_places_that_are_joined_each_have_their_own(photos):
    root, test = photos({"cat": 2, "dog": 2}), photos({"cat": 2, "dog": 2}, into="t")
    decide(root, [drop("cat/0.jpg")])
    decide(test, [to("cat/0.jpg", "dog"), drop("cat/1.png"), keep("dog/0.jpg")])
    found = listed(root, test=test)
    assert "photos/cat/0.jpg" not in found
    assert "t/cat/1.png" not in found
    assert found["t/cat/0.jpg"] == ("dog", "relabel")
    assert found["photos/dog/0.jpg"] == ("dog", None)
    index = open_dataset(root, test=test).table["index"]
    assert index.n_unique() == len(index)


def test_a_single_file_has_its_journal_beside_it(photos, tmp_path):
    file = tmp_path / "x.parquet"
    file.touch()
    assert journal_file(file) == tmp_path / ".discern" / "x.parquet.journal.jsonl"


@given(st.data())
def test_a_line_cut_off_anywhere_loses_that_decision_alone(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("photos")
    said = [drop("a"), to("ü", "dog"), keep("c")]
    file = decide(root, said).file
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])
    # A line is there as soon as it is complete, with or without the end of line that an editor may leave out.
    expected = [line for k, line in enumerate(said) if cut >= len(b"\n".join(whole.split(b"\n")[: k + 1]))]
    assert [plain(each) for each in read_journal(root).decisions] == expected
    assert [plain(each) for each in decide(root, [keep("d")]).decisions] == [*expected, keep("d")]
    assert [plain(each) for each in read_journal(root).decisions] == [*expected, keep("d")]


def test_a_line_that_is_cut_off_is_mentioned(photos, caplog):
    root = photos({"cat": 1, "dog": 1})
    with decide(root, [keep("cat/0.jpg")]).file.open("a") as file:
        file.write('{"time": "2026-')
    assert listed(root)["cat/0.jpg"] == ("cat", "keep")
    assert "last line of" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        '{"undo": 7}',
        '{"undo": 0}',
        '{"undo": "1"}',
        '{"image": "a", "decision": "maybe", "reason": "x"}',
        '{"image": "a", "decision": "relabel", "reason": "x"}',
        '{"image": 3, "decision": "drop", "reason": "x"}',
    ],
)
def test_a_line_in_the_middle_that_says_nothing_is_refused_with_its_number(photos, line):
    root = photos({"cat": 1, "dog": 1})
    file = decide(root, [keep("cat/0.jpg")]).file
    file.write_text(f"{file.read_text()}{line}\n{file.read_text()}")
    with pytest.raises(DataError, match=r"Line 2 of the journal .* is not a decision; mend it or take it out"):
        open_dataset(root)


def test_lines_written_by_hand_count(photos):
    root = photos({"cat": 2, "dog": 1})
    (root / ".discern").mkdir()
    lines = [{"image": "cat/0.jpg", "decision": "drop"}, {"image": "cat/1.png", "decision": "relabel", "label": "dog"}]
    (root / ".discern" / "journal.jsonl").write_text("\r\n\r\n".join(map(json.dumps, lines)))
    (root / "cat/2.jpg").write_bytes((root / "dog/0.jpg").read_bytes())
    assert listed(root) == {"cat/1.png": ("dog", "relabel"), "cat/2.jpg": ("cat", None), "dog/0.jpg": ("dog", None)}


WRITER = """
import sys
from discern.data.journal import Decision, decide
for number in range(40):
    image = f"{sys.argv[2]}/{number}"
    decide(sys.argv[1], [Decision(image=image, decision="drop", reason="x" * 300) for _ in range(2)])
"""


def test_two_processes_write_at_once(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, tmp_path, name]) for name in ("a", "b", "c")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    decisions = read_journal(tmp_path).decisions
    assert [each.number for each in decisions] == list(range(1, 241))
    for name in "abc":
        assert [d.image for d in decisions if d.image[0] == name] == [f"{name}/{k // 2}" for k in range(80)]
    assert [d.image for d in decisions[::2]] == [d.image for d in decisions[1::2]]  # what was given together stays so


def test_two_threads_that_undo_take_back_different_decisions(tmp_path):
    decide(tmp_path, [drop(str(number)) for number in range(20)])
    taken = []
    threads = [threading.Thread(target=lambda: taken.append(undo(tmp_path).number)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 21))


def test_a_decision_needs_a_reason(tmp_path):
    with pytest.raises(UsageError, match="drop x has no reason"):
        decide(tmp_path, [keep("y"), drop("x", " ")])
    assert not (tmp_path / ".discern").exists()


def test_photos_that_may_not_be_written_name_the_way_on_and_it_works(shared_tmp, unprivileged, monkeypatch):
    photos, own = shared_tmp / "photos", shared_tmp / "own"
    photos.mkdir()
    decide(photos, [keep("a")])
    own.mkdir()
    own.chmod(0o777)
    with unprivileged(), pytest.raises(StorageError, match=r"No permission to write .*\$DISCERN_JOURNALS"):
        decide(photos, [drop("b")])
    monkeypatch.setenv("DISCERN_JOURNALS", str(own))
    assert [each.image for each in read_journal(photos).decisions] == ["a"]
    with unprivileged():
        decide(photos, [drop("b")])
        undo(photos, 1)
    (file,) = own.iterdir()
    assert file == read_journal(photos).file
    assert [(each.image, each.undone) for each in read_journal(photos).decisions] == [("a", True), ("b", False)]
    monkeypatch.delenv("DISCERN_JOURNALS")
    assert [(each.image, each.undone) for each in read_journal(photos).decisions] == [("a", False)]


def test_a_place_that_is_not_on_this_disk_needs_a_folder_for_journals(tmp_path, monkeypatch):
    for place in ("CIFAR10", "https://example.org/a/shard-{0..3}.tar"):
        assert read_journal(place).decisions == ()
        with pytest.raises(StorageError, match=r"is no folder of yours.*\$DISCERN_JOURNALS"):
            decide(place, [drop("b")])
    monkeypatch.setenv("DISCERN_JOURNALS", str(tmp_path / "journals"))
    decide("CIFAR10", [drop("b")])
    assert [each.image for each in read_journal("cifar10").decisions] == ["b"]
    assert read_journal("https://example.org/a/shard-{0..3}.tar").decisions == ()


def test_a_journal_that_may_not_be_read_is_not_passed_over(shared_tmp, unprivileged):
    photos = shared_tmp / "photos"
    photos.mkdir()
    decide(photos, [keep("a")])
    (photos / ".discern").chmod(0)
    with unprivileged(), pytest.raises(UsageError, match=r"journal .* cannot be read"):
        read_journal(photos)


def test_a_full_disk_leaves_the_journal_as_it_was(mounted):
    disk = mounted("size=64k")
    decide(disk, [keep("a")])
    before = read_journal(disk)
    with pytest.raises(StorageError, match="The disk is full"):
        decide(disk, [drop("b"), drop("c", "x" * 100_000)])
    assert read_journal(disk) == before
    assert os.listdir(disk / ".discern") == ["journal.jsonl"]

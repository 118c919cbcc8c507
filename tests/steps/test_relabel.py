import pytest

from discern.data.journal import Decision, read_journal
from discern.data.sources import open_dataset
from discern.errors import StorageError, UnknownName, UsageError
from discern.steps.relabel import read_decisions, relabel


@pytest.fixture
def root(photos):
    return photos({"cat": 3, "dog": 3})


def dropped(*images):
    return [Decision(image=image, decision="drop", reason="x") for image in images]


def written(root):
    return [each.image for each in read_journal(root).decisions]


def test_images_may_be_named_in_any_way_that_leads_to_them(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    names = ["cat/0.jpg", "photos/cat/1.png", str(root / "cat/2.jpg"), f"{root.parent.name}/photos/dog/0.jpg"]
    journal, done = relabel("photos", dropped(*names))
    assert written(root) == ["cat/0.jpg", "cat/1.png", "cat/2.jpg", "dog/0.jpg"]
    assert [each.number for each in done] == [1, 2, 3, 4]
    assert journal.decisions == done
    monkeypatch.chdir(root / "dog")
    relabel("..", dropped("1.png"))
    assert written(root)[-1] == "dog/1.png"


@pytest.mark.parametrize("name", ["cat/00.jpg", "0.jpg", "photos/bat/0.jpg", "../elsewhere/cat/0.jpg"])
def test_one_unknown_image_and_nothing_is_written(root, name):
    with pytest.raises(UsageError, match=r"No image '.*' in .*photos; did you mean '[cd][ao][tg]/.*'\?"):
        relabel(root, dropped("cat/0.jpg", name))
    assert not (root / ".discern").exists()


def test_a_class_must_exist_unless_it_is_to_be_new(root):
    to = Decision(image="cat/0.jpg", decision="relabel", label="dgo", reason="x")
    with pytest.raises(UnknownName, match=r"Unknown class 'dgo' .*--new-class.* did you mean 'dog'\?"):
        relabel(root, [to])
    relabel(root, [to], new_classes=True)
    assert open_dataset(root).classes == ("cat", "dog", "dgo")


def test_what_was_dropped_can_be_kept_again(root):
    relabel(root, dropped("cat/0.jpg"))
    relabel(root, [Decision(image="cat/0.jpg", decision="keep", reason="not so bad")])
    assert "cat/0.jpg" in open_dataset(root).images


def test_relabelling_needs_a_class(root):
    with pytest.raises(UsageError, match="names no class"):
        relabel(root, [Decision(image="cat/0.jpg", decision="relabel", reason="x")])


def test_a_place_that_is_not_ours_to_write(root, monkeypatch):
    monkeypatch.setattr("discern.data.journal.os.open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(StorageError, match=r"\$DISCERN_JOURNALS"):
        relabel(root, dropped("cat/0.jpg"))


TABLES = {
    "commas": "image,score,decision,label,reason\ncat/0.jpg,0.1,drop,,blurred\ncat/1.png,0.2,,,\n"
    'cat/2.jpg,0.3,Relabel,dog,"it barks, loudly"\ndog/0.jpg,0.4,KEEP,,\n',
    "semicolons": "image;score;decision;label;reason\r\ncat/0.jpg;0,1;drop;;blurred\r\ncat/1.png;0,2;;;\r\n"
    "cat/2.jpg;0,3;relabel;dog;it barks, loudly\r\ndog/0.jpg;0,4;keep;;\r\n",
    "tabs": "image\tdecision\tlabel\treason\ncat/0.jpg\tdrop\t\tblurred\ncat/2.jpg\trelabel\tdog\tit barks, loudly\n"
    "dog/0.jpg\tkeep\n",
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_as_spreadsheets_save_it(tmp_path, kind, encoding):
    (tmp_path / "t.csv").write_text(TABLES[kind], encoding=encoding, newline="")
    assert read_decisions(tmp_path / "t.csv", reason="by eye") == [
        Decision(image="cat/0.jpg", decision="drop", reason="blurred"),
        Decision(image="cat/2.jpg", decision="relabel", label="dog", reason="it barks, loudly"),
        Decision(image="dog/0.jpg", decision="keep", reason="by eye"),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no column 'image'"),
        ("image,label\na,b\n", "has no column 'decision'; its first line must name image, decision, label, reason"),
        ("image,decision,label,reason\na,drop,,x\nb,away,,x\n", "line 3: the decision is 'away'; write keep, drop"),
        ("image,decision,label,reason\na,,dog,x\n", "line 2: the decision is ''"),
        ("image,decision,label,reason\na,relabel,,x\n", "line 2: relabel a to what"),
        ("image,decision,label,reason\na,drop,,\n", "line 2: no reason is given"),
    ],
)
def test_a_table_that_makes_no_sense(tmp_path, text, sentence):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=sentence):
        read_decisions(tmp_path / "t.csv")


def test_a_table_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_decisions(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes("image,decision\nKäse,drop".encode("cp1252"))
    with pytest.raises(UsageError, match="save it as CSV in UTF-8"):
        read_decisions(tmp_path / "t.csv")

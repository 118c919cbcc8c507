import dataclasses
import re
import shutil
from html.parser import HTMLParser

import pytest

from discern.errors import NotARun, StorageError, UsageError
from discern.evaluation.comparison import compare
from discern.files import write_json
from discern.report import gallery, material, page, portrait, provenance, ranking, scores, verdict, wording
from discern.report.html import write_report

EVIL = "<script>alert('x')</script>"


class Elements(HTMLParser):
    """Every element with its attributes, and the text outside of style."""

    VOID = ("meta", "img", "br", "wbr", "path", "use", "rect")

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found, self.open, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag, **wanted):
        return [a for t, a in self.found if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def written(tmp_path, *runs):
    write_report(runs, tmp_path / "report.html")
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    return source, Elements(source)


def rows(source):
    """The rows of the comparison table: name to text."""
    table = source[source.index('id="comparison"') : source.index("</table>")]
    texts = [Elements(row).text for row in re.findall(r"<tr class.*?</tr>", table, flags=re.DOTALL)]
    return {text.split(" ")[0]: text for text in texts}


def test_the_page_loads_nothing_and_runs_nothing(dataset, finished_run, tmp_path):
    source, elements = written(tmp_path, finished_run(dataset(["cat", "dog"]), right=0.5))
    assert not elements.open
    for tag, attributes in elements.found:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/", "#"))
    assert not re.search(r"@import|url\((?!#)", source)
    (policy,) = elements.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert "default-src 'none'" in policy["content"]


def test_every_link_leads_somewhere_and_no_id_is_given_twice(dataset, finished_run, tmp_path):
    data = dataset(["cat", "dog", "cow"])
    _, elements = written(tmp_path, finished_run(data, "a", right=0.4), finished_run(data, "b", right=0.5))
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {a[key][1:] for _, a in elements.found for key in ("href", "xlink:href") if a.get(key, "").startswith("#")}
    assert len(links) > 10
    assert links <= set(ids)


def test_names_from_the_data_are_never_markup(dataset, rescan, finished_run, tmp_path):
    data = dataset([EVIL, '"><img src=x onerror=alert(1)>', "naïve 猫 & co"])
    file = data.root / "test" / "c00" / "0.jpg"
    file.rename(file.with_name("<b>ü & 猫.jpg"))
    data = rescan(data.root, data.classes)
    run = finished_run(data, "net-<i>1", right=0.0)
    write_json(run.path / "findings.json", [{**run_finding(EVIL), "rows": [EVIL, "b"]}])
    source, elements = written(tmp_path, run)
    assert "<script" not in source
    assert "<b>ü" not in source
    assert "<i>1" not in source
    assert not [a for _, a in elements.found if "onerror" in a]
    assert EVIL in elements.text
    assert "naïve 猫 & co" in elements.text
    assert "test/c00/<b>ü & 猫.jpg" in {a.get("title") for a in elements.all("img")}


def run_finding(evidence):
    return {"kind": "label_conflict", "severity": "error", "rows": ["a"], "evidence": evidence, "remedy": evidence}


def test_the_first_sentence_has_the_model_its_score_the_interval_and_n(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog"], test=30), right=0.9)
    _, elements = written(tmp_path, run)
    test = run.evaluation.splits["test"]
    low, high = test.top1_ci
    sentence = (
        f"net-1 names {test.top1:.1%} of 60 test images correctly 95% interval {100 * low:.1f}–{high:.1%}, n = 60"
    )
    assert sentence in elements.text
    assert elements.text.index(sentence) < elements.text.index("Comparison")
    assert "Better than every trivial baseline" in elements.text


def test_a_model_that_a_baseline_beats_is_said_to_be_worse(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog"], test=30), right=0.2, baseline=0.9)
    _, elements = written(tmp_path, run)
    assert "Worse than the trivial baselines" in elements.text
    assert "Better than" not in elements.text


def test_a_difference_that_chance_explains_is_not_called_better(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog"], test=5), right=0.8, baseline=0.5)
    _, elements = written(tmp_path, run)
    assert "Not better than every trivial baseline" in elements.text
    assert "not a significant difference" in elements.text


def test_without_a_test_split_validation_scores_are_called_that(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog"], val=10), splits=("val",), explained=False)
    _, elements = written(tmp_path, run)
    assert "of 20 validation images correctly" in elements.text
    assert "These are validation scores" in elements.text
    assert "test split was opened" not in elements.text


def test_every_score_of_every_split_stands_with_n_and_its_interval(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog", "cow"], val=5, test=9), right=0.6)
    _, elements = written(tmp_path, run)
    for split in run.evaluation.splits.values():
        assert (
            f"Top-1 {wording.percent(split.top1)} ({wording.percent_range(split.top1_ci)}), macro F1 "
            f"{wording.score(split.macro_f1)} ({wording.score_range(split.macro_f1_ci)}), loss "
            f"{wording.score(split.loss)} nats, n = {split.n}."
        ) in elements.text.replace(" )", ")").replace("( ", "(").replace(" ,", ",").replace(" nats", " nats")
        for each in split.per_class:
            assert f"{wording.percent(each.recall)} {wording.percent_range(each.recall_ci)}" in elements.text
        hits, row = split.confusion[0][1], sum(split.confusion[0])
        assert not hits or f"{hits} of {row} cat called dog" in elements.text


def test_the_precision_interval_counts_the_images_called_so(dataset, finished_run, tmp_path):
    from discern.evaluation.intervals import wilson

    run = finished_run(dataset(["cat", "dog"], test=12), right=0.7)
    _, elements = written(tmp_path, run)
    confusion = run.evaluation.splits["test"].confusion
    called = confusion[0][0] + confusion[1][0]
    assert called != 12
    precision = wording.percent(confusion[0][0] / called)
    assert f"cat {precision} {wording.percent_range(wilson(confusion[0][0], called))}" in elements.text


def test_leakage_is_told_on_top_with_the_files_and_the_score_without_them(dataset, rescan, finished_run, tmp_path):
    data = dataset(["cat", "dog"], train=4, test=6)
    _, clean = written(tmp_path, finished_run(data, "clean"))
    shutil.copy(tmp_path / "report.html", tmp_path / "clean.html")
    assert not clean.all("aside")
    assert "Leakage" not in clean.text
    for number in (0, 2):
        shutil.copy(data.root / f"train/c00/{number}.jpg", data.root / f"test/c00/{number}.jpg")
    leaky = rescan(data.root, ["cat", "dog"])
    run = finished_run(leaky, "leaky", right=0.6, leakage="allow", because="it's a <b>rehearsal</b>")
    source, elements = written(tmp_path, run)
    assert len(elements.all("aside", role="alert")) == 1
    assert "Leakage: 2 test images are in the training data" in elements.text
    assert source.index("<aside") < source.index('class="verdict"')
    assert "test/c00/0.jpg = train/c00/0.jpg" in elements.text or "train/c00/0.jpg = test/c00/0.jpg" in elements.text
    test = run.predictions.split("test")
    kept = [i for i, name in enumerate(test.images) if name not in ("test/c00/0.jpg", "test/c00/2.jpg")]
    share = (test.predicted[kept] == test.labels[kept]).mean()
    assert f"Without them leaky scores {share:.1%}" in elements.text
    assert "n = 10)." in elements.text
    assert "It was allowed because: it's a <b>rehearsal</b> Train again with --leakage drop" in elements.text
    assert "@page { margin-top" in source
    assert "@page { margin-top" not in (tmp_path / "clean.html").read_text(encoding="utf-8")
    data_section = Elements(source[source.index('<section id="data">') : source.index('<section id="repeat">')])
    assert data_section.all("p", **{"class": "severity error"})
    assert (
        "2 photos were in several splits and stayed there (--leakage allow), because: it's a <b>rehearsal</b>"
        in data_section.text
    )
    assert "stayed there" not in source[: source.index('<section id="comparison">')]  # the alarm says it


def test_copies_left_out_of_training_are_said_and_are_no_alarm(dataset, rescan, finished_run, tmp_path):
    data = dataset(["cat", "dog"], train=4, test=6)
    for number in (0, 2):
        shutil.copy(data.root / f"train/c00/{number}.jpg", data.root / f"test/c00/{number}.jpg")
    leaky = rescan(data.root, ["cat", "dog"])
    run = finished_run(leaky, "dropped", leakage="drop")
    assert len(run.dataset) == len(leaky) - 2
    assert [(f.kind, f.severity) for f in run.findings if f.kind == "leakage"] == [("leakage", "note")]
    source, elements = written(tmp_path, run)
    assert not elements.all("aside")
    assert "@page { margin-top" not in source
    sentence = (
        "2 photos were in several splits: 2 copies were left out of training and validation (--leakage drop), every "
        "test image kept."
    )
    assert elements.text.count(sentence) == 2
    assert source.index(sentence) < source.index('<section id="comparison">')  # once on top
    assert source.rindex(sentence) > source.index('<section id="data">')  # and once with the data
    assert "leakage note 1 2 2 photos are in several splits: 2 copies were left out" in elements.text


def test_copies_moved_to_one_split_are_said_and_are_no_alarm(dataset, rescan, finished_run, tmp_path):
    data = dataset(["cat", "dog"], train=4, test=6)
    shutil.copy(data.root / "train/c00/0.jpg", data.root / "test/c00/0.jpg")
    run = finished_run(rescan(data.root, ["cat", "dog"]), leakage="group")
    assert run.dataset.split_counts() == {"train": 7, "val": 4, "test": 13}
    _, elements = written(tmp_path, run)
    assert not elements.all("aside")
    assert elements.text.count("1 photo was in several splits: 1 copy was moved to the split of the held-out one") == 2


def test_the_copies_of_several_runs_are_told_apart(dataset, rescan, finished_run, tmp_path):
    data = dataset(["cat", "dog"], train=4, test=6)
    clean = finished_run(data, "clean")
    shutil.copy(data.root / "train/c00/0.jpg", data.root / "test/c00/0.jpg")
    leaky = rescan(data.root, ["cat", "dog"])
    dropped = finished_run(leaky, "dropped", leakage="drop")
    _, elements = written(tmp_path, clean, dropped)
    assert "dropped: 1 photo was in several splits" in elements.text
    assert "clean: " not in elements.text
    allowed = [finished_run(leaky, name, leakage="allow", because=f"reason {name}") for name in ("a", "b")]
    _, elements = written(tmp_path, dropped, *allowed)
    assert len(elements.all("aside", role="alert")) == 1
    assert "Leakage in a and b: 1 test image is in the training data" in elements.text
    assert "the test scores below flatter a and b. Without them a scores" in elements.text
    assert "It was allowed because: reason a (a); reason b (b)" in elements.text


def test_what_is_wrong_with_the_data_of_all_runs_is_told_once(dataset, rescan, finished_run, tmp_path):
    data = dataset(["cat", "dog"], train=4, test=6)
    shutil.copy(data.root / "train/c00/0.jpg", data.root / "train/c01/other.jpg")
    shutil.copy(data.root / "train/c00/2.jpg", data.root / "test/c00/0.jpg")
    leaky = rescan(data.root, ["cat", "dog"])
    runs = [
        finished_run(leaky, way, leakage=way, because="x" if way == "allow" else None)
        for way in ("drop", "group", "allow")
    ]
    _, elements = written(tmp_path, *runs)
    assert [aside["data-kind"] for aside in elements.all("aside")] == ["leakage", "label_conflict"]
    assert "Leakage in allow: 1 test image" in elements.text


def test_edited_copies_were_looked_for_where_no_photo_is_in_two_splits(dataset, finished_run, tmp_path):
    _, elements = written(tmp_path, finished_run(dataset(["cat", "dog"])))
    assert "No photo is in two splits; edited copies were looked for" in elements.text


def test_a_run_from_before_the_gate_says_nothing_of_it(dataset, rescan, finished_run, tmp_path):
    data = dataset(["cat", "dog"], train=4, test=6)
    shutil.copy(data.root / "train/c00/0.jpg", data.root / "test/c00/0.jpg")
    run = finished_run(rescan(data.root, ["cat", "dog"]), leakage="allow", because="nobody asked")
    info = run.info
    del info["gate"]
    write_json(run.path / "run.json", info)
    _, elements = written(tmp_path, run)
    assert len(elements.all("aside", role="alert")) == 1
    assert "It was allowed" not in elements.text
    assert "in several splits" not in elements.text
    assert "No photo is in two splits" not in elements.text


def test_leakage_into_validation_only_is_called_that(dataset, rescan, finished_run, tmp_path):
    data = dataset(["cat", "dog"])
    shutil.copy(data.root / "train/c00/0.jpg", data.root / "val/c00/0.jpg")
    run = finished_run(rescan(data.root, ["cat", "dog"]), leakage="allow", because="x")
    _, elements = written(tmp_path, run)
    assert "Leakage: 1 validation image is in the training data" in elements.text
    assert "Without them" not in elements.text


def test_an_alarm_names_some_of_many_copies(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog"]))
    copies = [f"copy-{number}" for number in range(1000)]
    write_json(run.path / "findings.json", [{**run_finding("Copies."), "rows": copies}] * 250)
    _, elements = written(tmp_path, run)
    assert "copy-19 = 980 more" in elements.text
    assert "copy-20" not in elements.text
    assert "and 50 more, in findings.json" in elements.text
    assert "250 photos stand in the data with two different labels" in elements.text


def test_of_many_runs_the_best_have_a_section_and_all_stand_in_the_table(dataset, finished_run, tmp_path):
    data = dataset(["cat", "dog"], test=5)
    runs = [finished_run(data, f"run-{k:02d}", right=0.2, cost=9, explained=False) for k in range(11)]
    runs += [finished_run(data, "quick", right=0.0, cost=0.1, explained=False)]
    source, elements = written(tmp_path, *runs)
    assert len(rows(source)) == 13
    assert len(elements.all("details", **{"class": "run"})) == 9
    assert "3 more runs stand in the table above only" in elements.text
    assert "Of 12 runs, the pick is quick" in elements.text
    assert elements.all("a", href="#m12")


def test_several_runs_are_ranked_and_the_cheap_equal_one_is_picked(dataset, finished_run, tmp_path):
    data = dataset(["cat", "dog"], test=40)
    runs = [
        finished_run(data, "bad", right=0.3, cost=0.1, seed=1),
        finished_run(data, "cheap", right=0.9, cost=0.5, seed=2),
        finished_run(data, "dear", right=0.93, cost=7.0, seed=3),
    ]
    source, elements = written(tmp_path, *runs)
    expected = compare(
        {run.name: run.predictions for run in runs} | runs[0].baselines(),
        {"bad": 0.1, "cheap": 0.5, "dear": 7.0, "majority class": 0.0},
        baselines=frozenset(["majority class"]),
    )
    assert (expected.best, expected.pick) == ("dear", "cheap")  # or the test tests nothing
    table = rows(source)
    assert list(table) == [row.name.split(" ")[0] for row in expected.rows]
    assert [name for name, text in table.items() if " pick " in text] == ["cheap"]
    assert "baseline" in table["majority"]
    pair = next(pair for pair in expected.pairs if {pair.first, pair.second} == {"dear", "bad"})
    low, high = pair.difference_ci
    difference = f"{wording.points(-pair.difference)} {wording.points(-high)} to {wording.points(-low)}"
    assert f"{difference} {wording.p_value(pair.p_holm)}" in table["bad"]
    assert "Of 3 runs, the pick is cheap : it names" in elements.text
    assert "cheap is the fastest run (0.50 ms per image against 7.00 ms) that is not significantly" in elements.text
    assert "The test split was opened 3 times in all for the 3 runs here; no epoch or setting was" in elements.text
    assert "Every pair (6)" in elements.text
    unfolded = [a["id"] for a in elements.all("details", **{"class": "run"}) if "open" in a]
    assert unfolded == ["m2"]


def test_runs_on_other_images_are_shown_but_not_ranked(dataset, finished_run, tmp_path):
    one = finished_run(dataset(["cat", "dog"]), "one")
    other = finished_run(dataset(["cat", "dog"], test=5, into="others"), "other")
    source, elements = written(tmp_path, one, other)
    assert "no pick" in elements.text
    assert "were not scored on the same test images" in elements.text
    assert not [text for text in rows(source).values() if " pick " in text]
    assert elements.text.count("8 images per") == 0
    assert "used by one" in elements.text
    assert "used by other" in elements.text


def test_runs_of_one_name_are_told_apart_by_their_paths(dataset, finished_run, tmp_path):
    data = dataset(["cat", "dog"])
    run = finished_run(data)
    shutil.copytree(run.path, tmp_path / "elsewhere" / run.name)
    _, elements = written(tmp_path, run, type(run)(tmp_path / "elsewhere" / run.name))
    for folder in ("runs", "elsewhere"):
        assert f"{tmp_path / folder / run.name} Test top-1" in elements.text


def test_photos_that_are_gone_or_changed_are_said_to_be(dataset, finished_run, tmp_path):
    data = dataset(["cat", "dog"])
    run = finished_run(data, right=0.0)
    before, with_photos = written(tmp_path, run)
    assert len(with_photos.all("img", width="112")) > 8
    assert "can no longer be shown" not in before
    (data.root / "test/c00/0.jpg").write_bytes(b"something else")
    _, changed = written(tmp_path, run)
    assert "1 photo of the first 8 can no longer be shown" in changed.text
    shutil.rmtree(data.root)
    _, gone = written(tmp_path, run)
    assert f"8 photos of the first 8 can no longer be shown: the files below {data.root} are gone" in gone.text
    assert not gone.all("img", width="112")


def test_a_confusion_cell_leads_to_its_photos(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog"]), right=0.0)
    source, elements = written(tmp_path, run)
    assert elements.all("a", href="#m1-cell-0-1")
    behind = source[source.index('id="m1-cell-0-1"') :]
    behind = Elements(behind[behind.index("<header") : behind.index("</figure>\n</div>") + len("</figure>\n</div>")])
    names = {a["title"] for a in behind.all("img")}
    assert names == {name for name in run.predictions.split("test").images if "/c00/" in name}
    assert all(a["alt"] == "cat called dog" for a in behind.all("img"))


@pytest.mark.parametrize(("classes", "density"), [(2, "roomy"), (60, "dense")])
def test_the_matrix_has_every_class_whatever_their_number(dataset, finished_run, tmp_path, classes, density):
    names = [f"class {k}" for k in range(classes)]
    run = finished_run(dataset(names, train=1, val=1, test=2), right=0.5)
    source, elements = written(tmp_path, run)
    matrix = source[source.index(f'<table class="matrix {density}">') :]
    matrix = matrix[: matrix.index("</table>")]
    assert matrix.count("<td") == classes * (classes + 1)
    counts = [int(n) for n in re.findall(r'<td class="(?:hit|miss)[^>]*>(?:<a[^>]*>)?(\d+)', matrix)]
    assert sum(counts) == 2 * classes
    assert all(elements.text.count(name) >= 3 for name in names)
    assert len(source) < 3e6


def test_a_run_without_heat_maps_and_metrics_says_so(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog"]), metrics=False, explained=False)
    _, elements = written(tmp_path, run)
    assert f"`discern explain {run.path}` makes them" in elements.text
    assert "no metrics.jsonl" in elements.text
    assert not elements.all("div", **{"class": "maps"})


def test_heat_maps_of_right_answers_stand_before_those_of_wrong_ones(dataset, finished_run, tmp_path):
    source, elements = written(tmp_path, finished_run(dataset(["cat", "dog"]), right=0.5))
    maps = source[source.index('id="m1-maps"') :]
    assert 0 < maps.index('<figure class="right">') < maps.index('<figure class="wrong">')
    assert "That the answer would change without the marked area is not tested" in elements.text


def test_the_chosen_epoch_and_the_gap_are_named(dataset, finished_run, tmp_path):
    _, elements = written(tmp_path, finished_run(dataset(["cat", "dog"])))
    assert "Epoch 2 of 3 epochs was chosen (lowest validation loss)" in elements.text
    assert "70.0% and on the validation images 60.0%: a generalisation gap of +10.0 points" in elements.text


def test_findings_of_one_kind_are_one_line_with_their_number(dataset, rescan, finished_run, tmp_path):
    data = dataset(["cat", "dog"], train=6)
    for number in (0, 2):
        shutil.copy(data.root / f"train/c00/{number}.jpg", data.root / f"train/c00/copy-{number}.jpg")
    _, elements = written(tmp_path, finished_run(rescan(data.root, ["cat", "dog"])))
    assert "exact duplicate note 2 4 2 files are byte-identical" in elements.text
    assert not elements.all("aside")


def test_how_to_repeat_leaves_the_writers_home_out(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog"]))
    source, elements = written(tmp_path, run)
    assert "discern train 'my photos'" in elements.text
    assert "/home/me" not in source
    assert "learning_rate: 0.0003" in elements.text
    assert f"--recipe {run.recipe_file}" in elements.text


def test_the_same_runs_give_the_same_bytes(dataset, finished_run, tmp_path):
    data = dataset(["cat", "dog"])
    runs = [finished_run(data, "a", right=0.5), finished_run(data, "b", right=0.7)]
    write_report(runs, tmp_path / "one.html")
    write_report(runs, tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_a_run_without_scores_and_no_run_at_all_are_refused(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog"]))
    (run.path / "evaluation.json").unlink()
    with pytest.raises(NotARun, match=r"no evaluation\.json"):
        write_report([run], tmp_path / "report.html")
    with pytest.raises(UsageError, match="at least one run"):
        write_report([], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_place_that_cannot_be_written_is_named(dataset, finished_run, tmp_path):
    run = finished_run(dataset(["cat", "dog"]))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        write_report([run], tmp_path / "file" / "report.html")


SECTIONS = {
    page.Page: "verdict alarms ranking portraits portraits_left_out materials provenance version",
    verdict.Verdict: "title occasion name choice top1 top1_range n split mood judgement sentences",
    verdict.Alarm: "kind title effect reason remedy files left_out",
    ranking.Ranking: "split entries plot reason problem duels duels_left_out notes",
    ranking.Entry: (
        "name anchor baseline pick n top1 top1_range macro_f1 macro_f1_range loss milliseconds parameters training "
        "difference difference_range p"
    ),
    ranking.Duel: "first second only_first only_second difference difference_range p p_holm",
    portrait.Portrait: "name anchor summary open facts curves no_curves tables gallery",
    portrait.Curves: "loss accuracy sentence",
    scores.SplitTable: (
        "title note n top1 top1_range macro_f1 macro_f1_range loss classes density matrix lines confused"
    ),
    scores.MatrixRow: "name cells support",
    scores.Cell: "count share shade strong hit title target",
    scores.ClassLine: "name average precision precision_range recall recall_range f1 f1_range support bars whisker",
    gallery.Gallery: "first_batch right wrong no_heat_maps mistakes mistakes_note cells",
    gallery.CellPhotos: "target title photos",
    gallery.Photo: "source image truth prediction confidence right",
    material.Material: "title runs splits counts gate leaky sides sides_sentence findings",
    material.FindingLine: "kind severity count images evidence remedy",
    provenance.Provenance: "name started command recipe_file software hardware recipe",
}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_what_templates_may_print_is_fixed(section):
    assert " ".join(field.name for field in dataclasses.fields(section)) == SECTIONS[section]
    assert section.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(section))

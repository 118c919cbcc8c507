import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from discern.data.journal import Decision, decide
from discern.steps.curate import curate


class Text(HTMLParser):
    """What a reader of the page reads, and the tags it is made of."""

    def __init__(self, page):
        super().__init__()
        self.words, self.tags = [], []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_data(self, data):
        self.words.append(data)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def page_of(root, out, **options):
    return Text(curate(root, out, **options).page.read_text(encoding="utf-8"))


@pytest.fixture
def root(photos):
    root = photos({"cat": 14, "<b>dog & co</b>".replace("/", "\u2215"): 6})
    (root / "cat/0.jpg").rename(root / "cat/<i>x.jpg")
    return root


def test_the_page_says_what_was_done(root, tmp_path):
    decide(root, [Decision(image="cat/1.png", decision="drop", reason="shows <nothing>")])
    page = page_of(root, tmp_path / "out", test_per_class=2, max_per_class=9, size=32, balance="oversample")
    assert "2 of each class were held out for testing before anything else" in page.text
    assert "at most 9 images" in page.text
    assert "32 × 32 pixels, kept whole on black" in page.text
    assert re.search(r"dog & co.*: 3 training photos and \d+ varied cop", page.text)
    assert "1 image : dropped by a decision in the journal" in page.text.replace("image:", "image :")
    assert "shows <nothing>" in page.text
    assert "cat/1.png" in page.text
    assert "24 × 32" not in page.text
    assert "32 × 24" in page.text


def test_what_comes_from_the_photos_is_escaped_and_nothing_is_loaded(root, tmp_path):
    page = page_of(root, tmp_path / "out", size=32, balance="oversample")
    assert not {"script", "i", "link", "iframe"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert attributes.get("src", "data:").startswith("data:image/jpeg;base64,") or tag != "img"
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_the_sheets_show_photos_before_and_after(root, tmp_path):
    wide = np.random.default_rng(0).integers(0, 256, (10, 90, 3), np.uint8)
    Image.fromarray(wide).save(root / "cat" / "wide.png")
    page = page_of(root, tmp_path / "out", size=32, balance="oversample")
    pictures = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert {"cat, original", "cat, resized"} <= set(pictures)
    assert sum(alt.endswith("original") for alt in pictures) == sum(alt.endswith("resized") for alt in pictures)
    assert any(alt.endswith("photo") for alt in pictures)
    assert any(alt.endswith("varied copy") for alt in pictures)
    assert "cat widest" in page.text
    assert "90 × 10" in page.text


def test_without_size_and_balance_there_is_no_sheet_and_nothing_to_miss(root, tmp_path):
    page = page_of(root, tmp_path / "out")
    assert "img" not in {tag for tag, _ in page.tags}
    assert "byte for byte" in page.text
    assert "Left out Nothing." in page.text


def test_many_classes_fit_on_the_page(photos, tmp_path):
    root = photos({f"class {number:02d}": 4 + number % 3 for number in range(30)}, side=12)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(root / "class 00" / "big.png")
    page = page_of(root, tmp_path / "out", size=16, balance="oversample")
    assert "all classes" in page.text
    assert len([tag for tag, _ in page.tags if tag == "img"]) < 200

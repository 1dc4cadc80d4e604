import base64
import io
import re
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from matplotlib import pyplot as plt
from PIL import Image

from mosaic.report import display


class Shown:
    """The last output that was displayed: HTML, and the metadata the report reads."""

    html: str
    notes: dict[str, Any]

    def __call__(self, data, raw, metadata):
        assert raw and data["text/plain"]
        self.html, self.notes = data["text/html"], metadata[display.KEY]


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(display, "display", Shown())
    return display.display


@pytest.fixture
def fig():
    figure, ax = plt.subplots(figsize=(4, 2))
    ax.set_title("a & b")
    return figure


def test_svg_is_embedded_whole(shown, fig):
    display.figure(fig, "It *rises*; $x < 1$.", 'A line from "1" to 2.')
    assert shown.notes == {"role": "figure"}
    assert 'alt="A line from &quot;1&quot; to 2."' in shown.html
    assert "<em>rises</em>" in shown.html and "<math" in shown.html
    source = re.search(r'src="data:image/svg\+xml,([^"]*)"', shown.html)
    assert source is not None and not re.search(r"[<>#]", source[1])
    root = ElementTree.fromstring(unquote(source[1]))  # well-formed
    width = float(root.attrib["viewBox"].split()[2]) * 96 / 72
    assert f'width="{round(width)}"' in shown.html
    before = shown.html
    display.figure(fig, "It *rises*; $x < 1$.", 'A line from "1" to 2.')
    assert shown.html == before  # no time, no random name


@pytest.mark.parametrize("format", ["png", "webp"])
def test_rasters_keep_their_natural_size(shown, fig, format):
    display.figure(fig, "caption", "alt", format=format)
    source = re.search(rf"data:image/{format};base64,([^\"]*)", shown.html)
    assert source is not None
    image = Image.open(io.BytesIO(base64.b64decode(source[1])))
    assert image.format == format.upper()
    assert f'width="{round(image.width * 96 / 150)}" height="{round(image.height * 96 / 150)}"' in shown.html


def test_figures_are_closed_and_the_headline_brings_a_thumbnail(shown, fig):
    display.figure(fig, "caption", "what it shows", headline=True)
    assert not plt.fignum_exists(fig.number)  # type: ignore[attr-defined]
    assert shown.notes["alt"] == "what it shows"
    kind, _, content = shown.notes["thumbnail"].partition(",")
    assert kind == "data:image/png;base64"  # charts adapt to a dark page, imagery (WebP) does not
    content = base64.b64decode(content)
    assert max(Image.open(io.BytesIO(content)).size) == 480
    assert len(content) < 30_000


def test_a_thumbnail_shows_a_legend_beside_the_axes(shown, fig):
    fig.text(1.5, 0.5, "legend")
    display.figure(fig, "caption", "alt", headline=True)
    (width, height) = map(float, re.search(r'width="(\d+)" height="(\d+)"', shown.html).groups())
    small = Image.open(io.BytesIO(base64.b64decode(shown.notes["thumbnail"].partition(",")[2])))
    assert small.width / small.height == pytest.approx(width / height, rel=0.02)
    assert width / height > 1.4 * 6.4 / 4.8


def test_what_is_not_there_is_a_note(monkeypatch):
    notes: list[str] = []
    monkeypatch.setattr(display, "display", lambda data, raw: notes.append(data["text/markdown"]))
    display.table(pd.DataFrame({"a": []}), "Nothing was skipped.", best="max")
    display.figure(plt.figure(), "Scores rise.", "alt")
    assert notes == ["Nothing was skipped.", "Nothing to show: Scores rise."]


def cells(text):
    """Return the text of a table's body, row by row."""
    rows = BeautifulSoup(text, "html.parser").select("tbody tr")
    return [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in rows]


def test_tables_mark_the_best_and_format_numbers(shown):
    rows = [
        ("a <b>", (0.5, 0.4, 0.6), -0.25, 1200, True),
        ("b", (0.61234, 0.5, 0.7), (2.0, -1.0, 5.0), 3, False),
        ("c", np.nan, -0.25, 40, False),
    ]
    frame = pd.DataFrame(rows, columns=["method", "AP", "loss", "n", "ours"])
    display.table(frame, "Best in $AP$.", best={"AP": "max", "loss": "min"}, digits=2, signed=["loss"])
    assert cells(shown.html) == [
        ["a <b>", "0.50 [0.40, 0.60]", "\u22120.25★", "1\u202f200", "yes"],
        ["b", "0.61 [0.50, 0.70]★", "+2.00 [\u22121.00, +5.00]", "3", "no"],
        ["c", "–", "\u22120.25★", "40", "no"],
    ]
    assert shown.html.count("<strong>") == shown.html.count('aria-label="best"') == 3
    assert shown.html.count('<th scope="col"') == 5 and shown.html.count('<th scope="row"') == 3
    assert 'role="region" tabindex="0" aria-label="Table: Best in AP."' in shown.html
    display.table(frame, "Of those with all seeds.", best={"AP": "max"}, among=[True, False, True])
    assert [row[1][-1] for row in cells(shown.html)] == ["★", "]", "–"]


def test_an_index_names_the_rows(shown):
    index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["m", None])
    frame = pd.DataFrame({"x": [1.0, 2.0]}, index)
    display.table(frame, "c", best="min")
    assert cells(shown.html) == [["a", "1", "1.000★"], ["b", "2", "2.000"]]
    assert shown.html.count('<th scope="row"') == 2


def test_the_best_of_each_row_among_the_columns_named(shown):
    rows = [("a", 900, 0.1, 0.2), ("b", 2, 0.5, 0.5), ("c", 3, np.nan, np.nan)]
    frame = pd.DataFrame(rows, columns=["class", "n", "x", "y"])
    display.table(frame, "c", best={"x": "max", "y": "max"}, by_row=True, digits={"x": 1})
    expected = [["a", "900", "0.1", "0.200★"], ["b", "2", "0.5★", "0.500★"], ["c", "3", "–", "–"]]
    assert cells(shown.html) == expected


def test_captions_are_required_and_best_columns_must_exist(fig):
    for caption, alt in (("", "alt"), ("caption", " ")):
        with pytest.raises(ValueError, match="needs a caption"):
            display.figure(fig, caption, alt)
    with pytest.raises(ValueError, match=r"\['AB'\].*\['m', 'AP'\]"):
        display.table(pd.DataFrame({"m": ["a"], "AP": [1.0]}), "c", best={"AB": "max"})


@pytest.mark.parametrize(
    ("low", "scenes", "words"),
    [
        ([0.1, 0.2], [6, 8], "95 % interval over scenes and seeds"),
        ([0.1, np.nan], [6, 5], "95 % interval over scenes and seeds, none of fewer than 6 scenes"),
        ([0.1, np.nan], [6, 8], "95 % interval over scenes and seeds"),
        ([0.1, np.nan], [6, 0], "95 % interval over scenes and seeds"),
        ([np.nan, np.nan], [4, 4], "no interval: fewer than 6 scenes"),
        ([np.nan], [8], "no interval"),
        ([], [], "no interval"),
    ],
)
def test_a_caption_promises_no_interval_that_is_not_there(low, scenes, words):
    rows = pd.DataFrame({"low": low, "n_scenes": scenes}, dtype=float).assign(n_seeds=3)
    assert display.spans(rows) == words
    assert "for one seed" in display.spans(rows.assign(n_seeds=1)) or "no interval" in words


def test_answer_key_result_and_stamp_carry_what_the_report_needs(shown):
    display.answer("It **helps**.")
    assert shown.notes == {"role": "answer", "html": "It <strong>helps</strong>."}
    display.key_result("gained", -0.0213, low=-0.03, high=-0.01, n_seeds=3)
    assert shown.notes["value"] == "\u22120.021"
    assert shown.notes["detail"] == "95 % interval \u22120.030 to \u22120.010 over scenes and seeds, 3 seeds"
    display.key_result("supported", "4 of 9")
    assert (shown.notes["value"], shown.notes["detail"]) == ("4 of 9", "")
    display.key_result("unknown", np.nan, low=np.nan, high=np.nan, n_seeds=1)
    assert (shown.notes["value"], shown.notes["detail"]) == ("–", "1 seed")
    display.stamp(seed=1, device="cpu", data="ab12", packed_pairs=20)
    assert shown.notes["facts"] == {"seed": 1, "device": "cpu", "data": "ab12", "packed_pairs": 20}


def test_numbers_in_texts_have_a_minus_sign_and_ranges_and_dates_a_hyphen(shown):
    texts = ["less -0.034 [-0.057, -0.010]", "labels: 3-4", "2017-06-13", "IaI-SimCLR", "a - b"]
    display.table(pd.DataFrame({"why": texts}), "Reasons.")
    assert all(text in shown.html for text in ["less −0.034 [−0.057, −0.010]", *texts[1:]])

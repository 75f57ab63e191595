"""What a notebook shows of values."""

import base64
import xml.etree.ElementTree as ET

from cnnjax.core.html import html_table, inline_image, paragraphs


def test_foreign_texts_are_no_markup():
    foreign = '"><script>alert(1)</script>'
    shown = paragraphs(foreign) + html_table([(foreign,), (foreign,)]) + inline_image(b"", foreign)
    assert "<script" not in shown
    assert paragraphs("", "a\x1b[2J") == "<p>a\\x1b[2J</p>"


def test_a_table_has_a_head_and_a_row_for_each():
    root = ET.fromstring(html_table([("layer", "size"), ("a<b", 1.23456), ("c", float("nan"))]))
    cells = [[cell.text for cell in row] for row in root]
    assert cells == [["layer", "size"], ["a<b", "1.23"], ["c", "-"]]
    assert [cell.tag for cell in root[0]] == ["th", "th"]
    assert "right" in root[1][1].attrib["style"]


def test_an_image_lies_within_the_text():
    shown = inline_image(b"png", "a < b", height=64)
    data = shown.partition("base64,")[2].partition('"')[0]
    assert base64.b64decode(data) == b"png"
    assert "a &lt; b</figcaption>" in shown
    assert "height:64px" in shown

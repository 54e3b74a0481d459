"""The HTML file: whole, small, self-contained, escaped, in the order that a screen reader needs."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from edgefm.report.findings import page
from edgefm.report.page import html
from edgefm.report.style import SCRIPT, STYLE

from ..verify.test_page import record
from .records import HOSTILE, everything, full

VOID = {"meta", "br", "path", "use", "rect", "line", "circle"}
LIMIT = 3_000_000


class Outline(HTMLParser):
    """What stands in a page: start tags with their attributes, the text, and whether every element is closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module", params=["everything", "little", "hostile"])
def text(request: pytest.FixtureRequest) -> str:
    if request.param == "everything":
        return html(everything())
    return html(page(record() if request.param == "little" else full(HOSTILE)))


def test_every_element_is_closed_in_its_turn_and_every_id_is_there_once(text: str) -> None:
    outline = Outline(text)
    assert outline.open == []
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = [attributes["aria-labelledby"] for _, attributes in outline.tags if "aria-labelledby" in attributes]
    links = [(attributes["href"] or "")[1:] for attributes in outline.all("a")]
    assert set(named) | set(links) <= set(ids)


def test_nothing_is_loaded_from_anywhere_and_it_is_small(text: str) -> None:
    assert len(text.encode()) < LIMIT / 3  # of drawings of a few points
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", text.replace("//" + " ", ""))
    for _, attributes in Outline(text).tags:
        assert (attributes.get("href") or "#").startswith("#")
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]


def test_landmarks_and_headings_come_in_order(text: str) -> None:
    outline = Outline(text)
    assert [tag for tag, _ in outline.tags if tag in ("header", "nav", "main", "footer")] == ["header", "nav", "main", "footer"]
    headings = [tag for tag, _ in outline.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    assert outline.all("html") == [{"lang": "en"}]
    assert outline.text.index(next(line for line in outline.text if line.strip(": \n") in WORDS)) < 20


WORDS = ("pass", "refused", "broken", "no verdict")


def test_every_drawing_has_words_and_every_table_a_caption_and_heads(text: str) -> None:
    outline = Outline(text)
    for attributes in outline.all("svg"):
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"] or "") > 40
    assert len(outline.all("table")) == len(outline.all("caption")) > 0
    assert all(attributes["scope"] in ("col", "row") for attributes in outline.all("th"))


def test_what_strangers_wrote_is_text() -> None:
    found = full(HOSTILE)
    found["bundle"]["name"] = found["data"]["name"] = found["cases"][0]["image"] = HOSTILE
    found["bundle"]["lineage"][0]["licence"] = found["subgroups"][0]["column"] = HOSTILE
    found["variants"][2]["name"] = HOSTILE + "2"
    found["notes"] = [HOSTILE, "\x1b[2J"]
    text = html(page(found))
    outline = Outline(text)
    assert outline.open == []
    assert len(outline.all("script")) == 1
    assert HOSTILE in "".join(outline.text)
    assert not {name for _, attributes in outline.tags for name in attributes if "<" in name or name.startswith("on")}
    assert "\x1b" not in text


def test_the_policy_names_the_script_that_is_there() -> None:
    import base64
    import hashlib

    text = html(page(record()))
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert script == SCRIPT
    assert "</" not in STYLE


def test_the_same_record_gives_the_same_bytes() -> None:
    assert html(page(full())) == html(everything())


def test_many_labels_and_groups_stay_under_three_megabytes() -> None:
    found = full()
    curve = {"false_positive_rate": [n / 199 for n in range(200)], "sensitivity": [(n / 199) ** 0.3 for n in range(200)]}
    labels = [f"label {number}" for number in range(14)]
    found["task"] = {"kind": "multilabel", "labels": labels, "thresholds": [0.5] * 14, "temperature": 1.0}
    for each in found["variants"]:
        each["roc"] = dict.fromkeys(labels, curve)
        points = each["calibration"]["reliability"]
        each["calibration"]["reliability"] = {name: [values[0] * 5] * 14 for name, values in points.items()}
    (column,) = found["subgroups"]
    found["subgroups"] = [{**column, "column": str(n), "groups": column["groups"] * 20} for n in range(5)]
    found["cases"] = found["cases"] * 2000
    assert len(html(page(found)).encode()) < LIMIT

"""The page in headless Chromium: nothing is complained of or fetched, figures are seen, tables sort, it prints, fits a phone.

Screenshots stay in the folder that EDGEFM_SCREENSHOTS names, for a person to look at.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgefm.report.findings import page
from edgefm.report.page import html

from .chromium import Chromium, browser
from .records import HOSTILE, everything, full

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.skipif(browser() is None, reason="no Chromium here (Debian: apt install chromium)")
SIZES = {"light": (1100, False), "dark": (1100, True), "phone": (390, False)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(html(everything()))
    return file


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    program = browser()
    assert program is not None
    tab = Chromium(program, tmp_path_factory.mktemp("profile"))
    yield tab
    tab.close()


def keep(name: str, content: bytes) -> None:
    if folder := os.environ.get("EDGEFM_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, name).write_bytes(content)


def column(tab: Chromium, table: int, number: int) -> list[str]:
    """The texts of a column of the table."""
    rows = f"[...document.querySelectorAll('table')[{table}].tBodies[0].rows]"
    return list(tab.run(f"{rows}.map((row) => row.cells[{number}].textContent.trim().split(/\\s/)[0])"))


@pytest.mark.parametrize("name", SIZES)
def test_it_loads_without_a_complaint_fetches_nothing_and_every_figure_is_seen(tab: Chromium, file: Path, name: str) -> None:
    width, dark = SIZES[name]
    tab.open(file, width=width, dark=dark)
    assert tab.errors == []
    assert tab.requests == [file.as_uri()]
    boxes = tab.run(
        "[...document.querySelectorAll('svg')].map((each) => [each.getBoundingClientRect().width, "
        "each.getBoundingClientRect().height, each.getBBox().width, getComputedStyle(each).visibility])"
    )
    assert len(boxes) == 7
    assert all(wide > 300 and high > 70 and inside > 100 and seen == "visible" for wide, high, inside, seen in boxes)
    assert tab.run("document.documentElement.scrollWidth") <= width  # wide tables scroll in a box of their own
    tab.resize(width, tab.run("document.documentElement.scrollHeight"))
    picture = tab.screenshot()
    keep(f"{name}.png", picture)
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("L"))
    assert (np.median(pixels) < 60) == dark


@pytest.mark.parametrize("dark", [False, True])
def test_no_part_of_a_drawing_is_in_the_colour_of_the_paper(tab: Chromium, file: Path, dark: bool) -> None:
    tab.open(file, dark=dark)
    paper, *inks = tab.run(
        "[getComputedStyle(document.body).backgroundColor, ...[...document.querySelectorAll('svg text')]"
        ".map((each) => getComputedStyle(each).fill)]"
    )
    assert len(inks) > 50
    assert paper not in inks
    assert len(set(inks)) == 1  # all in the colour of the page's text


def test_a_click_sorts_a_table_by_numbers_and_the_next_one_turns_it_round(tab: Chromium, file: Path) -> None:
    tab.open(file)
    table = tab.run("[...document.querySelectorAll('caption')].findIndex((each) => each.textContent.startsWith('Metrics'))")
    button = f"document.querySelectorAll('table')[{table}].tHead.rows[0].cells[1].querySelector('button')"
    assert column(tab, table, 1) == ["0.960", "0.950", "0.940", "0.930"]
    tab.run(f"{button}.click()")
    assert column(tab, table, 1) == ["0.930", "0.940", "0.950", "0.960"]
    assert tab.run(f"{button}.parentElement.ariaSort") == "ascending"
    tab.run(f"{button}.click()")
    assert column(tab, table, 1) == ["0.960", "0.950", "0.940", "0.930"]
    assert tab.run(f"{button}.parentElement.ariaSort") == "descending"


def test_a_table_sorts_by_keyboard_and_by_names(tab: Chromium, file: Path) -> None:
    tab.open(file)
    table = tab.run("[...document.querySelectorAll('caption')].findIndex((each) => each.textContent.startsWith('Metrics'))")
    tab.run(f"document.querySelectorAll('.scroll')[{table}].focus()")
    tab.press("Tab", 9)
    tab.press("Enter", 13, "\r")
    assert column(tab, table, 0) == ["densenet:", "onnx-int8", "openvino-fp32", "openvino-int8"]
    assert tab.run("document.activeElement.tagName") == "BUTTON"


def test_the_first_tab_skips_to_the_evidence(tab: Chromium, file: Path) -> None:
    tab.open(file)
    tab.press("Tab", 9)
    assert tab.run("document.activeElement.textContent") == "To the evidence"
    assert tab.run("document.activeElement.getBoundingClientRect().left") >= 0


def test_it_prints_with_every_number_and_folds_again(tab: Chromium, file: Path) -> None:
    tab.open(file, dark=True)
    content = tab.pdf()
    keep("print.pdf", content)
    assert content.startswith(b"%PDF")
    assert tab.run("document.querySelectorAll('details[open]').length") == 0
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert tab.run("getComputedStyle(document.documentElement).getPropertyValue('--paper')") == "#fff"
    tab.run("dispatchEvent(new Event('beforeprint'))")
    assert tab.run("document.querySelectorAll('details:not([open])').length") == 0
    tab.call("Emulation.setEmulatedMedia", media="")


def test_without_scripts_everything_is_there(tab: Chromium, file: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(file)
        tables, figures = (tab.run(f"document.querySelectorAll('{tag}').length") for tag in ("table", "svg"))
        assert (tables > 15, figures) == (True, 7)
        assert tab.run("document.querySelectorAll('button').length") == 0
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)


def test_what_strangers_wrote_does_not_run(tab: Chromium, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    found = full(HOSTILE.replace("alert('x')", "document.title='owned'"))
    found["bundle"]["name"] = '"><img src=x onerror="document.title=\'owned\'">'
    text = html(page(found))
    # even where somebody puts a script into the file afterwards
    file.write_text(text.replace("<main", "<script>document.title='owned'</script><main"))
    tab.open(file)
    assert tab.run("document.title") != "owned"
    assert tab.run("document.images.length") == 0
    assert any("Content Security Policy" in error for error in tab.errors)


@pytest.mark.peer
@pytest.mark.parametrize("name", SIZES)
def test_axe_finds_no_serious_fault(tab: Chromium, file: Path, name: str) -> None:
    script = Path(os.environ.get("EDGEFM_AXE", "axe.min.js"))
    if not script.is_file():
        pytest.skip("no axe-core; take axe.min.js from its npm package and set EDGEFM_AXE to it")
    width, dark = SIZES[name]
    tab.open(file, width=width, dark=dark)
    tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    tab.run(script.read_text() + "; 0")
    found: dict[str, Any] = json.loads(tab.run("axe.run().then((found) => JSON.stringify(found))"))
    assert found["passes"]
    faults = {each["id"]: [node["html"][:200] for node in each["nodes"]] for each in found["violations"]}
    assert not faults, json.dumps(faults, indent=1)

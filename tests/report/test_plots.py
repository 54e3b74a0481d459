"""Figures: the same bytes each time, the page's colours only, text as text, and nothing drawn from nothing."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import pytest

from edgefm.report import cost, groups, plots
from edgefm.report.figures import VARIABLES, draw

from ..verify.test_page import interval, record, variant
from .records import HOSTILE, VARIANTS, full

pytest.importorskip("matplotlib")
FIGURES = (plots.margins, cost.pareto, plots.roc, plots.reliability, cost.latency, groups.forest, groups.heat_map)


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_is_the_same_each_time_and_has_the_pages_colours_only(figure: Any) -> None:
    (one,), (two,) = figure(full()), figure(full())
    assert one == two
    ElementTree.fromstring(one.svg.replace("xlink:", ""))
    assert set(re.findall(r"#[0-9a-f]{6}\b", one.svg)) <= set()
    assert "currentColor" in one.svg
    assert "<text" in one.svg
    assert not re.search(r"https?:|<metadata|<image|<script", one.svg)


@pytest.mark.parametrize("figure", FIGURES)
def test_nothing_is_drawn_of_nothing(figure: Any) -> None:
    assert figure(record(variants=[variant("onnx-fp32", reference=True)], between=[], reference=None)) == []


@pytest.mark.parametrize("figure", FIGURES)
def test_names_of_strangers_are_text_in_a_drawing(figure: Any) -> None:
    found = full(HOSTILE)
    found["variants"][1]["name"] = HOSTILE
    for each in figure(found):
        assert "<script" not in each.svg


def test_ids_of_two_figures_are_never_the_same() -> None:
    ids = [set(re.findall(r'\bid="([^"]*)"', draw(name, lambda drawing: drawing.subplots(), 2))) for name in ("a", "b")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_what_is_referred_to_is_there() -> None:
    for figure in FIGURES:
        svg = figure(full())[0].svg
        ids = re.findall(r'\bid="([^"]*)"', svg)
        assert set(re.findall(r'href="#([^"]*)"', svg)) | set(re.findall(r"url\(#([^)]*)\)", svg)) <= set(ids)


def test_a_users_own_settings_of_matplotlib_change_nothing_and_stay() -> None:
    import matplotlib

    before = plots.roc(full())
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": "other"}):
        assert plots.roc(full()) == before
        assert matplotlib.rcParams["font.size"] == 30


def test_a_variant_that_another_beats_is_not_on_the_front() -> None:
    found = full()
    (figure,) = cost.pareto(found)
    # openvino-int8 is better than onnx-int8 and larger; fp32 is the best
    assert "by files: openvino-fp32, openvino-int8, onnx-int8" in figure.alternative
    found["bundle"]["bytes"]["onnx-int8"] = 4_000_000
    assert "by files: openvino-fp32, openvino-int8; " in cost.pareto(found)[0].alternative


def test_times_of_another_bundle_are_not_this_ones() -> None:
    found = full()
    for each in found["bench"]["contenders"]:
        each["bundle_id"] = "f" * 64
    (figure,) = cost.pareto(found)
    assert figure.numbers.head == ["bal. acc.", "files, MB"]


def test_times_are_of_the_bundle_by_its_id_where_two_files_are_called_alike() -> None:
    found = full()
    other = {"file": "lung.efm", "id": "f" * 64, "bytes": 1, "name": "another"}
    found["bench"]["bundles"].append(other)
    (slow,) = (dict(each) for each in found["bench"]["contenders"] if each["variant"] == "openvino-int8")
    slow |= {"name": "lung.efm (2) openvino-int8", "bundle_id": "f" * 64, "model": {**slow["model"], "p50": 999.0}}
    found["bench"]["contenders"].append(slow)
    (figure,) = cost.pareto(found)
    times = {name: cells[-1][0] for name, cells in figure.numbers.rows}
    assert times["openvino-int8"] == "5.80"


def test_an_outside_reference_is_drawn_whatever_it_costs() -> None:
    (figure,) = cost.pareto(full())
    assert [name for name, _ in figure.numbers.rows] == list(VARIANTS)
    assert "densenet: torch, whatever it costs" in figure.svg


def test_a_median_has_one_interval_on_the_page() -> None:
    found = full()
    (figure,) = cost.latency(found["bench"] and found)
    (_, median, *_) = figure.numbers.rows[0][1]
    assert median == ("6.80", "6.66-6.94")  # the stated one, as in the table of bench
    (figure,) = cost.pareto(found)
    assert dict(figure.numbers.rows)["openvino-int8"][-1] == ("5.80", "6.66-6.94")


def test_a_roc_curve_is_told_in_numbers_as_the_metrics_are_and_not_between_its_thresholds() -> None:
    (figure,) = plots.roc(full())
    assert figure.numbers.head[:3] == ["label", "at 0.99", "at 0.98"]
    name, cells = figure.numbers.rows[0]
    assert name == "densenet: torch"
    assert [float(value) for value, _ in cells[1:]] == [0.5, 0.5, 0.5, 0.95, 0.95, 0.95]
    found = full()
    for each in found["variants"]:
        del each["roc"]["ill"]["sensitivity_at"]  # of an earlier version
    assert {value for value, _ in plots.roc(found)[0].numbers.rows[0][1][1:]} == {"-"}


def test_empty_bins_are_not_in_the_diagram() -> None:
    (figure,) = plots.reliability(full())
    assert [cells[-1][0] for _, cells in figure.numbers.rows[:2]] == ["90", "60"]


def test_one_variant_of_each_precision_is_drawn_and_all_where_engines_disagree() -> None:
    assert [each["name"] for each in plots.shown(full())] == ["densenet: torch", "openvino-fp32", "openvino-int8"]
    assert len(plots.shown(full(parity={"passed": False}))) == 4


def test_an_undefined_check_and_an_undefined_group_are_left_out_of_the_drawing() -> None:
    found = full()
    found["gate"]["checks"][0]["worst"] = math.nan
    (figure,) = plots.margins(found)
    assert figure.numbers.rows[0][1][1] == ("undefined", "")  # in the numbers it is
    assert figure.svg.count("openvino-fp32: AUC") == 0
    for each in found["subgroups"][0]["groups"][0]["metrics"].values():
        each["balanced_accuracy"] = interval(math.nan, math.nan, math.nan)
    assert [name for name, _ in groups.forest(found)[0].numbers.rows] == ["ill", "C"]


def test_the_gates_figure_leaves_out_what_repeats_and_shows_what_only_another_variant_fails() -> None:
    found = full()
    (figure,) = plots.margins(found)
    assert "onnx-int8: AUC" not in figure.svg  # the second of its precision
    assert len(figure.numbers.rows) == 6
    (check,) = (each for each in found["gate"]["checks"] if (each["name"], each["what"]) == ("onnx-int8", "auc"))
    check["passed"] = False
    assert "onnx-int8: AUC" in plots.margins(found)[0].svg
    assert "onnx-int8: flips" not in plots.margins(found)[0].svg


def test_the_slopes_loss_is_told_in_times_and_never_in_points() -> None:
    found = full()
    slope = {"name": "onnx-int8", "what": "calibration_slope", "loss": 0.0, "worst": math.log(1.25), "margin": math.log(1.5)}
    found["gate"]["checks"].append({**slope, "passed": True})
    (figure,) = plots.margins(found)
    name, cells = figure.numbers.rows[-1]
    assert name == "onnx-int8: calibration slope"
    assert [value for value, _ in cells] == ["1.00 times", "1.25 times", "1.50 times", "yes"]
    assert figure.numbers.rows[0][1][0] == ("0.40", "")
    assert "as a share of the margin" in figure.svg


def test_several_labels_have_a_panel_each() -> None:
    found = full()
    found["task"] = {"kind": "multilabel", "labels": list("abcd"), "thresholds": [0.5] * 4, "temperature": 1.0}
    for each in found["variants"]:
        curve = each["roc"]["ill"]
        each["roc"] = {"a": curve, "b": curve, "c": {"false_positive_rate": [], "sensitivity": []}, "d": curve}
        points = each["calibration"]["reliability"]
        each["calibration"]["reliability"] = {name: values * 4 for name, values in points.items()}
    assert plots.roc(found)[0].svg.count(">a<") >= 1
    assert {cells[0][0] for _, cells in plots.roc(found)[0].numbers.rows} == {"a", "b", "d"}
    assert {cells[0][0] for _, cells in plots.reliability(found)[0].numbers.rows} == set("abcd")


def test_the_colours_of_the_page_are_all_defined_in_light_dark_and_print() -> None:
    from edgefm.report.style import STYLE

    for name in set(re.findall(r"var\((--[\w-]+)\)", " ".join(VARIABLES.values()) + STYLE)):
        assert len(re.findall(rf"{name}:", STYLE)) == 3, name


def test_without_matplotlib_there_are_words_and_numbers() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from tests.report.records import full\n"
        "from edgefm.report.findings import page\n"
        "from edgefm.report.page import html, WITHOUT\n"
        "text = html(page(full()))\n"
        "assert '<svg' not in text and WITHOUT in text and '<details open>' in text"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

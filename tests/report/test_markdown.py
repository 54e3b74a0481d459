"""Markdown has every table and every sentence, and nothing that a stranger wrote is markup."""

from __future__ import annotations

import re

from edgefm.report.findings import page
from edgefm.report.markdown import markdown

from ..verify.test_page import interval, record, variant
from .records import HOSTILE, everything, full


def test_markdown_has_every_table_and_no_markup_of_strangers() -> None:
    text = markdown(page(record()))
    assert text.startswith("# Verification of lung \\| small\n")
    assert "| onnx-int8 | 0.988 (0.970-0.994) | - |" in text
    assert "| onnx-fp32 and onnx-int8 | 7 | 0.032 |" in text
    assert "Some \\<b\\>CPU\\</b\\>" in text
    assert not re.search(r"(?<!\\)<script", markdown(page(full(HOSTILE))))
    assert text.endswith("\n")


def test_each_label_has_all_its_metrics() -> None:
    labels = {label: {name: interval(0.5, 0.4, 0.6) for name in ("auc", "sensitivity", "brier")} for label in ("a", "b")}
    found = record(variants=[variant("onnx-fp32", reference=True, labels=labels)], between=[])
    assert "### Brier of each label" in markdown(page(found))


def test_the_verdict_comes_first_and_a_figure_without_a_table_is_told_in_numbers() -> None:
    lines = markdown(everything()).splitlines()
    assert lines[2].startswith("**PASS: lung \\| small may take the place of densenet: torch")
    assert "### The best sensitivity that keeps a specificity" in lines
    assert "```sh" in lines

"""What the page says: the worst comes first, a chapter is there only where there is something to say, commands are whole."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import click
import pytest

from edgefm.cli import root
from edgefm.report.findings import commands, page, verdict
from edgefm.report.markdown import markdown
from edgefm.settings import load_gate

from ..verify.test_page import record
from .records import everything, full

BROKEN = {"passed": False, "limit": 1e-3, "inputs": 9, "reasons": ["a and b are 0.2 apart"]}


def test_a_pass_says_what_was_shown_and_on_whom() -> None:
    assert verdict(full()) == (
        "pass",
        "lung | small may take the place of densenet: torch: on 1,211 images of 603 patients, all 6 checks stay "
        "within the margin.",
    )


def test_a_refusal_counts_what_failed() -> None:
    found = full()
    found["gate"]["checks"][0]["passed"] = found["gate"]["passed"] = False
    word, sentence = verdict(found)
    assert word == "refused"
    assert "1 of 6 checks could not be shown to stay within the margin" in sentence


def test_a_check_that_was_not_made_is_counted_apart() -> None:
    found = full()
    found["gate"]["checks"][0] |= {"passed": None, "worst": math.nan}
    found["gate"]["not_judged"] = ["openvino-fp32: calibration slope: not judged: too few errors"]
    word, sentence = verdict(found)
    assert word == "pass"
    assert sentence.endswith("all 5 checks stay within the margin. 1 check could not be made: too few errors.")
    assert page(found).reasons == ["openvino-fp32: calibration slope: not judged: too few errors."]
    text = markdown(page(found))
    assert "- openvino-fp32: calibration slope: not judged: too few errors." in text
    found["gate"]["checks"][1]["passed"] = found["gate"]["passed"] = False
    assert "1 of 5 checks could not be shown to stay within the margin. 1 check could not be made" in verdict(found)[1]


def test_a_changed_case_has_its_patient_and_both_decisions_with_their_probabilities() -> None:
    ((section,),) = (each.tables for each in page(full()).chapters if each.topic == "cases")
    row = dict(zip(section.head[:3], (value for value, _ in section.rows[0][1])))
    assert row == {"patient": "P-17", "label": "ill", "variant": "openvino-int8"}
    assert [value for value, _ in section.rows[0][1][3:]] == ["ill", "0.400 0.600", "normal", "0.800 0.200", "0.400"]
    unknown = full(cases=[{**full()["cases"][0], "patient": None, "label": None, "after": ""}])
    ((section,),) = (each.tables for each in page(unknown).chapters if each.topic == "cases")
    assert [value for value, _ in section.rows[0][1]][:2] == ["-", "-"]
    assert section.rows[0][1][5] == ("none", "")


def test_without_a_gate_there_is_no_verdict() -> None:
    assert verdict(record())[0] == "no verdict"


def test_a_broken_parity_is_worse_than_a_gate_that_passes_and_so_is_an_earlier_refusal() -> None:
    refused = {**full()["bundle"], "refused": "too many decisions change"}
    assert verdict(full(parity=BROKEN))[0] == "broken"
    assert verdict(full(bundle=refused)) == (
        "refused",
        "lung | small was refused when it was built, and must not be used: too many decisions change.",
    )


def test_a_record_without_the_optional_parts_has_no_chapter_of_them() -> None:
    all_of_them = {chapter.topic for chapter in everything().chapters}
    few = {chapter.topic for chapter in page(record()).chapters}
    assert {"subgroups", "robustness", "cases", "latency", "roc", "calibration", "gate"} <= all_of_them - few
    assert {"accuracy", "agreement", "parity", "lineage", "machine", "again"} <= few
    assert "more" not in all_of_them


def test_every_figure_has_words_and_numbers() -> None:
    figures = [figure for chapter in everything().chapters for figure in chapter.figures]
    assert [figure.name for figure in figures] == [
        *("margins", "pareto", "roc", "reliability", "forest-1", "robustness", "latency")
    ]
    for figure in figures:
        assert len(figure.alternative) > 40
        assert figure.numbers.rows
        assert all(len(cells) == len(figure.numbers.head) for _, cells in figure.numbers.rows), figure.name


def test_every_table_has_a_cell_for_every_head() -> None:
    for chapter in everything().chapters:
        for table in chapter.tables:
            assert table.rows, table.title
            assert all(len(cells) == len(table.head) for _, cells in table.rows), table.title


def test_more_cases_than_a_page_holds_are_said_to_be_elsewhere() -> None:
    (case,) = full()["cases"]
    (chapter,) = (each for each in page(full(cases=[case] * 501)).chapters if each.topic == "cases")
    assert "Changed decisions: 501" in chapter.text[0]
    assert "The first 500 are shown" in chapter.text[0]
    assert len(chapter.tables[0].rows) == 500


def test_the_commands_are_commands_with_options_that_exist(tmp_path: Path) -> None:
    lines = commands(full()).splitlines()
    start, end = lines.index("cat > gate.yaml <<END"), lines.index("END")
    for line in lines[:start] + lines[end + 1 :]:
        program, *words = shlex.split(line)
        assert program == "edgefm"
        group = root()
        verb, command, rest = group.resolve_command(click.Context(group), words)
        command.make_context(verb, list(rest))
    assert {verb for _, verb, *_ in map(str.split, lines[end + 1 :])} == {"bench", "verify"}
    (tmp_path / "gate.yaml").write_text("\n".join(lines[start + 1 : end]))
    assert load_gate(tmp_path / "gate.yaml", "binary").margins() == {"auc": 0.05, "flips": 0.05}


@pytest.mark.parametrize("missing", ["lineage", "bytes"])
def test_a_record_of_an_earlier_version_still_has_a_page(missing: str) -> None:
    found = full()
    del found["bundle"][missing]
    assert page(found).chapters

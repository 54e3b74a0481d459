"""What is printed: columns that line up, JSON that is JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgefm.runtime.answer import Answer
from edgefm.table import table
from edgefm.views import show_answers, show_inspection, show_plan, show_quickstart

ROW = {"name": "student", "weights_millions": 0.4, "megabytes": 1.5, "flips": None, "milliseconds": 2.0}
AUC = {"value": 0.9, "low": 0.85, "high": 0.94}
FOUND = {
    "rows": [{**ROW, "metrics": {"auc": AUC}}, {**ROW, "metrics": {}, "flips": {"count": 2, "of": 100}, "milliseconds": None}],
    "refused": None,
    "verdict": "the gate says yes, on 6 images, which can prove little",
    "seconds": 60.0,
    "example": {"image": "0.png", "label": "ill", "probabilities": {"well": 0.25, "ill": 0.75}, "variant": "onnx-int8"},
    "paths": {"teacher": "a", "student": "b", "without_teacher": "d", "model.efm": "c", "report.html": "e"},
    "images": {"test": 100},
}


def answer(**fields: object) -> Answer:
    return Answer(**{"source": "a.png", "variant": "onnx-int8", "milliseconds": 1.0, **fields})


def test_an_error_does_not_stop_the_answers_after_it_and_makes_the_exit_code_2(capsys):
    answers = [answer(error="broken"), answer(label="b", probabilities={"a": 0.25, "b": 0.75})]
    assert show_answers(answers, as_json=False) == 2
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("broken")
    assert second.split() == ["a.png", "b", "0.7500", "1.0", "onnx-int8"]


def test_answers_without_errors_end_with_0():
    assert show_answers([answer(label="b", probabilities={"b": 1.0})], as_json=True) == 0


def test_a_label_comes_without_its_embedding_and_an_embedding_alone_with_it(capsys):
    numbers = np.zeros(3, np.float32)
    show_answers([answer(label="b", probabilities={"b": 1.0}, embedding=numbers), answer(embedding=numbers)], as_json=True)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert "embedding" not in first
    assert second["embedding"] == [0.0, 0.0, 0.0]


def test_who_abstains_says_so_and_json_has_the_set_where_there_is_one(capsys):
    unsure = answer(probabilities={"a": 0.5, "b": 0.5}, set=("a", "b"), abstain=True, embedding=np.zeros(3, np.float32))
    show_answers([unsure], as_json=False)
    assert capsys.readouterr().out.splitlines()[1].split() == ["a.png", "abstain", "0.5000", "1.0", "onnx-int8"]
    show_answers([unsure, answer(label="b", probabilities={"b": 1.0})], as_json=True)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["label"], first["set"], first["abstain"]) == (None, ["a", "b"], True)
    assert "embedding" not in first
    assert not {"set", "abstain"} & set(second)


@pytest.mark.parametrize(("label", "shown"), [((), "none"), (("x",), "x"), (("x", "y"), "x, y")])
def test_several_labels_or_none_are_shown(capsys, label, shown):
    show_answers([answer(label=label, probabilities={"x": 0.9, "y": 0.8})], as_json=False)
    assert f" {shown} " in capsys.readouterr().out


def test_a_long_name_keeps_its_end(capsys):
    show_answers([answer(source="x" * 80 + "end.png", label="b", probabilities={"b": 1.0})], as_json=False)
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("...x")
    assert "end.png" in line


def test_no_name_of_a_file_or_a_label_reaches_the_terminal_as_an_escape_sequence(capsys):
    evil = "a\x1b[2J\u202egnp.\n\udcff.png"
    show_answers(
        [answer(source=evil, label="b\x07", probabilities={"b\x07": 1.0}), answer(source=evil, error="x")], as_json=False
    )
    _, *lines = capsys.readouterr().out.splitlines()
    for line in lines:
        assert line.isprintable()
        assert line.startswith(r"a\x1b[2J\u202egnp.\n\udcff.png")
    assert r" b\x07 " in lines[0]


def test_a_name_that_is_no_text_is_still_json(capsys):
    show_answers([answer(source="a\udcff.png", error="x"), answer(source="\x1bé", label="b", probabilities={"b": 1.0})], True)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["source"], second["source"]) == (r"a\udcff.png", "\x1bé")


def test_a_name_is_said_once_where_it_is_shown_whole(capsys):
    long = "x" * 80 + ".png"
    show_answers(
        [answer(source="a b.png", error="a b.png does not exist."), answer(source=long, error=f"{long} is empty.")],
        as_json=False,
    )
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["a", "b.png", "-", "-", "-", "does", "not", "exist."]
    assert second.endswith(f"{long} is empty.")


def test_a_number_that_is_not_finite_becomes_null(capsys):
    show_inspection({"a": float("nan")}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"a": None}


def test_columns_line_up_and_numbers_stand_right():
    assert table(("name", "n"), [("a", "1"), ("long", "100")]) == ["name    n", "a       1", "long  100"]


def test_a_plan_is_json_only_when_asked_for(capsys):
    show_plan(["five minutes"], as_json=False)
    assert capsys.readouterr().out == ""
    show_plan(["five minutes"], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"plan": ["five minutes"]}


def test_a_refused_quickstart_says_so_and_ends_with_3(capsys):
    assert show_quickstart(FOUND, as_json=False) == 0
    text = capsys.readouterr().out
    assert "0.900 (0.850-0.940)" in text
    assert "2 of 100" in text
    assert "\nThe gate says yes, on 6 images, which can prove little.\n" in text
    assert "Next: edgefm run c" in text
    assert "report            e\n" in text
    assert show_quickstart({**FOUND, "refused": "6 of 90 decisions change"}, as_json=False) == 3
    text = capsys.readouterr().out
    assert "The gate refused int8 by its own images, the split val: 6 of 90 decisions change" in text
    assert "refused bundle    c\n" in text
    assert "Next:" not in text


@pytest.mark.parametrize(
    ("count", "words"), [(1, "1 generated input with"), (2, "2 generated inputs with"), (0, "0 generated inputs")]
)
def test_one_golden_input_is_not_several(capsys, count, words):
    task = {"labels": ["a", "b"], "kind": "binary", "thresholds": [0.5], "temperature": 1.0}
    prepare = {"channels": 3, "size": 8, "resize": "shorter", "resize_to": 8, "filter": "bicubic", "window16": (0, 65535)}
    found = {"path": "x.efm", "name": "x", "format": 1, "bytes": 9, "refused": None, "id": "0", "task": task, "edgefm": "0"}
    found |= {"preprocess": prepare, "golden": count, "versions": {}, "variants": [], "lineage": []}
    show_inspection(found, as_json=False)
    assert words in capsys.readouterr().out

"""The road on generated images, verb by verb, with the installed command."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from .conftest import DATA, draw

VARIANTS = {"openvino-fp32", "openvino-int8", "onnx-fp32", "onnx-int8"}


def test_distill_leaves_a_run_directory(made: Path):
    names = {file.name for file in (made / "student").iterdir()}
    assert {"config.json", "model.safetensors", "edgefm.json", "recipe.yaml", "metrics.jsonl"} <= names
    assert not (made / "student.partial").exists()


def test_a_finished_output_is_not_overwritten_without_force(copied):
    before = (copied.folder / "student" / "model.safetensors").read_bytes()
    ended = copied("distill", "-t", "models.py:teacher", "--trust-remote-code", "-d", DATA, "-o", "student")
    assert ended.returncode == 2
    assert "student exists already" in ended.stderr
    assert "--force" in ended.stderr
    assert (copied.folder / "student" / "model.safetensors").read_bytes() == before
    ended = copied("quantize", "student", "-d", DATA, "-o", "model.efm")
    assert (ended.returncode, "model.efm exists already" in ended.stderr) == (2, True)


def test_the_bundle_holds_every_variant_with_its_lineage(copied):
    found = json.loads(copied.done("inspect", "model.efm", "--json").stdout)
    assert {variant["name"] for variant in found["variants"]} == VARIANTS
    assert found["task"]["labels"] == ["clear", "opacity"]
    assert found["refused"] is None
    assert {"student", "teacher", "data"} & {ancestor["role"] for ancestor in found["lineage"]}
    text = copied.done("inspect", "model.efm").stdout
    for words in (found["id"], "clear, opacity", "openvino-int8", "licence"):
        assert words in text


def test_run_answers_in_order_as_json_lines(copied):
    ended = copied.done("run", "model.efm", "images/3.png", "images", "--json")
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [Path(line["source"]).name for line in lines] == ["3.png", *(f"{n}.png" for n in range(6))]
    assert lines[0]["probabilities"] == lines[4]["probabilities"]
    for line in lines:
        assert line["label"] in ("clear", "opacity")
        assert abs(sum(line["probabilities"].values()) - 1) < 1e-6
        assert line["milliseconds"] > 0


def test_run_prints_a_table_for_people(copied):
    ended = copied.done("run", "model.efm", "images", "--variant", "onnx-int8")
    head, *rows = ended.stdout.splitlines()
    assert head.split() == ["image", "answer", "probability", "ms", "variant"]
    assert len(rows) == 6
    assert all(row.endswith("onnx-int8") for row in rows)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_variant_answers(copied, variant):
    line = json.loads(copied.done("run", "model.efm", "images/0.png", "--variant", variant, "--json").stdout)
    assert line["variant"] == variant


def test_a_broken_file_has_its_own_line_and_the_others_are_answered(copied):
    (copied.folder / "images" / "2b.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    ended = copied.done("run", "model.efm", "images", "absent.png", "--json", code=2)
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert [Path(line["source"]).name for line in lines if "error" in line] == ["2b.png", "absent.png"]
    assert sum("label" in line for line in lines) == 6
    table = copied.done("run", "model.efm", "images", code=2).stdout
    assert "2b.png" in table


def test_slim_keeps_what_was_asked_for(copied):
    copied.done("slim", "model.efm", "--keep", "onnx-int8,onnx-fp32", "-o", "small.efm")
    found = json.loads(copied.done("inspect", "small.efm", "--json").stdout)
    assert {variant["name"] for variant in found["variants"]} == {"onnx-int8", "onnx-fp32"}
    assert (copied.folder / "small.efm").stat().st_size < (copied.folder / "model.efm").stat().st_size
    answers = [
        json.loads(copied.done("run", bundle, "images/0.png", "--variant", "onnx-int8", "--json").stdout)["probabilities"]
        for bundle in ("model.efm", "small.efm")
    ]
    assert answers[0] == answers[1]


def test_a_gate_that_says_no_leaves_a_bundle_that_run_refuses(copied):
    draw(copied.folder / "unlabelled", 40)  # without labels the gate looks at the embedding, which int8 always changes
    ended = copied.done("quantize", "student", "-d", "unlabelled", "-o", "refused.efm", "--max-drop", 0, "--json", code=3)
    assert json.loads(ended.stdout)["exit_code"] == 3
    assert "cosine" in ended.stderr.splitlines()[-1]
    found = json.loads(copied.done("inspect", "refused.efm", "--json").stdout)
    assert found["refused"]
    ended = copied("run", "refused.efm", "images/0.png")
    assert (ended.returncode, "--allow-refused" in ended.stderr, ended.stdout) == (2, True, "")
    copied.done("run", "refused.efm", "images/0.png", "--allow-refused")


def test_export_writes_an_fp32_bundle_and_a_plain_model(copied):
    copied.done("export", "student", "-o", "plain.efm")
    copied.done("run", "plain.efm", "images/0.png")
    copied.done("export", "student", "--standalone", "onnx", "-o", "plain")
    assert (copied.folder / "plain" / "model.onnx").exists()


def test_a_dry_run_writes_nothing_and_tells_minutes_disk_and_memory(copied):
    before = sorted(copied.folder.rglob("*"))
    command = ("distill", "-t", "models.py:teacher", "--trust-remote-code", "-d", DATA, "-o", "other", "--dry-run", "--json")
    plan = json.loads(copied.done(*command).stdout)["plan"]
    assert any("disk" in line and "memory" in line for line in plan)
    assert sorted(path for path in copied.folder.rglob("*") if "__pycache__" not in path.parts) == before


def test_inspect_lists_the_nodes_of_a_model(copied):
    found = json.loads(copied.done("inspect", "student", "--taps", "--json").stdout)
    assert found["taps"]
    assert set(found["taps"][0]) == {"name", "kind", "shape"}


def test_no_workstation_library_is_needed_to_run(copied):
    absent = ["torch", "timm", "transformers", "nncf", "onnx", "yaml", "rich"]
    words = ["edgefm", "run", "model.efm", "images", "--json"]
    code = f"import sys; sys.modules.update(dict.fromkeys({absent})); sys.argv = {words}"
    code += "; from edgefm.__main__ import main; main()"
    copied.words = [sys.executable, "-c", code]
    assert len(copied.done().stdout.splitlines()) == 6

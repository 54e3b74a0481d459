"""What is printed and written: columns that fit, sentences that say what matters, files that are whole."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from edgefm.bench.page import check_folder, circumstances, markdown, sentences, tables, write_page
from edgefm.errors import InputError
from edgefm.table import table
from edgefm.views import show_bench


def contender(name: str, p50: float, **fields: Any) -> dict[str, Any]:
    times = {"p50": p50, "p95": 1.2 * p50, "n": 100, "interval": [0.99 * p50, 1.01 * p50], "p99": None}
    times |= {"stated": [0.98 * p50, 1.02 * p50], "p95_interval": [1.1 * p50, 1.3 * p50]}
    start = {"first": {"seconds": 1.511, "peak_mib": 349.4, "n": 5}, "again": {"seconds": 0.45, "peak_mib": 205.0, "n": 5}}
    facts = {"precision": "int8", "version": "openvino-2026.4.1", "bytes": 8_812_345, "ratio": p50 / 6.8}
    return {"name": name, "answer": times, "model": {**times, "p50": p50 - 1}, "start": start, **facts, **fields}


def rival(name: str, p50: float) -> dict[str, Any]:
    found = contender(name, p50, rival=True, version="torch-2.15.0", source="densenet121_cxr")
    del found["bytes"], found["start"]["first"]
    return found


FOUND: dict[str, Any] = {
    "bundles": [{"file": "densenet.efm", "id": "0123456789abcdef" * 4, "bytes": 58_000_000, "name": "densenet"}],
    "image": {"kind": ".png", "shape": [224, 224], "dtype": "uint8", "generated": True, "sha256": "ab" * 32},
    "runs": 100,
    "threads": 2,
    "reference": "openvino-int8",
    "contenders": [
        contender("openvino-int8", 6.8),
        contender("onnx-fp32", 16.8),
        rival("torch fp32", 42.6),
        rival("torch bf16", 24),
    ],
    "left_out": {},
    "machine": {
        "cpu": "A processor with quite a long name @ 2.60GHz",
        "usable_threads": 2,
        "physical_cores": 2,
        "cgroup_quota": None,
        "frequency": None,
        "memory_gib": {"total": 23.5, "limit": None},
        "caps": {},
        "system": "Debian GNU/Linux 12 (bookworm) Linux 6.1 x86_64",
    },
    "load": {"load_before": 0.1, "load_after": 1.4, "others": 0.01},
    "disturbed": None,
    "noise": {"share": 0.012, "contenders": 2, "processes": 5},
    "energy": "not readable here",
    "device": None,
}


def found(**fields: Any) -> dict[str, Any]:
    return copy.deepcopy({**FOUND, **fields})


def test_the_tables_fit_a_hundred_columns_with_names_of_two_bundles():
    named = found()
    for each in named["contenders"]:
        each["name"] = f"densenet121.efm {each['name']}"
        each["answer"]["p99"] = each["model"]["p99"] = 1234.5
    lines = [line for head, rows in tables(named) for line in table(head, rows)]
    assert max(map(len, lines)) <= 108
    lines = [line for head, rows in tables(found()) for line in table(head, rows)]
    assert max(map(len, lines)) <= 100


def test_the_figures_stand_in_their_columns():
    warm, starts = tables(found())
    assert dict(zip(warm[0], warm[1][1]))["answer p50"] == "16.8"
    assert warm[1][0] == ("openvino-int8", "int8", "6.80", "6.66 to 6.94", "8.16", "1.00", "5.80", "8.16")
    assert starts[1][0] == ("openvino-int8", "8.81 MB", "1.51 s", "349 MiB", "0.45 s", "205 MiB")
    assert starts[1][2] == ("torch fp32", "-", "-", "-", "0.45 s", "205 MiB")
    assert "p99" not in warm[0]


def test_a_99th_percentile_has_its_column_when_all_have_one():
    many = found()
    for each in many["contenders"]:
        each["answer"]["p99"] = each["model"]["p99"] = 99.9
    head, rows = tables(many)[0]
    assert head.count("p99") == 2
    assert all(len(row) == len(head) and row.count("99.9") == 2 for row in rows)


def test_the_rival_is_quoted_at_its_best_beside_the_fastest():
    assert sentences(found()) == [
        "Fastest from file to answer: openvino-int8, 6.80 ms.",
        "The best rival, torch bf16, takes 24.0 ms: 3.5 times as long.",
    ]


def test_what_is_no_different_is_said():
    near = found(contenders=[contender("openvino-int8", 6.8), contender("openvino-bf16", 6.9), contender("onnx-fp32", 16.8)])
    assert sentences(near)[0].endswith("openvino-bf16: no different as far as 100 runs tell.")
    for each in near["contenders"]:
        each["answer"] |= {"stated": None, "interval": None}  # one run
    assert "openvino-bf16, onnx-fp32: no different" in sentences(near)[0]


def test_failures_a_busy_machine_and_what_is_left_out_are_said(capsys):
    bad = {"name": "torch fp32", "rival": True, "error": "its process was ended by SIGKILL"}
    some = found(
        disturbed="Other programs used 43 % of the processors.", left_out={"onnx-int8": "ONNX Runtime is not installed"}
    )
    some["contenders"][2] = bad
    lines = sentences(some)
    assert lines[:2] == ["Other programs used 43 % of the processors.", "torch fp32 failed: its process was ended by SIGKILL."]
    assert lines[-1] == "Left out: onnx-int8, because ONNX Runtime is not installed."
    assert show_bench(some, as_json=False) == 2
    text = capsys.readouterr().out
    assert all(line in text for line in lines)
    assert all(line in markdown(some) for line in lines)
    assert show_bench(found(), as_json=False) == 0


def test_a_rival_alone_needs_no_bundle_that_ran():
    alone = found(contenders=[{"name": "onnx-fp32", "error": "it died"}, rival("torch fp32", 40.0)], reference="torch fp32")
    assert sentences(alone) == ["onnx-fp32 failed: it died."]


def test_the_circumstances_say_what_limits_the_machine():
    machine = FOUND["machine"] | {
        "cgroup_quota": 1.5,
        "frequency": {"governor": "powersave", "min_mhz": 800, "max_mhz": 3600, "boost": True},
        "memory_gib": {"total": 23.5, "limit": 4.0},
        "caps": {"EDGEFM_ISA": "avx2"},
    }
    text = "\n".join(circumstances(found(machine=machine)))
    for words in (
        "quota 1.5",
        "powersave, up to 3600 MHz",
        "limited to 4.0 GiB",
        "capped     EDGEFM_ISA=avx2",
        "noise      1.2 % between processes",
        "energy     not readable here",
        "torch-2.15.0",
        "rival      densenet121_cxr",
        "0.1 before, 1.4 after",
    ):
        assert words in text


def test_the_page_is_markdown_whatever_a_file_is_called():
    page = markdown(found(contenders=[contender("a|b.efm onnx-fp32", 5.0)]))
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {9, 7}


def test_both_files_are_written_and_never_replaced_unasked(tmp_path: Path):
    check_folder(tmp_path / "out", force=False)
    write_page(tmp_path / "out", found())
    assert json.loads((tmp_path / "out" / "bench.json").read_text()) == FOUND
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bench.json", "bench.md", "history.jsonl"]
    with pytest.raises(InputError, match=r"bench.json exists already"):
        check_folder(tmp_path / "out", force=False)
    check_folder(tmp_path / "out", force=True)
    (tmp_path / "out" / "bench.json").unlink()
    with pytest.raises(InputError, match=r"bench.md exists already"):
        check_folder(tmp_path / "out", force=False)


def test_a_folder_that_cannot_be_is_refused_before_the_measuring(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Choose another -o"):
        check_folder(tmp_path / "file", force=True)
    (tmp_path / "out" / "history.jsonl").mkdir(parents=True)
    with pytest.raises(InputError, match=r"history\.jsonl is a folder"):
        check_folder(tmp_path / "out", force=True)


def test_a_budget_that_few_runs_cannot_show_is_neither_met_nor_missed():
    budget = {"name": "latency_p95_ms", "limit": 13.0, "found": 12.0, "upper": None, "met": None, "needs": 60}
    verdict = {"bundle": "a.efm", "contender": "onnx-fp32", "met": False, "runs": 30, "budgets": [budget]}
    device = {"name": "office", "profile": {}, "verdicts": [verdict], "imitated": [], "not_imitated": [], "met": False}
    some = found(device=device)
    line = "a.efm was not shown to meet the budget of office: p95 from file to answer needs 60 runs, and had 30."
    assert sentences(some)[0] == line
    assert tables(some)[-1][1] == [("a.efm onnx-fp32", "p95 from file to answer", "13 ms", "12.0", "needs 60 runs")]
    assert show_bench(some, as_json=False) == 5


def test_stages_energy_and_throughput_stand_in_tables_of_their_own():
    some = found()
    stages = {"decode": 1.234, "preprocess": 0.5, "model": 5.0, "postprocess": 0.01}
    rates = [{"batch": batch, "threads": 2, "images_per_second": 100.0 * batch, "n": 5} for batch in (1, 4)]
    some["contenders"][0] |= {"stages": stages, "energy": {"joules": 0.1234, "watts": 9, "n": 5}, "throughput": rates}
    some["contenders"][1] |= {"stages": stages, "energy": "not readable here", "throughput": rates[:1]}
    some["contenders"][2] |= {"throughput": [], "throughput_stopped": "4 images on 2 threads: no memory"}
    _, _, within, rate = tables(some)
    assert within[1] == [
        ("openvino-int8", "1.23", "0.50", "5.00", "0.01", "0.123 J"),
        ("onnx-fp32", "1.23", "0.50", "5.00", "0.01", "not readable here"),
    ]
    assert rate == (
        ("images per second, batch on threads", "1 on 2", "4 on 2"),
        [("openvino-int8", "100", "400"), ("onnx-fp32", "100", "-")],
    )
    assert "torch fp32 stopped at 4 images on 2 threads: no memory." in sentences(some)
    some["energy"] = {"source": "rapl", "idle_w": 4.2}
    assert any("(RAPL); 4.2 W at rest are within" in line for line in circumstances(some))

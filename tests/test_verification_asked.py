"""What `verify` measures where it is asked for: subgroups, changed cases, times of bench, robustness."""

# ruff: noqa: F811  (fixtures of other files)
from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import edgefm
from edgefm.bundle import open_bundle
from edgefm.errors import InputError
from edgefm.runtime.instructions import SETS, InstructionSet
from edgefm.runtime.select import candidates
from edgefm.spec.task import Task
from edgefm.verify.curves import SPECIFICITIES
from edgefm.views import show_verify

from .bench.test_page import found as found_bench
from .runtime.conftest import MakeBundle, make_bundle  # noqa: F401
from .test_verification import BINARY, PHANTOM, bundle, cases, table  # noqa: F401


def test_subgroups_are_by_the_columns_that_can_make_some_or_those_asked_for(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        row | {"site": "XYZ"[n // 4 % 2], "name": row["patient"], "scanner": "AB"[n % 2]} for n, row in enumerate(cases(160))
    ]
    data = table(tmp_path, rows)
    with caplog.at_level("INFO", logger="edgefm"):
        found = edgefm.verify(bundle, data=data, out=tmp_path / "out")
    assert [record["column"] for record in found["subgroups"]] == ["site", "scanner"]
    assert any("column 'name' makes no subgroups: 80 values for 80 patients" in line for line in caplog.messages)
    site = found["subgroups"][0]
    assert [(group["value"], group["images"], group["groups"]) for group in site["groups"]] == [("X", 80, 40), ("Y", 80, 40)]
    assert site["worst"]["openvino-fp32"]["auc"] in ("X", "Y")
    assert show_verify(found, as_json=False) == 0
    told = capsys.readouterr().out
    assert "Worst group by site" in told
    assert max(map(len, told.splitlines())) <= 100
    page = (tmp_path / "out" / "report.md").read_text()
    assert "### By site" in page
    assert "JANE" not in page + told + json.dumps(found)
    only = edgefm.verify(bundle, data=data, by=("scanner",))
    assert [record["column"] for record in only["subgroups"]] == ["scanner"]
    for wrong in ("name", "patient", "colour"):
        with pytest.raises(InputError, match=f"column '{wrong}'"):
            edgefm.verify(bundle, data=data, by=(wrong,))


def test_cases_are_told_when_asked_for_and_no_name_is_anywhere_else(
    make_bundle: MakeBundle,
    tmp_path: Path,
) -> None:
    path = tmp_path / "own.efm"
    shutil.copy(make_bundle(task=BINARY), path)
    always = make_bundle(task=Task(kind="binary", labels=BINARY.labels, thresholds=(1.0,)), variants=("onnx-int8",))
    rows = [row | {"site": "XY"[n % 2]} for n, row in enumerate(cases(40))]
    data = table(tmp_path, rows)
    found = edgefm.verify(path, data=data, against=always, out=tmp_path / "with", with_cases=True, seal=True)
    changed = found["variants"][1]["flips"]["count"]
    assert changed > 0
    assert len(found["cases"]) == changed + found["variants"][2]["flips"]["count"]
    assert {case["image"] for case in found["cases"]} <= {row["file"] for row in rows}
    assert {case["patient"] for case in found["cases"]} <= {row["patient"] for row in rows}
    drifts = [case["drift"] for case in found["cases"]]
    assert drifts == sorted(drifts, reverse=True)
    listed = (tmp_path / "with" / "flipped.csv").read_text().splitlines()
    assert len(listed) == len(found["cases"]) + 1
    assert found["cases"][0]["image"] in listed[1]
    assert json.loads((tmp_path / "with" / "report.json").read_text())["cases"] == found["cases"]
    assert edgefm.verify(path, data=data, against=always, out=tmp_path / "without")["cases"] is None
    for file in (path, *(tmp_path / "without").iterdir()):  # a bundle travels: it holds no names, whatever was asked for
        for name in (b"SECRET", b"JANE"):
            assert name not in file.read_bytes(), file
    edgefm.verify(path, data=data, against=always, out=tmp_path / "with", force=True)
    assert sorted(file.name for file in (tmp_path / "with").iterdir()) == ["report.html", "report.json", "report.md"]


def test_cases_of_an_embedding_are_refused(make_bundle: MakeBundle) -> None:
    with pytest.raises(InputError, match="decides nothing"):
        edgefm.verify(make_bundle("embedding"), data=PHANTOM, with_cases=True)


def test_the_report_shows_the_times_of_this_bundle_and_refuses_those_of_another(bundle: Path, tmp_path: Path) -> None:
    times = found_bench()
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(times))
    with pytest.raises(InputError, match=r"holds times of 0123456789ab; expected times of this bundle"):
        edgefm.verify(bundle, data=PHANTOM, bench=file)
    for text in ("[]", "{}", '{"bundles": []}'):
        file.write_text(text)
        with pytest.raises(InputError, match=r"holds no findings of bench; expected a bench\.json or a history\.jsonl"):
            edgefm.verify(bundle, data=PHANTOM, bench=file)
    with pytest.raises(InputError, match="cannot be read"):
        edgefm.verify(bundle, data=PHANTOM, bench=tmp_path / "absent.json")
    with open_bundle(bundle) as opened:
        times["bundles"][0]["id"] = opened.id
    file = tmp_path / "history.jsonl"  # of which the last line counts
    file.write_text(json.dumps(found_bench()) + "\n" + json.dumps(times) + "\n")
    edgefm.verify(bundle, data=PHANTOM, bench=file, out=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["bench"] == times
    assert 'id="latency"' in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("missing", ["bundles", "runs", "load", "device"])
def test_times_that_the_report_could_not_show_are_refused_before_anything_is_measured(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr("edgefm.verify.verdict.verdict", None)
    times = found_bench()
    with open_bundle(bundle) as opened:
        times["bundles"][0]["id"] = opened.id
    del times[missing]
    (tmp_path / "bench.json").write_text(json.dumps(times))
    with pytest.raises(InputError, match=f"is not what this version of bench writes .*{missing}"):
        edgefm.verify(bundle, data=PHANTOM, bench=tmp_path / "bench.json")


def test_pages_of_another_model_do_not_stay_beside_a_record_whose_pages_cannot_be_made(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("report.json", "report.md", "report.html", "flipped.csv"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr("edgefm.report.findings.page", lambda found: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        edgefm.verify(bundle, data=PHANTOM, out=tmp_path, force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]
    assert json.loads((tmp_path / "report.json").read_text())["variants"]


def test_a_folder_in_the_place_of_a_page_is_refused_at_the_start(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "report.md").mkdir()
    with pytest.raises(InputError, match=r"report\.md is a folder"):
        edgefm.verify(bundle, data=PHANTOM, out=tmp_path, force=True)


def test_what_was_asked_for_is_in_the_record_and_in_the_commands(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("data: {broken: skip}\nstudent: tiny\n")
    settings = ("data.val=0.3", "data.label=label")  # the latter is the default
    out, recipe = tmp_path / "out", tmp_path / "r.yaml"
    found = edgefm.verify(bundle, data=PHANTOM, parity="all", out=out, set=settings, recipe=recipe)
    assert found["asked"] == {
        "parity": "all", "settings": ["data.val=0.3", 'data.broken="skip"'], "trust_remote_code": False
    }  # fmt: skip
    text = (tmp_path / "out" / "report.md").read_text()
    assert """--set data.val=0.3 --set 'data.broken="skip"' --parity all --by scanner -o proof""" in text
    assert str(tmp_path) not in text
    again = edgefm.verify(bundle, data=PHANTOM, parity="all", set=tuple(found["asked"]["settings"]))
    assert json.dumps(again) == json.dumps(found)
    assert edgefm.verify(bundle, data=PHANTOM)["asked"]["settings"] == []


@pytest.mark.parametrize("fault", ["", "apart", "wrong"])
def test_a_difference_under_a_cap_ends_with_4_and_no_variant_under_a_cap_is_a_contender(
    make_bundle: MakeBundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    path = make_bundle(task=BINARY, variants=("openvino-fp32", "onnx-fp32", "onnx-int8"))

    class Child:
        def __init__(self, path: Path, name: str, cap: InstructionSet) -> None:
            with open_bundle(path) as bundle:
                self._engine = next(each for each in candidates(bundle.manifest)[0] if each.name == name).load(bundle, 1)

        def ready(self) -> str:
            return "logits off by 0.3 for the golden input grey8" if fault == "wrong" else ""

        def __call__(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
            found = dict(self._engine(prepared))
            if fault == "apart":
                found["logits"] = 0 * found["logits"]
            return found

        def close(self) -> None:
            pass

    monkeypatch.setattr("edgefm.verify.older.Capped", Child)
    monkeypatch.setattr("edgefm.verify.older.caps", lambda: [SETS["sse41"], SETS["avx2"]])
    monkeypatch.setattr("edgefm.verify.older.MOST", 5)
    data = table(tmp_path, cases(12))
    found = edgefm.verify(path, data=data, parity="all", out=tmp_path / "proof", with_cases=True)
    assert [each["name"] for each in found["variants"]] == ["openvino-fp32", "onnx-fp32", "onnx-int8"]
    assert len(found["between"]) == 3
    assert [(each["name"], each["images"], each["passed"]) for each in found["older"]] == [
        (f"openvino-fp32 capped to {cap}", 5, fault != "apart") for cap in ("SSE41", "AVX2")
    ]
    assert [found["left_out"][f"{name} capped"] for name in ("onnx-fp32", "onnx-int8")] == [
        "onnx has no switch for its instruction set"
    ] * 2
    assert show_verify(found, as_json=False) == (4 if fault else 0)
    told = " ".join(capsys.readouterr().out.split())
    assert "variants answered for 5 of 12 images, those whose decisions are nearest to being changed" in told
    assert "openvino-fp32, SSE41" in told
    reasons = {
        "": [],
        "apart": [
            "openvino-fp32 and openvino-fp32 capped to SSE41 are ",
            "openvino-fp32 and openvino-fp32 capped to AVX2 are ",
        ],
        "wrong": [f"openvino-fp32 capped to {cap}: logits off by 0.3" for cap in ("SSE41", "AVX2")],
    }[fault]
    assert len(found["parity"]["reasons"]) == len(reasons)
    assert all(found["parity"]["reasons"][n].startswith(reason) for n, reason in enumerate(reasons))
    for file in ("report.md", "report.html"):
        text = (tmp_path / "proof" / file).read_text()
        assert "Under older instruction sets, against the same variant" in text
        assert ("capped to SSE41" in text) == (fault != "")
    assert "SECRET" not in json.dumps(found["older"])
    assert "JANE" not in json.dumps(found["older"])
    assert edgefm.verify(path, data=data)["older"] == []


def test_robustness_is_measured_where_it_is_asked_for_and_says_first_what_it_costs(
    make_bundle: MakeBundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = make_bundle(task=BINARY, variants=("openvino-fp32", "onnx-fp32", "onnx-int8"))
    data = table(tmp_path, cases(8))
    assert edgefm.verify(path, data=data)["robustness"] is None
    with caplog.at_level("INFO", "edgefm"):
        found = edgefm.verify(path, data=data, robustness="oct", out=tmp_path / "proof")
    assert "robustness: 8 of 8 images, 6 corruptions of oct at 5 severities: 248 answers of each model" in caplog.text
    weather = found["robustness"]
    assert (weather["modality"], weather["images"], weather["seed"]) == ("oct", 8, 0)
    assert set(weather["clean"]) == {"openvino-fp32", "onnx-int8"}  # one engine of each precision
    assert set(weather["corruptions"][0]) == {"name", "severity", "variants"}
    assert weather["clean"]["onnx-int8"]["balanced_error"] == pytest.approx(
        1 - found["variants"][2]["metrics"]["balanced_accuracy"]["value"]
    )
    text = (tmp_path / "proof" / "report.md").read_text()
    assert "## Balanced error of 8 images of oct, corrupted" in text
    assert "| jpeg compression | " in text
    assert "SECRET" not in json.dumps(weather)
    assert show_verify(found, as_json=False) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_robustness_without_labels_or_of_an_embedding_is_refused(make_bundle: MakeBundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the data have none"):
        edgefm.verify(make_bundle(task=BINARY), data=table(tmp_path, [{"file": "a.png", "split": "test"}]), robustness="xray")
    with pytest.raises(InputError, match="an embedding decides nothing"):
        edgefm.verify(make_bundle("embedding"), data=PHANTOM, robustness="xray")


def test_a_curve_in_numbers_and_the_metric_are_one_definition(bundle: Path) -> None:
    for each in edgefm.verify(bundle, data=PHANTOM)["variants"]:
        at = dict(zip(SPECIFICITIES, each["roc"]["opacity"]["sensitivity_at"], strict=True))
        for specificity in (0.9, 0.95):
            assert at[specificity] == each["operating"][f"sensitivity_at_{specificity:g}_specificity"]["value"]

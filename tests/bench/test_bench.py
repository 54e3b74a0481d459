"""The verb on tiny bundles: what it finds, what it refuses, and what it never imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgefm import api
from edgefm.data.radiograph import radiograph
from edgefm.errors import BundleError, ImageError, InputError
from edgefm.runtime import engines
from edgefm.views import show_bench

from .conftest import MakeBundle

HEAVY = {"torch", "timm", "transformers", "triton", "nncf", "onnx", "safetensors", "scipy", "sklearn", "yaml", "openvino"}


def test_every_variant_that_can_run_is_measured(make_bundle: MakeBundle, capsys):
    bundle = make_bundle()
    found = api.bench((str(bundle),), runs=1, threads=1)
    assert json.loads(json.dumps(found)) == found | {"contenders": json.loads(json.dumps(found["contenders"]))}
    assert [each["name"] for each in found["contenders"]] == ["openvino-fp32", "onnx-fp32"]
    for each in found["contenders"]:
        assert (each["precision"], each["threads"], each["answer"]["n"], each["start"]["first"]["n"]) == ("fp32", 1, 1, 1)
        assert each["answer"]["p50"] > 0
        assert each["model"]["p50"] > 0
        assert each["bytes"] > 1000
        assert each["version"].startswith(("openvino-2", "onnxruntime-1"))
    assert found["contenders"][0]["ratio"] == 1.0
    assert found["reference"] == "openvino-fp32"
    content = radiograph(0, 0, 16, 16).tobytes()  # of the pixels: how a PNG is packed is another matter
    said = {"kind": ".png", "shape": [16, 16], "dtype": "uint8", "generated": True, "sha256": sha256(content).hexdigest()}
    assert found["image"] == said
    assert {each["bundle_id"] for each in found["contenders"]} == {found["bundles"][0]["id"]}
    assert found["bundles"][0]["bytes"] == bundle.stat().st_size
    assert found["left_out"] == {"openvino-bf16": "bf16 was not tried when the bundle was built"}
    assert str(bundle.parent) not in json.dumps(found)
    assert show_bench(found, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["contenders"][1]["name"] == "onnx-fp32"


def test_bf16_takes_part_where_the_bundle_allows_it(make_bundle: MakeBundle, monkeypatch):
    from edgefm.runtime import cpu

    bundle = make_bundle(variants=("openvino-fp32",), bf16=True)
    monkeypatch.setattr(cpu, "cpu_features", lambda: {"avx512_bf16": True})
    found = api.bench((str(bundle),), runs=1)
    assert [each["name"] for each in found["contenders"]] == ["openvino-fp32", "openvino-bf16"]
    half = found["contenders"][1]
    assert half.get("precision") == "bf16" or "bf16" in half["error"]  # a processor without it says so


def test_two_bundles_are_told_apart_and_written_down(make_bundle: MakeBundle, tmp_path: Path):
    one, other = make_bundle(variants=("onnx-fp32",)), make_bundle("multiclass", variants=("onnx-fp32",))
    Image.fromarray(np.zeros((9, 30, 3), np.uint8)).save(tmp_path / "picture.jpg")
    found = api.bench((str(one), str(other)), runs=1, image=tmp_path / "picture.jpg", out=tmp_path / "out")
    names = ["small.efm (1) onnx-fp32", "small.efm (2) onnx-fp32"]  # and no folder of this machine
    assert [each["name"] for each in found["contenders"]] == names
    assert [each["bundle_id"] for each in found["contenders"]] == [each["id"] for each in found["bundles"]]
    digest = sha256((tmp_path / "picture.jpg").read_bytes()).hexdigest()
    said = {"kind": ".jpg", "shape": [9, 30, 3], "dtype": "uint8", "generated": False, "sha256": digest}
    assert found["image"] == said
    text = (tmp_path / "out" / "bench.json").read_text()
    assert json.loads(text)["reference"] == names[0]
    assert str(one.parent) not in text
    assert "picture" not in text
    assert "| warm, ms |" in (tmp_path / "out" / "bench.md").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bench.json", "bench.md", "history.jsonl"]


def test_an_engine_that_is_not_installed_is_left_out_and_said(make_bundle: MakeBundle, monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "openvino", engines.ENGINES["openvino"]._replace(library="no_such_library"))
    found = api.bench(str(make_bundle()), runs=1)  # type: ignore[arg-type]
    assert [each["name"] for each in found["contenders"]] == ["onnx-fp32"]
    assert found["left_out"]["openvino-fp32"] == "OpenVINO is not installed"


def test_a_rival_that_cannot_be_loaded_is_named_and_the_exit_code_is_2(make_bundle: MakeBundle, capsys):
    bundle = make_bundle(variants=("onnx-fp32",))
    found = api.bench((str(bundle),), runs=1, against="torch:/no/such/model")
    good, *rivals = found["contenders"]
    assert good["ratio"] == 1.0
    assert rivals
    assert all("there is no file or folder model" in each["error"] for each in rivals)
    assert show_bench(found, as_json=False) == 2
    assert "torch fp32 failed: there is no file or folder model" in capsys.readouterr().out


def test_where_nothing_runs_the_reasons_are_one_line(make_bundle: MakeBundle, monkeypatch):
    from edgefm.bench import compare
    from edgefm.bench.contender import Started

    def start(*_: object, **__: object) -> Started:
        raise InputError("no memory")

    monkeypatch.setattr(compare, "Started", start)
    with pytest.raises(InputError, match=r"no contender could run: openvino-fp32 \(no memory\); onnx-fp32 \(no memory\)"):
        api.bench((str(make_bundle()),), runs=1)


def test_a_refused_bundle_is_measured_only_when_told_so(make_bundle: MakeBundle):
    bundle = make_bundle(variants=("onnx-fp32",), refused="too many decisions change")
    with pytest.raises(BundleError, match="too many decisions change"):
        api.bench((str(bundle),), runs=1)
    assert api.bench((str(bundle),), runs=1, allow_refused=True)["contenders"][0]["ratio"] == 1.0


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"runs": 0}, InputError, "runs is 0; expected at least 1"),
        ({"threads": 0}, InputError, "threads is 0; expected at least 1"),
        ({"image": "/no/such.png"}, ImageError, "/no/such.png does not exist"),
        ({"against": "onnx:model.onnx"}, InputError, "expected torch:MODEL"),
        ({"against": "torch:"}, InputError, "expected torch:MODEL"),
        ({"out": "/dev/null/out"}, InputError, "Choose another -o"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_measured(make_bundle: MakeBundle, monkeypatch, options, kind, message):
    from edgefm.bench import bench as room

    monkeypatch.setattr(room, "compare", None)
    with pytest.raises(kind, match=message):
        api.bench((str(make_bundle()),), **options)


def test_bad_bundles_are_refused(make_bundle: MakeBundle, tmp_path: Path):
    bundle = make_bundle()
    (tmp_path / "link.efm").symlink_to(bundle)
    for bundles, message in (
        ((), "no bundle was named"),
        ((str(bundle), str(tmp_path / "link.efm")), "a bundle is named twice"),
        ((str(tmp_path / "absent.efm"),), "does not exist"),
    ):
        with pytest.raises(InputError, match=message):
            api.bench(bundles)


def test_neither_bench_nor_its_contenders_import_the_workstation(make_bundle: MakeBundle, tmp_path: Path):
    """Blocked in every process: a contender that wanted one of them would fail."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({HEAVY!r}))\n")
    code = (
        "import json, sys, edgefm\n"
        "found = edgefm.bench((sys.argv[1],), runs=1)\n"
        "assert 'onnxruntime' not in sys.modules, 'the engines run in processes of their own'\n"
        "print(json.dumps([found, sorted(name for name, module in sys.modules.items() if module)]))\n"
    )
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(api.__file__).parents[2]}"}
    words = [sys.executable, "-c", code, make_bundle(variants=("onnx-fp32",))]
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    found, imported = json.loads(done.stdout)
    assert found["contenders"][0]["precision"] == "fp32"
    assert not HEAVY & set(imported)

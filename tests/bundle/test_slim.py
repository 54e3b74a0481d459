"""Fewer variants: what is kept is kept byte for byte."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgefm.bundle import open_bundle, slim_bundle, write_bundle
from edgefm.errors import BundleError, InputError
from edgefm.spec.manifest import Graph

from .make_format1 import ENTRIES, FIXTURE, IDENTITY, MANIFEST, PREPROCESS, variant


def test_only_the_kept_variant_and_what_is_no_variant_remain(tmp_path: Path) -> None:
    identity = slim_bundle(FIXTURE, ["onnx-fp32"], tmp_path / "slim.efm")
    with open_bundle(tmp_path / "slim.efm") as slim, open_bundle(FIXTURE) as whole:
        assert slim.id == identity != whole.id
        assert slim.manifest.variants == whole.manifest.variants[:1]
        gone = {"variants/openvino-int8/encoder.xml", "evidence/report.json"}
        assert set(whole.names()) - set(slim.names()) == gone
        assert not set(slim.names()) - set(whole.names())
        for name in slim.names()[1:]:
            assert slim.view(name) == whole.view(name)
        entries, variants = whole.manifest.entries, whole.manifest.variants
        kept = {name: entry for name, entry in entries.items() if name not in gone}
        assert slim.manifest == msgspec.structs.replace(whole.manifest, entries=kept, variants=variants[:1])


def test_slimming_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.efm", "b.efm"):
        slim_bundle(FIXTURE, ["openvino-int8"], tmp_path / name)
    assert (tmp_path / "a.efm").read_bytes() == (tmp_path / "b.efm").read_bytes()


def test_with_all_variants_kept_the_id_stays_whatever_the_order(tmp_path: Path) -> None:
    assert slim_bundle(FIXTURE, ["openvino-int8", "onnx-fp32", "onnx-fp32"], tmp_path / "same.efm") == IDENTITY


def test_a_file_that_a_kept_variant_shares_is_kept(tmp_path: Path) -> None:
    lender, borrower = variant("onnx", "int8", "encoder.onnx"), variant("openvino", "int8", "own.xml")
    files = ("variants/openvino-int8/own.xml", "variants/onnx-int8/encoder.onnx")
    graph = msgspec.structs.replace(borrower.graphs["encoder"], files=files)
    assert isinstance(graph, Graph)
    borrower = msgspec.structs.replace(borrower, graphs={"encoder": graph})
    manifest = msgspec.structs.replace(MANIFEST, variants=(lender, borrower), golden=())
    entries = {**dict.fromkeys(files, b"x"), "variants/onnx-int8/other": b"y"}
    write_bundle(tmp_path / "shared.efm", manifest, PREPROCESS, entries)
    slim_bundle(tmp_path / "shared.efm", ["openvino-int8"], tmp_path / "slim.efm")
    with open_bundle(tmp_path / "slim.efm") as slim:
        assert [name for name in slim.names() if name.startswith("variants/")] == sorted(files)


def test_a_refused_bundle_stays_refused(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(MANIFEST, refused="3 % of decisions flipped")
    write_bundle(tmp_path / "refused.efm", manifest, PREPROCESS, ENTRIES)
    slim_bundle(tmp_path / "refused.efm", ["onnx-fp32"], tmp_path / "slim.efm")
    with open_bundle(tmp_path / "slim.efm") as slim:
        assert slim.manifest.refused == "3 % of decisions flipped"


@pytest.mark.parametrize(
    ("keep", "says"), [([], "no variant"), (["onnx-int8"], "has no variant 'onnx-int8'"), (["x\n"], "no variant")]
)
def test_a_variant_that_is_not_there_is_refused_with_those_that_are(keep: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{says}.*some of onnx-fp32, openvino-int8.*--keep"):
        slim_bundle(FIXTURE, keep, tmp_path / "slim.efm")
    assert not list(tmp_path.iterdir())


def test_the_output_must_be_called_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.txt is no name for a bundle; .* Say -o .*x\.txt\.efm"):
        slim_bundle(FIXTURE, ["onnx-fp32"], tmp_path / "x.txt")
    assert not list(tmp_path.iterdir())


def test_a_bundle_may_be_slimmed_onto_itself_by_force_only(tmp_path: Path) -> None:
    path = tmp_path / "x.efm"
    path.write_bytes(FIXTURE.read_bytes())
    with pytest.raises(InputError, match="exists already"):
        slim_bundle(path, ["onnx-fp32"], path)
    slim_bundle(path, ["onnx-fp32"], path, force=True)
    with open_bundle(path) as slim:
        assert len(slim.manifest.variants) == 1


def test_a_damaged_bundle_is_not_slimmed(tmp_path: Path) -> None:
    (tmp_path / "bad.efm").write_bytes(FIXTURE.read_bytes()[:-1])
    with pytest.raises(BundleError):
        slim_bundle(tmp_path / "bad.efm", ["onnx-fp32"], tmp_path / "slim.efm")
    assert not (tmp_path / "slim.efm").exists()

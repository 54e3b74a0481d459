"""OpenVINO's compiled models in the user's cache: whole or made anew, few, and never in the way."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from edgefm.bundle import Bundle, open_bundle
from edgefm.runtime.cache import cache_folder
from edgefm.runtime.engines.compiled import CompiledModels

from ..conftest import MakeBundle, reference
from ..test_engines import IMAGES, load


@pytest.fixture
def bundle(make_bundle: MakeBundle, cache: Path) -> Iterator[Bundle]:
    with open_bundle(make_bundle("multiclass")) as opened:
        yield opened


def test_the_second_load_uses_the_compiled_model(bundle: Bundle, cache: Path) -> None:
    first = load(bundle, "openvino")(IMAGES)
    (blob,) = cache.rglob("*.blob")
    written = blob.stat().st_mtime_ns
    second = load(bundle, "openvino")(IMAGES)
    assert list(cache.rglob("*.blob")) == [blob]
    assert blob.stat().st_mtime_ns == written
    np.testing.assert_array_equal(first["logits"], second["logits"])


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9, 0.999])
def test_one_changed_byte_of_a_compiled_model_and_it_is_made_anew(bundle: Bundle, cache: Path, where: float) -> None:
    first = load(bundle, "openvino")(IMAGES)
    (blob,) = cache.rglob("*.blob")
    good = blob.read_bytes()
    at = int(where * len(good))
    blob.chmod(0o600)
    blob.write_bytes(good[:at] + bytes([good[at] ^ 0x55]) + good[at + 1 :])
    np.testing.assert_array_equal(load(bundle, "openvino")(IMAGES)["logits"], first["logits"])
    (blob,) = cache.rglob("*.blob")
    good = blob.read_bytes()
    assert (blob.parent / "sha256").read_text() == sha256(good).hexdigest()
    blob.chmod(0o600)
    blob.write_bytes(good[: int(where * len(good))])
    np.testing.assert_array_equal(load(bundle, "openvino")(IMAGES)["logits"], first["logits"])


def test_nothing_is_kept_of_a_bundle_without_an_id(bundle: Bundle, cache: Path) -> None:
    bundle.id = ""
    load(bundle, "openvino")
    assert not list(cache.rglob("*"))


def test_the_oldest_compiled_models_are_forgotten(cache: Path) -> None:
    for number in range(12):
        with CompiledModels(f"bundle{number}", "key") as folder:
            assert folder is not None
            (folder / "x.blob").write_bytes(b"compiled")
    left = {path.parts[-3] for path in cache.rglob("*.blob")}
    assert len(left) == 8
    assert "bundle11" in left


def test_what_a_killed_process_left_half_compiled_is_removed_and_what_another_one_compiles_now_is_not(cache: Path) -> None:
    for name, age in (("killed", 4000), ("running", 10)):
        half = cache / "edgefm" / "openvino" / "other" / f"{name}.partial"
        half.mkdir(parents=True)
        (half / "x.blob").write_bytes(b"half")
        os.utime(half, (time.time() - age,) * 2)
    with CompiledModels("bundle", "key") as folder:
        assert folder is not None
        (folder / "x.blob").write_bytes(b"compiled")
    assert [path.name for path in cache.rglob("*.partial")] == ["running.partial"]


def test_a_failed_compilation_leaves_nothing(cache: Path) -> None:
    with CompiledModels("bundle", "key") as folder:
        assert folder is not None
    for kind in (RuntimeError, KeyboardInterrupt):
        compiling = CompiledModels("bundle", "other")
        folder = compiling.__enter__()
        assert folder is not None
        (folder / "x.blob").write_bytes(b"half")
        compiling.__exit__(kind, kind(), None)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_without_a_cache_openvino_compiles_each_time(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache_folder("openvino") is None
    np.testing.assert_allclose(load(bundle, "openvino")(IMAGES)["logits"], reference(3, IMAGES)["logits"], atol=1e-4)

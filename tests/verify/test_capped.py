"""A process of its own answers under a cap as the variant does here, says why it cannot, and does not outlive its parent."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from edgefm.bundle import open_bundle
from edgefm.errors import InputError
from edgefm.runtime.instructions import InstructionSet, caps
from edgefm.verify import capped
from edgefm.verify.capped import Capped
from edgefm.verify.contenders import variants_of

from ..runtime.conftest import MakeBundle, make_bundle  # noqa: F401

pytest.importorskip("openvino")
X86 = pytest.mark.skipif(not caps(), reason="this processor has nothing that a cap holds back")


def oldest() -> InstructionSet:
    return caps()[0]


@X86
def test_a_capped_variant_answers_as_the_uncapped_one_but_for_round_off(make_bundle: MakeBundle) -> None:  # noqa: F811
    with open_bundle(make_bundle()) as bundle:
        own, _ = variants_of(bundle)
        spec = bundle.preprocess
        prepared = np.random.default_rng(0).random((1, spec.channels, spec.size, spec.size), dtype=np.float32)
        wanted = own[0].predict(prepared)["logits"]
        child = Capped(bundle.path, "openvino-fp32", oldest())
        assert child.ready() == ""
        for _ in range(2):  # and again
            assert np.abs(child(prepared)["logits"] - wanted).max() < 1e-4
        child.close()


@X86
def test_what_the_child_cannot_load_is_the_parents_error(make_bundle: MakeBundle) -> None:  # noqa: F811
    path = make_bundle(variants=("onnx-fp32", "openvino-fp32"))
    damaged = path.with_name("damaged.efm")
    damaged.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"capped to .*: its process has ended with 1; .*damaged") as refused:
        Capped(damaged, "openvino-fp32", oldest()).ready()
    assert "BundleError" in str(refused.value)
    assert 'File "' not in str(refused.value)


@X86
def test_what_a_dying_child_says_last_is_in_the_error(make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    words = "import sys; print(*map(str, range(9)), 'x' * 999, 'illegal instruction', sep='\\n', file=sys.stderr); sys.exit(70)"
    monkeypatch.setattr(capped, "CODE", words)
    with pytest.raises(InputError, match=r"its process has ended with 70; 8; x{200}; illegal instruction.$"):
        Capped(make_bundle(), "openvino-fp32", oldest()).ready()


@X86
def test_a_child_that_was_killed_is_an_error_and_none_outlives_its_parent(make_bundle: MakeBundle) -> None:  # noqa: F811
    child = Capped(make_bundle(), "openvino-fp32", oldest())
    child.ready()
    process = child._child
    process.kill()
    with pytest.raises(InputError, match=r"openvino-fp32 capped to \w+: its process has ended by SIGKILL.$"):
        child(np.zeros((1, 1, 8, 8), np.float32))
    other = Capped(make_bundle(), "openvino-fp32", oldest())
    pid = other._child.pid
    del other
    gc.collect()
    assert not Path(f"/proc/{pid}").exists()

"""SHA-256 in C++ against hashlib: lengths about a block's edge, pieces, portable and with the processor's instructions."""

from __future__ import annotations

import os
from hashlib import sha256

import pytest

LENGTHS = [0, 1, 3, 54, 55, 56, 57, 63, 64, 65, 111, 119, 120, 127, 128, 129, 1000, 2**20 - 1, 2**20, 2**20 + 1]


@pytest.fixture(params=["portable", "the best here"])
def portable(request, probe) -> bool:
    if request.param != "portable" and not probe.has_sha_ni:
        pytest.skip("this processor has no SHA instructions")
    return request.param == "portable"


@pytest.mark.parametrize("length", LENGTHS)
def test_every_length_gives_hashlibs_digest(probe, portable, length):
    data = os.urandom(length)
    assert probe.sha256(data, portable=portable) == sha256(data).hexdigest()


@pytest.mark.parametrize("piece", [1, 7, 55, 63, 64, 65, 100, 128, 4096])
def test_pieces_give_the_digest_of_the_whole(probe, portable, piece):
    data = os.urandom(5000)
    for length in (0, 1, 63, 64, 65, 191, 5000):
        assert probe.sha256(data[:length], piece=piece, portable=portable) == sha256(data[:length]).hexdigest()


def test_the_examples_of_the_standard(probe, portable):
    assert probe.sha256(b"abc", portable=portable) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    million = probe.sha256(b"a" * 1_000_000, portable=portable)
    assert million == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"


def test_bytes_need_no_alignment(probe, portable):
    data = os.urandom(1000)
    for start in range(1, 17):
        part = memoryview(data)[start:]
        assert probe.sha256(bytes(part), portable=portable) == sha256(part).hexdigest()

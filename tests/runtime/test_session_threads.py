"""Eight threads on one session, two processes on one cache, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread

import numpy as np
import pytest

from edgefm.errors import InputError
from edgefm.runtime.session import Answer, Session

from .conftest import MakeBundle

ENGINES = ["onnx-fp32", "openvino-fp32"]


def bits(answer: Answer) -> tuple[object, ...]:
    assert answer.embedding is not None
    return answer.label, tuple(answer.probabilities.values()), answer.embedding.tobytes()


@pytest.mark.parametrize("variant", ENGINES)
def test_eight_threads_get_the_bits_that_one_gets(make_bundle: MakeBundle, variant: str) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (random.integers(1, 60), random.integers(1, 60), 3), np.uint8) for _ in range(24)]
    barrier = Barrier(8)
    with Session(make_bundle("multiclass"), variant=variant, threads=2) as session:
        expected = [bits(session.predict(image)) for image in images]

        def hammer(number: int) -> list[bool]:
            barrier.wait()
            order = np.random.default_rng(number).permutation(24)
            alone = [bits(session.predict(images[i])) == expected[i] for i in order]
            together = session.predict([images[i] for i in order])
            return alone + [bits(answer) == expected[i] for i, answer in zip(order, together, strict=True)]

        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(hammer, range(8)))
    assert [sum(result) for result in results] == [48] * 8


@pytest.mark.parametrize("variant", ENGINES)
def test_closing_under_eight_threads_answers_rightly_or_says_closed(make_bundle: MakeBundle, variant: str) -> None:
    image = np.full((20, 20), 77, np.uint8)
    session = Session(make_bundle(), variant=variant, threads=2)
    expected = bits(session.predict(image))
    found: list[object] = []

    def hammer() -> None:
        try:
            while True:
                found.append(bits(session.predict(image)) == expected)
        except InputError as error:
            found.append("is closed" in str(error))
        except BaseException as error:
            found.append(error)

    threads = [Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    session.close()
    for thread in threads:
        thread.join(10)
    assert len(found) > 8
    assert all(each is True for each in found)


def test_many_processes_start_on_one_empty_cache(make_bundle: MakeBundle, cache: Path) -> None:
    bundle = make_bundle(variants=("openvino-fp32", "onnx-fp32"))
    code = (
        "import sys, numpy as np; from edgefm.runtime.session import Session\n"
        "for variant in ('openvino-fp32', None):\n"
        "    with Session(sys.argv[1], variant=variant, threads=1) as session:\n"
        "        print(session.predict(np.full((9, 9), 50, np.uint8)).probabilities['pneumonia'])\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, bundle], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    printed = [[float(line) for line in process.communicate(timeout=120)[0].split()] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    np.testing.assert_allclose(printed, np.full((4, 2), printed[0][0]), atol=1e-5)
    left = sorted(path.relative_to(cache / "edgefm") for path in cache.rglob("*") if path.is_file())
    assert [(path.parts[0], path.suffix) for path in left] == [
        ("checked", ""),
        ("choices", ".json"),
        ("openvino", ".blob"),
        ("openvino", ""),
    ]
    assert not list(cache.rglob("*.partial"))


def test_ctrl_c_ends_a_long_list_promptly(make_bundle: MakeBundle, tmp_path: Path) -> None:
    code = (
        "import signal, sys, numpy as np; from edgefm.runtime.session import Session\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell that starts us in the background has it ignored
        "session = Session(sys.argv[1], variant='onnx-fp32', threads=2)\n"
        "image = np.zeros((3000, 3000), np.uint8)\n"
        "print('ready', flush=True)\n"
        "session.predict([image] * 100000)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, make_bundle()], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    start = time.perf_counter()
    os.kill(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert time.perf_counter() - start < 5
    assert process.returncode == -signal.SIGINT
    assert stderr.rstrip().endswith("KeyboardInterrupt")

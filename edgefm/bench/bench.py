"""Bundles on this machine: every variant that can run here, beside each other and beside rivals, with the machine's facts.

Not the measuring (`compare.py`), not the page (`page.py`), and no rival of its own: those come from above.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from msgspec import to_builtins

from ..bundle import Bundle, open_bundle
from ..errors import BundleError, InputError
from ..runtime.cpu import usable_threads
from ..runtime.decode import decode
from ..runtime.select import candidates
from ..spec.device import Device
from .compare import STARTS, Bar, compare
from .contender import NO_LIMITS, Contender
from .energy import NOT_READABLE, Meter
from .machine import Watch, disturbance, machine
from .noise import noise_floor, widened
from .profile import Imitation, imitate, judge


def bench(
    paths: Sequence[Path],
    *,
    rivals: Sequence[Contender] = (),
    image: Path | None,
    draw: Callable[[int], np.ndarray],
    runs: int,
    starts: int = STARTS,
    threads: int | None,
    allow_refused: bool,
    report: Callable[[str], None],
    bar: Bar,
    device: tuple[str, Device] | None = None,
    details: bool = True,
    throughput: bool = False,
) -> dict[str, Any]:
    """Measure.

    Args:
        paths: bundles; `image`: the file that all answer for.
        draw: without `image`, side in pixels to uint8 `[side, side]`; it is drawn at the size of the first bundle.
        runs: how often each answers, warm. starts: of a new process, each. threads: None for all that this process may use,
            and that the device has.
        device: a profile and its name; it is imitated (see `profile.py`) and its budgets are judged.
        details: stages, energy, the noise between processes, too. throughput: over batch sizes and threads, too.

    Returns:
        `bundles`, `image`, `runs`, `threads`, `contenders` (see `compare`; those that ran have `ratio`, their p50 over that of
        `reference`, from file to answer, and in `answer` and `model` the interval `stated`, see `noise.py`), `left_out`
        (variant to the reason why it cannot run here), `machine`, `load`, `disturbed`, a sentence or None, `noise` (see
        `noise.py`) or None, `energy` (source, idle_w) or "not readable here", `when` (UTC), `device` (None, or name, profile,
        `imitated`, `not_imitated`, `verdicts`, see `profile.judge`, and `met`).

    Raises:
        InputError: a bad option; a bundle that is not good or refused; an image that cannot be read; no contender that runs.
    """
    for name, value in (("runs", runs), ("threads", threads)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}", expected="at least 1")
    if not paths:
        raise InputError("no bundle was named", do="name a .efm file")
    acted = None if device is None else imitate(device[1])
    contenders, bundles, left_out, sides = list[Contender](), list[dict[str, Any]](), dict[str, str](), list[int]()
    owned = list[tuple[str, set[str]]]()
    for label, path in zip(_labels(paths), paths, strict=True):
        with open_bundle(path) as opened:
            if opened.manifest.refused is not None and not allow_refused:
                raise BundleError(
                    f"{path} is marked as refused: {opened.manifest.refused}", do="measure it all the same with --allow-refused"
                )
            sides.append(opened.preprocess.resize_to)
            entered, without = _entrants(opened, label, bf16=acted is None or acted.bf16)
            owned.append((path.name, {each.name for each in entered}))
            contenders += entered
            left_out |= without
            bundles.append({"file": path.name, "id": opened.id, "bytes": path.stat().st_size, "name": opened.manifest.name})
    if not contenders:
        raise InputError(f"nothing can run here: {_list(left_out)}", do="see edgefm doctor")
    cores = None if device is None else device[1].cores
    threads = threads or min(usable_threads(), cores or usable_threads())
    meter = Meter() if details else None
    energy = {"source": meter.source, "idle_w": meter.idle()} if meter and meter.source else NOT_READABLE
    with TemporaryDirectory(prefix="edgefm-bench-") as folder:
        file, shown = _image(image, Path(folder), draw, sides[0])
        watch = Watch()
        work = Path(folder, "work")
        work.mkdir()
        records = compare(
            [*contenders, *rivals],
            image=file,
            runs=runs,
            starts=starts,
            threads=threads,
            work=work,
            report=report,
            bar=bar,
            limits=NO_LIMITS if acted is None else acted.limits,
            details=details,
            throughput=throughput,
            meter=meter if meter and meter.source else None,
        )
        load = watch.seen()
    ran = [record for record in records if "error" not in record]
    if not ran and acted is None:
        raise InputError(f"no contender could run: {_list({each['name']: each['error'] for each in records})}")
    for record in ran:
        record["ratio"] = round(record["answer"]["p50"] / ran[0]["answer"]["p50"], 3)
    noise = noise_floor([each["between_processes"] for each in ran if "between_processes" in each], min(starts, runs))
    for record in ran:
        for word in ("answer", "model"):
            record[word]["stated"] = widened(record[word]["interval"], noise)
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "bundles": bundles,
        "image": shown,
        "runs": runs,
        "threads": threads,
        "reference": ran[0]["name"] if ran else None,
        "contenders": records,
        "left_out": left_out,
        "machine": machine(),
        "load": load,
        "disturbed": disturbance(load, threads),
        "noise": noise,
        "energy": energy,
        "device": None if device is None or acted is None else _judged(device, acted, owned, records),
    }


def _judged(
    device: tuple[str, Device], acted: Imitation, owned: list[tuple[str, set[str]]], records: list[dict[str, Any]]
) -> dict[str, Any]:
    """What a profile came to: how far it was imitated, and its budgets."""
    missing = [*acted.missing]
    missing += [f"instructions: {each['name']} ran uncapped ({each['uncapped']})" for each in records if "uncapped" in each]
    verdicts = judge(device[1], [(file, [each for each in records if each["name"] in names]) for file, names in owned])
    if acted.limits.environment:
        judged = {each["contender"] for each in verdicts}
        missing += [
            f"instructions: {each['name']}, which is held to the budget, ran on this processor's own"
            for each in records
            if each["name"] in judged and each["engine"] not in ("openvino", "native")
        ]
    return {
        "name": device[0],
        "profile": to_builtins(device[1]),
        "imitated": acted.imitated,
        "not_imitated": missing,
        "verdicts": verdicts,
        "met": all(each["met"] for each in verdicts),
    }


def _labels(paths: Sequence[Path]) -> list[str]:
    """What tells the bundles apart: nothing for one, file names, or paths where names repeat."""
    if len({os.path.realpath(path) for path in paths}) < len(paths):
        raise InputError("a bundle is named twice", do="name each once")
    names = [path.name for path in paths]
    if len(paths) == 1:
        return [""]
    return [f"{name} " for name in (names if len(set(names)) == len(names) else map(str, paths))]


def _entrants(bundle: Bundle, label: str, *, bf16: bool) -> tuple[list[Contender], dict[str, str]]:
    """The ways to run this bundle here, and of those that cannot the reason. bf16: whether the device computes in it."""
    everything, left_out = candidates(bundle.manifest)
    if not bf16:
        left_out |= {
            each.name: "the device has no bf16" for each in everything if each.precision == "bf16" and each.name not in left_out
        }
    entries = bundle.manifest.entries
    entered = [
        Contender(
            name=label + each.name,
            load="edgefm.bench.serve:bundle",
            settings={
                "path": str(bundle.path),
                "variant": each.name,
                "stored": each.variant.name,
                "engine": each.variant.engine,
            },
            known={
                "bundle": bundle.path.name,
                "variant": each.name,
                "bytes": sum(entries[file].size for graph in each.variant.graphs.values() for file in graph.files),
            },
            keeps=True,
        )
        for each in everything
        if each.name not in left_out
    ]
    return entered, {label + name: reason for name, reason in left_out.items()}


def _image(given: Path | None, folder: Path, draw: Callable[[int], np.ndarray], side: int) -> tuple[Path, dict[str, Any]]:
    """The file that all answer for, and what is said of it."""
    file = given
    if file is None:
        from PIL import Image

        file = folder / "generated.png"
        Image.fromarray(draw(side)).save(file)
    pixels = decode(file)
    return file, {"kind": file.suffix, "shape": list(pixels.shape), "dtype": str(pixels.dtype), "generated": given is None}


def _list(reasons: dict[str, str]) -> str:
    return "; ".join(f"{name} ({reason})" for name, reason in reasons.items())

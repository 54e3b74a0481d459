"""The verbs that prove what a bundle is worth, as functions: signature and docstring are the command's, too.

Not the work itself: nothing heavy is imported before it is called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from ..progress import Bar
from .settled import say

RUNS = 100


def verify(
    bundle: str | Path,
    data: str | Path,
    *,
    against: Any = None,
    gate: str | Path | None = None,
    parity: Literal["variants", "all"] = "variants",
    seal: bool = False,
    robustness: str | None = None,
    by: tuple[str, ...] = (),
    with_cases: bool = False,
    bench: str | Path | None = None,
    split: Literal["test", "val", "calibrate", "train", "all"] = "test",
    out: str | Path | None = None,
    recipe: str | Path | None = None,
    set: tuple[str, ...] = (),
    seed: int | None = None,
    trust_remote_code: bool = False,
    allow_refused: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Measure on images how right a bundle is, what differs from a reference, and whether it may take its place.

    Every variant that can run here answers for every image. Metrics at the stored threshold, changed decisions and differences
    from the reference come with 95 % intervals by patient. With --against or --gate the gate speaks: the bundle passes where
    what the images leave possible is not worse than the reference by more than a margin; else the exit code is 3. Engines
    that disagree with each other end with exit code 4.

    Args:
        bundle: the .efm file.
        data: a CSV, a folder, a MedMNIST .npz, medmnist:NAME or phantom:NAME.
        against: the reference, any MODEL or another .efm; the bundle's own fp32 variant by default.
        gate: margins in YAML, over the defaults for the task, such as `sensitivity: 0.02`; null leaves one out.
        parity: what is compared: variants, each in every precision that this machine could choose; or all, also as older
            processors would run them, where an engine's instruction set can be capped, on the 80 images whose decisions are
            nearest to being changed.
        seal: append the findings to the bundle's evidence; its id stays the same.
        robustness: also measure errors on corrupted images, which takes minutes, of this modality: xray, ct, mr, ultrasound,
            oct, fundus, dermatoscopy, pathology, blood or tissue.
        by: a column of the CSV whose values make subgroups, such as scanner; may be given many times. By default every column
            that can, if they are at most 5: with 2 to 20 values, at most half as many as patients. A group of fewer than 30
            images or 10 patients is not judged, and values of fewer than 5 patients are not told, nor numbers of as few.
        with_cases: list the images that are decided otherwise than by the reference, worst first, with the names of files and
            patients, which nothing else that is written holds; with OUT in flipped.csv, too. --seal leaves them out.
        bench: a bench.json with times of this bundle, for the report to show beside the accuracy.
        split: the images to measure on; all is for data that the model has never seen.
        out: a folder for report.json, report.md and report.html.
        recipe: settings in YAML, over those the bundle was made with; of `data` and `preprocess`.
        set: one setting, over the recipe's; may be given many times.
        seed: of the intervals; by default the recipe's.
        trust_remote_code: run Python code that comes with the reference.
        allow_refused: measure a bundle that the gate refused.
        force: replace what verify has written into OUT.

    Returns:
        The findings, as in report.json.
    """
    from ..verification import verify as measure

    with Bar() as bar:
        return measure(
            Path(bundle),
            data,
            against=against,
            gate=gate,
            parity=parity,
            seal=seal,
            robustness=robustness,
            by=by,
            with_cases=with_cases,
            bench=bench,
            split=split,
            out=None if out is None else Path(out),
            recipe=recipe,
            sets=set,
            seed=seed,
            trust_remote_code=trust_remote_code,
            allow_refused=allow_refused,
            force=force,
            report=say,
            bar=bar,
        )


def bench(
    bundles: tuple[str, ...],
    *,
    against: str | None = None,
    out: str | Path | None = None,
    image: str | Path | None = None,
    runs: int = RUNS,
    threads: int | None = None,
    profile: str | None = None,
    throughput: bool = False,
    compare: bool = False,
    trust_remote_code: bool = False,
    allow_refused: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Measure what bundles cost on this machine: time, memory, bytes, energy.

    Every variant that can run here answers for one image, in turn with the others, each in a process of its own: warm and from
    a new process, from the file to the answer and the model alone. A contender that fails is named, the others are measured,
    and the exit code is 2. With --profile a device is imitated as far as this machine can, and the exit code is 5 if its budget
    is not met: by the fastest variant of each bundle, for p95 by the end of its interval. Fewer than 60 runs have no such
    interval: a p95 within the budget is then not called met, and the exit code is 5, too.

    Args:
        bundles: the .efm files; with --compare two bench.json or history.jsonl (of which the last line counts), old and new.
        against: a rival, torch:MODEL for any MODEL that torch runs; in fp32, and in bf16 where the processor has it.
        out: a folder for bench.json and bench.md, and for history.jsonl, to which every run adds a line.
        image: the image that all answer for; a generated one by default.
        runs: how often each answers, warm.
        threads: processor threads to use, all that this process may use by default.
        profile: a device, office-avx2, desktop-vnni, board-arm, container-512mb or FILE.yaml.
        throughput: images per second over batch sizes and threads, too.
        compare: say what has changed between two earlier findings by more than noise, and measure nothing.
        trust_remote_code: run Python code that comes with the model.
        allow_refused: measure a bundle that the gate refused.
        force: replace bench.json and bench.md in OUT.

    Returns:
        The findings, as in bench.json: `contenders`, `bundles`, `machine`, and `disturbed`, what to say of a busy machine; with
        `compare` see `bench.change`.
    """
    from ..bench.bench import bench as measure
    from ..bench.page import check_folder, write_page
    from ..data.radiograph import radiograph
    from ..torch_contender import torch_contenders

    paths = [Path(bundles)] if isinstance(bundles, (str, Path)) else [Path(each) for each in bundles]
    if compare:
        given = {"out": out, "against": against, "image": image, "profile": profile, "threads": threads}
        given |= {"runs": None if runs == RUNS else runs, "throughput": throughput or None, "force": force or None}
        given |= {"trust-remote-code": trust_remote_code or None, "allow-refused": allow_refused or None}
        return _compared(paths, given)
    folder = None if out is None else Path(out)
    device = None
    if profile is not None:
        from ..settings import load_device

        device = load_device(str(profile))
    if folder is not None:
        check_folder(folder, force)
    with Bar() as bar:
        found = measure(
            paths,
            rivals=[] if against is None else torch_contenders(against, trust_remote_code=trust_remote_code),
            image=None if image is None else Path(image),
            draw=lambda side: radiograph(0, 0, side, side),
            runs=runs,
            threads=threads,
            allow_refused=allow_refused,
            report=say,
            bar=bar,
            device=device,
            throughput=throughput,
        )
    if folder is not None:
        write_page(folder, found)
    return found


def _compared(paths: list[Path], others: dict[str, Any]) -> dict[str, Any]:
    """What has changed between two findings."""
    from ..bench.change import change
    from ..bench.history import read
    from ..errors import InputError

    given = [f"--{name}" for name, value in others.items() if value is not None]
    if given:
        raise InputError(f"--compare measures nothing, but {', '.join(given)} was given", do="leave it out")
    if len(paths) != 2:
        raise InputError(f"--compare with {len(paths)} files", expected="two bench.json or history.jsonl, old and new")
    return change(*map(read, paths))

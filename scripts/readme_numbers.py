"""Write the measured numbers of the README from `benchmarks/results/*.json`, between its two markers.

Not a benchmark: every number names the script that made it. `--check` only says whether the README is up to date.

A row is a sentence and a function of a result; a result that is not there leaves its rows out, or, where it takes a GPU, says
that it is not yet measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

from gpu_numbers import NOT_YET, attention, lora_layers, maps, one_row, qlora

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
START, END = "<!-- numbers: scripts/readme_numbers.py -->", "<!-- end of numbers -->"

Row = tuple[str, str, Callable[[dict[str, Any]], str]]


def seconds(contender: str, rival: str) -> Callable[[dict[str, Any]], str]:
    def text(found: dict[str, Any]) -> str:
        ours, plain = (found["contenders"][name]["seconds_to_answer"]["p50"] for name in (contender, rival))
        return f"{ours:.2f} s ({rival}: {plain:.2f} s)"

    return text


def peak(contender: str, rival: str) -> Callable[[dict[str, Any]], str]:
    def text(found: dict[str, Any]) -> str:
        ours, plain = (found["contenders"][name]["peak_mib"] for name in (contender, rival))
        return f"{ours:.0f} MiB ({rival}: {plain:.0f} MiB)"

    return text


def torch_start(found: dict[str, Any]) -> str:
    torch = found["contenders"]["torch"]
    return f"{torch['seconds_to_answer']['p50']:.1f} s, {torch['peak_mib']:.0f} MiB"


def overhead(found: dict[str, Any]) -> str:
    ratios = [size["predict_over_plain_and_preprocessing"] for sizes in found["variants"].values() for size in sizes.values()]
    return f"{min(ratios):.2f} to {max(ratios):.2f} times, over engines and image sizes"


def preparation(found: dict[str, Any]) -> str:
    p50 = {name: timing["p50"] for name, timing in found["milliseconds"].items()}
    return f"{p50['edgefm native, 1 thread']:.1f} ms on one thread (numpy + Pillow: {p50['numpy + Pillow']:.1f} ms)"


def opening(found: dict[str, Any]) -> str:
    return f"{found['milliseconds']['open_bundle, all cores']['p50']:.0f} ms for {found['megabytes']:.0f} MB"


def installed(found: dict[str, Any]) -> str:
    return ", ".join(f"`{name}` {size:.0f} MB" for name, size in found["megabytes"].items())


def start_up(found: dict[str, Any]) -> str:
    p50 = {name: timing["p50"] for name, timing in found["milliseconds"].items()}
    return f"{p50['edgefm --help']:.0f} ms, {p50['import edgefm']:.0f} ms (an empty Python: {p50['python -c pass']:.0f} ms)"


def learned(labels: str) -> Callable[[dict[str, Any]], str]:
    """Mean AUC with a teacher and without, and the interval of the difference. `labels`: what both arms' names end in."""

    def text(found: dict[str, Any]) -> str:
        arms = [f"distilled{labels}", f"without teacher{labels}"]
        with_it, without = (mean([run["auc"] for run in found["arms"][arm].values()]) for arm in arms)
        difference = found["auc_differences"][" - ".join(arms)]
        more = f"{difference['value']:+.3f}, 95 % interval {difference['low']:+.3f} to {difference['high']:+.3f}"
        return f"{with_it:.3f} with the teacher, {without:.3f} without ({more}; {seeds(found['arms'][arms[0]])})"

    return text


def int8(found: dict[str, Any]) -> str:
    said = []
    for name, engine in (("openvino-int8", "OpenVINO"), ("onnx-int8", "ONNX Runtime")):
        rows = [seed["int8"][name] for seed in found["seeds"].values() if name in seed["int8"]]
        if rows:
            auc, sensitivity = (max(row["drops"][name]["value"] for row in rows) for name in ("auc", "sensitivity"))
            equal = min(row["equal_decisions"] for row in rows)
            share = max(row["size_over_fp32"] for row in rows)
            losses = f"AUC {-auc:+.4f}, sensitivity {-sensitivity:+.4f}"
            said.append(f"{engine}: {losses}, {equal:.2%} equal decisions, {share:.3f} of the bytes")
        if len(rows) < len(found["seeds"]):
            said.append(f"{engine}: the gate left out {len(found['seeds']) - len(rows)} of {seeds(found['seeds'])}")
    return "; ".join(said)


def seeds(runs: dict[str, Any]) -> str:
    return f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"


def faster(found: dict[str, Any]) -> str:
    times = found["times_faster_or_smaller"]
    said = []
    for how, what in (("warm, in a row", "answers in a row"), ("warm", "one answer after other work")):
        torch, openvino = (times[f"{how}, teacher in {library}"] for library in ("torch", "OpenVINO"))
        said.append(f"{what}: {torch:.1f} and {openvino:.1f} times faster")
    return "; ".join(said)


def features(found: dict[str, Any]) -> str:
    rows = found["balanced_accuracy"]
    names = ("student, probe", "with labels, probe", "teacher, probe", "supervised, probe")
    student, both, teacher, rival = (rows[name]["value"] for name in names)
    return (
        f"{student:.2f} without a label, {both:.2f} beside labels "
        f"(the teacher's features {teacher:.2f}, the same student trained on labels alone {rival:.2f})"
    )


def gate(found: dict[str, Any]) -> str:
    said = []
    for patients, null in found["null"].items():
        auc, sensitivity, power = null["auc"], null["sensitivity"], found["equal"][patients]["all"]
        worse = f"{auc['share']:.1%} by AUC, {sensitivity['share']:.1%} by sensitivity"
        said.append(f"{int(patients):,} patients: {worse} (of equally good ones all checks pass {power['share']:.0%})")
    return "; ".join(said)


def encoders(found: dict[str, Any]) -> str:
    """Times as fast as the best of OpenVINO, by model and tokens, with as many threads as were measured."""
    said: dict[str, list[str]] = {}
    for key, row in found["rows"].items():
        name, _, threads = key.split(", ")
        said.setdefault(threads, []).append(
            f"{name.replace('/', ' at ')} {row['times_native_int8'][row['best_of_openvino']]:.1f}"
        )
    return "; ".join(f"{threads}: {', '.join(each)}" for threads, each in said.items())


def of_the_ceiling(found: dict[str, Any]) -> str:
    rows = {key: row for key, row in found["rows"].items() if key.startswith("ViT-S/197, batch 1") and "share" in row}
    return ", ".join(f"{key.split(', ')[2]}: {row['share']:.0%}" for key, row in rows.items())


def held_to_avx2(found: dict[str, Any]) -> str:
    said = []
    for key, row in found["rows"].items():
        times = row["times_native_int8"]
        rivals = f"{times['OpenVINO int8']:.2f} times, {times['OpenVINO f32']:.2f} times OpenVINO f32"
        said.append(f"{key.split(', ')[2]}: {rivals}, {times['native fp32']:.2f} times its own fp32")
    return "; ".join(said)


def c_program(found: dict[str, Any]) -> str:
    ours = found["processes"]["C"]
    return f"{ours['p50_ms']:.0f} ms, {ours['peak_mib']:.0f} MiB (library: {found['library_mib']:.2f} MiB)"


def fresh_run(found: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.removeprefix('edgefm run, ')} {each['p50_ms'] / 1e3:.2f} s"
        for name, each in found["processes"].items()
        if name != "C"
    )


def same_decisions(found: dict[str, Any]) -> str:
    torch, native = (found["rows"][name] for name in ("torch", "native-int8"))
    return (
        f"AUC {native['auc'] - torch['auc']:+.4f}, sensitivity {native['sensitivity'] - torch['sensitivity']:+.4f}, "
        f"{found['equal_decisions']['native-int8']:.2%} equal decisions; held to older instruction sets probabilities move by "
        f"{max(of['largest'] for of in found['older_instruction_sets']['native-int8'].values()):.1g}"
    )


def unmerged(found: dict[str, Any]) -> str:
    alone = f"{found['adapter_takes']:.2f} times the time of the layer alone"
    return f"{alone}; PEFT in torch fp32 {found['peft_takes']:.1f} times ours"


def alarms(found: dict[str, Any]) -> str:
    every = found["false_alarms"]["refused"]["all"]
    return f"{every['share']:.1%} of {found['false_alarms']['draws']} draws ({every['low']:.1%} to {every['high']:.1%})"


def verifying(found: dict[str, Any]) -> str:
    said = []
    for name, each in found["checks"].items():
        most = max((key for key in each if key.isdecimal()), key=int)
        said.append(f"{name}: {each[most]['seconds']:.0f} s, {each[most]['peak_mib']} MiB")
    return "; ".join(said)


def adapters(found: dict[str, Any]) -> str:
    apart = found["auc_difference"]["EdgeFM - PEFT"]
    return (
        f"{found['times_as_fast']['median']:.2f} times as fast; AUC {apart['value']:+.4f} "
        f"(95 % interval {apart['low']:+.4f} to {apart['high']:+.4f}; {len(found['runs']['PEFT'])} seeds)"
    )


ROWS: tuple[Row, ...] = (
    ("Student `mobilenetv3_small_100`, 1.5 M weights, AUC on 1,211 test X-rays", "main_path", learned("")),
    ("The same with the labels of 10 % of the patients", "main_path", learned(", 10 % of the labels")),
    ("Its int8 against the best other precision of the engine", "main_path_int8", int8),
    ("File to answer, against its teacher in torch and in OpenVINO, each at its best", "main_path_speed", faster),
    ("The same on a processor without bf16", "main_path_speed_without_bf16", faster),
    ("Features of an int8 TFLite, skin lesions: balanced accuracy of a linear probe", "features", features),
    ("Simulated models worse by the margin that `verify`'s gate lets pass (nominally 2.5 %)", "gate_errors", gate),
    ("An equally good int8 that the gate refuses, over draws of the test patients", "evidence", alarms),
    ("`verify` of 1,200 images with a ViT-Ti, all checks but robustness", "verify_time", verifying),
    ("Vision transformers in int8 on EdgeFM's engine, times as fast as OpenVINO at its best", "native_vit", encoders),
    ("The same in batches of eight", "native_vit_batch8", encoders),
    ("Share of the processor's int8 ceiling, ViT-S at 197 tokens", "native_vit", of_the_ceiling),
    ("The same engine held to AVX2, against OpenVINO int8 held to AVX2, ViT-S", "native_vit_avx2", held_to_avx2),
    ("An int8 layer with an un-merged adapter of rank 16, one thread", "native_kernels", unmerged),
    ("A ViT that learned chest X-rays, native int8 against torch, 1,211 images", "native_accuracy", same_decisions),
    ("A C program, from its start to the first answer, ViT-S int8, every byte checked", "native_start", c_program),
    ("`edgefm run` of the same, new process, PNG to answer", "native_start", fresh_run),
    (
        "Attention with importance, against the best of eager, compiled and flex_attention",
        "gpu_attention",
        attention("importance"),
    ),
    ("Attention with the gradient of its bias, against the same", "gpu_attention", attention("bias step")),
    ("Distilling attention maps, forward and backward, against compiled torch", "gpu_attention_kl", maps),
    ("LoRA on an NF4 layer, one row, CUDA C++, against bitsandbytes and PEFT", "gpu_cuda", one_row),
    ("LoRA on a bf16 layer, forward and backward", "gpu_lora", lora_layers("bf16")),
    ("The same on an NF4 layer of bitsandbytes", "gpu_lora", lora_layers("nf4")),
    ("`adapt --method qlora` of a ViT-g, against PEFT, bitsandbytes and accelerate", "gpu_adapt", qlora),
    ("`adapt --method lora` of a ViT-S on chest X-rays, on the CPU, against PEFT in a plain loop", "lora_cxr", adapters),
    ("New process, one PNG to the answer, DenseNet-121, ONNX Runtime", "first_answer", seconds("edgefm onnx", "plain onnx")),
    ("The same on OpenVINO, from the second time on", "first_answer", seconds("edgefm openvino again", "plain openvino again")),
    ("The same in torch", "first_answer", torch_start),
    ("Peak memory of that process, ONNX Runtime", "first_answer", peak("edgefm onnx", "plain onnx")),
    ("`predict`, compared with the plain engine plus preprocessing", "predict_overhead", overhead),
    ("A 2544 x 3056 16-bit radiograph to the model's input", "preprocess", preparation),
    ("Opening a bundle, every byte checked", "open_bundle", opening),
    ("Installed on a device", "start_up", installed),
    ("`edgefm --help`, `import edgefm`", "start_up", start_up),
)


def table() -> str:
    """The Markdown between the markers."""
    lines, machines = ["| what | measured | script |", "|---|---|---|"], set()
    for what, name, text in ROWS:
        file = ROOT / "benchmarks" / "results" / f"{name}.json"
        if not file.exists():
            if name.startswith("gpu_"):
                lines.append(f"| {what} | {NOT_YET} | `benchmarks/{name}.py` |")
            continue
        found = json.loads(file.read_text())
        if machine := found.get("machine"):  # what a GPU did names the card in its row
            count = machine["usable_threads"]
            machines.add(f"{machine['cpu']}, {count} thread{'s' if count > 1 else ''}")
        lines.append(f"| {what} | {text(found)} | `{found['script']}` |")
    return "\n".join(
        [*lines, "", f"Medians on: {'; '.join(sorted(machines)) or 'no machine yet'}. Compare ratios, not milliseconds."]
    )


def main() -> int:
    text = README.read_text()
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        print(f"README.md needs the lines {START} and {END}", file=sys.stderr)
        return 1
    wanted = f"{before}{START}\n{table()}\n{END}{after}"
    if "--check" in sys.argv:
        if wanted != text:
            print("the numbers in README.md are old; run: python scripts/readme_numbers.py", file=sys.stderr)
        return int(wanted != text)
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())

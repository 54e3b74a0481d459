"""The command line: one click command per function of `edgefm/api/`, made from its signature and docstring.

Not what the verbs do (`api/`), not how results look (`views.py`), not exit codes (`__main__.py`).

A parameter without a default becomes an argument, or an option that must be given if it has a short name; every other one
becomes an option. Its help is its line under "Args:". So a verb is described once.
"""

from __future__ import annotations

import difflib
import inspect
import logging
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click

from . import VERBS, __version__

SHORT = {"teacher": "-t", "student": "-s", "data": "-d", "out": "-o"}
SECTIONS = {
    "Make a small model": ("quickstart", "adapt", "distill", "quantize", "export"),
    "Prove it": ("verify", "bench"),
    "Use it": ("run", "inspect", "slim"),
    "This machine": ("doctor",),
}
METAVARS = {
    "against": "MODEL",
    "cache": "DIR",
    "explain": "DIR",
    "profile": "NAME|FILE.yaml",
    "recipe": "FILE.yaml",
    "robustness": "MODALITY",
    "set": "A.B=C",
    "out": "PATH",
    "keep": "VARIANT",
    "engines": "ENGINE",
    "licence": "SPDX",
}
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 120}
TYPES = {"Any": Any, "Literal": Literal, "Path": Path}  # the names that annotations of a verb's parameters use
LEVELS = ("error", "warning", "info", "debug")
INTRODUCTION = """Turn a large medical foundation model into one small file that a hospital PC can run.

adapt makes a teacher of your task, distill teaches a small student, quantize makes it int8 and refuses if decisions change,
run answers from one .efm file."""
EXAMPLES = """
  edgefm quickstart                                   the whole road in minutes
  edgefm adapt MODEL -d data.csv -o runs/teacher      a teacher of your task
  edgefm distill -t runs/teacher -s mobile -d data.csv -o runs/student
  edgefm quantize runs/student -d data.csv -o model.efm
  edgefm run model.efm scans/ --json

Each verb explains itself: edgefm distill --help"""


class EdgeFM(click.Group):
    """The group; a verb's command is built only when it is needed."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return verb_command(name) if name in VERBS else None

    def resolve_command(self, context: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if not args[0].startswith("-") and args[0] not in VERBS:
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the verbs are {', '.join(VERBS)}"
            raise click.UsageError(f"there is no verb {args[0]!r}; {hint}", context)
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        from . import api

        for section, verbs in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(verb, first_line(getattr(api, verb))) for verb in verbs])

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\nExamples:{EXAMPLES}\n")


class Verb(click.Command):
    """A verb's command; its epilog is text with its own line breaks."""

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        if self.epilog:
            formatter.write(f"\n{self.epilog}\n")


def root() -> click.Group:
    """The command `edgefm`."""
    group = EdgeFM("edgefm", help=INTRODUCTION, no_args_is_help=False, invoke_without_command=True)
    group.context_settings = CONTEXT
    click.version_option(__version__, prog_name="edgefm")(group)

    @click.pass_context
    def show_help(context: click.Context) -> None:
        if context.invoked_subcommand is None:
            click.echo(context.get_help())

    group.callback = show_help
    return group


def verb_command(name: str) -> click.Command:
    """The command of one verb, from `api.NAME`."""
    from . import api

    function = getattr(api, name)
    paragraphs, described = parse_docstring(function)
    parameters = [
        _parameter(each.replace(annotation=eval(each.annotation, dict(TYPES))), described[each.name])
        for each in inspect.signature(function).parameters.values()
    ]
    parameters += [
        click.Option(["--json", "as_json"], is_flag=True, help="Print JSON on stdout, and everything else on stderr."),
        click.Option(["--log-level"], type=click.Choice(LEVELS), default="info", help="How much to tell on stderr."),
    ]
    epilog = students() if name in ("distill", "quickstart") else None
    text = "\n\n".join(paragraphs)
    return Verb(name, params=parameters, help=text, epilog=epilog, callback=_callback(name, function), context_settings=CONTEXT)


def _callback(name: str, function: Callable[..., Any]) -> Callable[..., int]:
    def callback(as_json: bool, log_level: str, **options: Any) -> int:
        from .views import VIEWS, show_plan

        dry = options.get("dry_run", False)
        told = _log_to_stderr(log_level)
        for option, value in options.items():
            if isinstance(value, tuple) and option not in ("set", "images", "bundles", "teacher"):
                options[option] = tuple(part.strip() for each in value for part in each.split(",") if part.strip())
        result = function(**options)
        return show_plan(told.lines, as_json) if dry else VIEWS[name](result, as_json)

    return callback


def _log_to_stderr(level: str) -> _Lines:
    """Our own messages as plain lines on stderr; libraries speak only from `--log-level debug` on."""
    import warnings

    ours, lines = logging.getLogger("edgefm"), _Lines()
    ours.handlers, ours.propagate = [lines], False
    ours.setLevel(level.upper())
    if level == "debug":
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    else:
        logging.getLogger().addHandler(logging.NullHandler())
        # for loggers that do not ask the root; with None in its place Python itself prints a complaint for each of them
        logging.lastResort = logging.NullHandler()
        warnings.simplefilter("ignore")
    return lines


class _Lines(logging.Handler):
    """Messages as lines on what stderr is at the time (a progress bar puts itself there), and kept: a dry run is its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        print(record.getMessage(), file=sys.stderr)


def _parameter(parameter: inspect.Parameter, text: str) -> click.Parameter:
    name, kind, text = parameter.name, parameter.annotation, text[0].upper() + text[1:]
    required = parameter.default is parameter.empty
    choices = [each for each in (kind, *get_args(kind)) if each is not type(None) and each is not None]
    many = kind == tuple[str, ...]
    if required and name not in SHORT and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
        metavar = name.upper() + ("..." if many else "")
        return click.Argument([name], metavar=metavar, nargs=-1 if many else 1, required=True)
    flag = "--" + name.replace("_", "-")
    names = [flag, name] + ([SHORT[name]] if name in SHORT else [])
    if kind is bool:
        return click.Option(names, is_flag=True, default=parameter.default, help=text)
    default = None if required or many else parameter.default
    options: dict[str, Any] = {"help": text, "required": required}
    if not required:
        options |= {"default": default, "show_default": default is not None}
    if many:
        options.pop("default", None)
        return click.Option(names, multiple=True, metavar=METAVARS.get(name, name.upper()), **options)
    literal = next((each for each in choices if get_origin(each) is Literal), None)
    if literal is not None:
        return click.Option(names, type=click.Choice([str(value) for value in get_args(literal)]), **options)
    if int in choices or float in choices:
        return click.Option(names, type=int if int in choices else float, **options)
    if get_origin(kind) in (Union, types.UnionType) or kind in (str, Path) or kind is Any:
        return click.Option(names, type=str, metavar=METAVARS.get(name, name.upper()), **options)
    raise TypeError(f"no option can be made of {name}: {kind}")


def first_line(function: Callable[..., Any]) -> str:
    """The first line of a docstring without its full stop."""
    return (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")


def parse_docstring(function: Callable[..., Any]) -> tuple[list[str], dict[str, str]]:
    """The paragraphs before "Args:", "Returns:" or "Raises:", and the text of each argument in one line."""
    doc = inspect.getdoc(function) or ""
    text = re.split(r"\n(?:Args|Returns|Raises):\n", doc)[0]
    described: dict[str, str] = {}
    block = re.split(r"\n(?=\S)", doc.partition("\nArgs:\n")[2])[0]
    for entry in re.split(r"\n(?= {4}\w)", "\n" + block):
        names, _, words = " ".join(entry.split()).partition(": ")
        described.update(dict.fromkeys(re.findall(r"\w+", names), words))
    return [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")], described


def students() -> str:
    """The presets of `--student` with what they weigh and cost."""
    from .models.students import PRESETS

    lines = [f"  {'student':8} {'timm name':24} {'weights':>8} {'cost':>10}"]
    for name, preset in PRESETS.items():
        cost = f"{preset.macs:.2f} GMAC"
        lines.append(f"  {name:8} {preset.timm_name:24} {preset.weights:>6.1f} M {cost:>10}")
        lines.append(f"  {'':8} {preset.sentence}")
    return "Students (any other timm name works too):\n" + "\n".join(lines)

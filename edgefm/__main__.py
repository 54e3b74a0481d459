"""The command's edge: every way it can end, as an exit code and one line.

Not the commands themselves (`cli.py`).
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

from .errors import EdgeFMError, MissingExtra

INTERRUPTED = 130
TERMINATED = 143
EXTRAS = {  # the modules that an extra brings; what `run` needs is asked for by the runtime itself
    "compress": {"accelerate", "bitsandbytes", "nncf", "onnx", "onnxruntime", "onnxscript", "openvino", "peft", "safetensors"}
    | {"timm", "torch", "transformers"},
    "verify": {"matplotlib", "scipy", "sklearn"},
}
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EROFS)


class _Stopped(KeyboardInterrupt):
    """SIGTERM, so that what Ctrl-C cleans up is cleaned up too."""


def main() -> int:
    """Run the command in `sys.argv` and return its exit code. Of the processes that torchrun starts, only the first answers."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and os.environ.get("RANK", "0") != "0":
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - until this process ends
    stop = {"code": 0}

    def stopped(number: int, _frame: object) -> None:
        stop["code"] = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
        raise _Stopped if number == signal.SIGTERM else KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stopped)
    try:
        code = _run(sys.argv[1:])
        sys.stdout.flush()
        return code
    except BaseException as error:
        return _ended(error, stop["code"])


def _run(arguments: list[str]) -> int:
    from .cli import root

    command = root()
    # Not command.main(): it would take Ctrl-C and a closed pipe away from us.
    with command.make_context("edgefm", arguments) as context:
        result = command.invoke(context)
    return result if isinstance(result, int) else 0


def _ended(error: BaseException, stop: int) -> int:
    """The exit code of an exception, after one line on stderr."""
    import click

    if stop or isinstance(error, KeyboardInterrupt):
        return _say(f"stopped{_resume_hint()}", stop or INTERRUPTED)
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        _forget_stdout()  # the reader went away; nobody is left to tell
        return 0
    if isinstance(error, ModuleNotFoundError):
        error = _missing_extra(error) or error
    if isinstance(error, EdgeFMError):
        return _say(str(error), error.exit_code)
    if isinstance(error, click.ClickException):
        verb = getattr(getattr(error, "ctx", None), "command_path", "edgefm")
        line = " ".join(error.format_message().split())
        return _say(f"{line} (see {verb} --help)", 2)
    if isinstance(error, MemoryError):
        return _say("there is not enough memory. Close other programs, or take a smaller batch: --set distill.batch=8.", 2)
    if isinstance(error, OSError) and (error.filename is not None or error.errno in FULL):
        if error.filename is None:
            _forget_stdout()
        return _say(
            f"{error.filename or 'the output'}: {error.strerror}. Check the path, its permissions and the free space.", 2
        )
    return _say(f"a bug of ours: {_one_line(error)}. The traceback is in {_keep(error)}; please send it to us.", 1)


def _forget_stdout() -> None:
    """Throw away what stdout still holds, so that the interpreter does not try to write it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(line: str, code: int) -> int:
    """One line on stderr; with `--json` also one object on stdout, so that a program need not read stderr."""
    print(f"edgefm: {line}", file=sys.stderr)
    if "--json" in sys.argv:
        import json

        print(json.dumps({"error": line, "exit_code": code}, ensure_ascii=False), flush=True)
    return code


def _verb() -> str | None:
    from . import VERBS

    return next((argument for argument in sys.argv[1:] if argument in VERBS), None)


def _missing_extra(error: ModuleNotFoundError) -> MissingExtra | None:
    """The refusal of a verb that this machine was not installed for; None if something else is missing."""
    import importlib.util

    library = (error.name or "").partition(".")[0]
    extra = next((extra for extra, modules in EXTRAS.items() if library in modules), None)
    if extra is None or importlib.util.find_spec(library) is not None:
        return None
    return MissingExtra(library, extra, _verb() or "this")


def _resume_hint() -> str:
    """The way on after Ctrl-C: for a verb with `--resume` that, for one that writes that nothing was, else nothing."""
    import inspect

    from . import api

    verb = _verb()
    options = inspect.signature(getattr(api, verb)).parameters if verb else {}
    if "resume" in options:
        return "; the same command with --resume goes on"
    return "; nothing was written under the name you gave" if "out" in options else ""


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def _keep(error: BaseException) -> str:
    """Write the traceback with the versions at work to a file; its path."""
    import platform
    import tempfile
    import traceback

    from . import __version__

    head: list[Any] = [f"edgefm {__version__}, Python {platform.python_version()}, {platform.platform()}", " ".join(sys.argv)]
    try:
        with tempfile.NamedTemporaryFile("w", prefix="edgefm-bug-", suffix=".txt", delete=False) as file:
            file.write("\n".join(head) + "\n\n" + "".join(traceback.format_exception(error)))
        return file.name
    except OSError:
        traceback.print_exception(error)
        return "the lines above"


if __name__ == "__main__":
    sys.exit(main())

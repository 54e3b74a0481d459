"""The bar: never where nobody looks, gone at the end, and no need of the workstation's libraries."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from edgefm.progress import Bar


def test_where_stderr_is_no_terminal_nothing_is_drawn_or_imported(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar() as bar:
        bar(0.5, 10.0)
        bar(1.0, float("nan"))
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_bar_that_was_never_called_ends_quietly_also_after_an_error() -> None:
    with pytest.raises(ValueError, match="stop"), Bar():
        raise ValueError("stop")


def test_on_a_terminal_it_shows_the_share_and_the_time_left_and_goes_without_torch() -> None:
    code = (
        "import sys\n"
        "from edgefm.progress import Bar\n"
        "with Bar() as bar:\n"
        "    bar(0.25, 600.0)\n"
        "    bar(0.5, float('nan'))\n"
        "    bar(0.5, 90.0 * 60)\n"
        "    print('a line of its own', file=sys.stderr)\n"
        "print(sorted({'torch', 'timm', 'accelerate'} & set(sys.modules)))\n"
    )
    parent, child = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=child, env=os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    ) as process:
        os.close(child)
        shown = b""
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not piece:
                break
            shown += piece
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(parent)
    assert process.returncode == 0
    assert out == b"[]\n"
    text = shown.decode()
    assert "50%" in text
    assert "1.5 h left" in text
    assert "a line of its own" in text
    assert "nan" not in text

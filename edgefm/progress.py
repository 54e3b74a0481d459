"""The progress bar of long work: on stderr, only where that is a terminal.

Not the measuring of progress: the rooms call it with the share that is done and the seconds left.
"""

from __future__ import annotations

import sys
from math import isfinite
from types import TracebackType
from typing import Any


class Bar:
    """Call it with (share 0 to 1, seconds left or nan). A context manager: the bar is gone at its end.

    Lines printed to stderr meanwhile go above the bar.
    """

    def __init__(self) -> None:
        self._progress: Any = None

    def __call__(self, share: float, seconds_left: float) -> None:
        if self._progress is None:
            if not sys.stderr.isatty():
                return
            self._start()
        from .train.progress import duration

        left = f"{duration(seconds_left)} left" if isfinite(seconds_left) else ""
        self._progress.update(self._progress.task_ids[0], completed=share, left=left)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (BarColumn(bar_width=40), TaskProgressColumn(), TextColumn("{task.fields[left]}"))
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        self._progress.add_task("", total=1.0, left="")
        self._progress.start()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

"""Progress of a scoring on stderr."""

import multiprocessing
import sys
import time
from typing import Any

_QUIET = 10.0  # seconds between two lines about one metric, where no terminal is attached


class ScoringProgress:
    """Shows the metric that is being computed: a bar on a terminal, otherwise plain lines."""

    def __init__(self, total: int, label: str):
        """Shows nothing yet.

        Args:
          total: scores to compute.
          label: of the run, for the lines; several runs may be scored side by side.
        """
        self._stream, self._total, self._label = sys.stderr, total, label
        self._done, self._metric, self._last = 0, "", 0.0
        self._bar: Any = None
        if self._stream.isatty() and multiprocessing.parent_process() is None:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit="score", file=self._stream, dynamic_ncols=True, leave=False)

    def __enter__(self) -> "ScoringProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def print_line(self, text: str) -> None:
        """Prints one line, above the bar."""
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.write(text, file=self._stream)

    def start(self, metric: str) -> None:
        """Shows the metric that is computed next."""
        self._metric = metric
        self._show(metric)

    def within(self, done: int, total: int | None = None) -> None:
        """Shows how many parts of the metric are done, such as factors; called by the metric."""
        if self._bar is not None or time.monotonic() - self._last >= _QUIET:
            self._show(f"{self._metric}: {done}" + (f" of {total}" if total is not None else ""))

    def finish(self) -> None:
        """Counts a score that is done."""
        self._done += 1
        if self._bar is not None:
            self._bar.update()

    def _show(self, text: str) -> None:
        if self._bar is None:
            self.print_line(f"{self._label}: {self._done + 1}/{self._total}  {text}")
        else:
            self._bar.set_postfix_str(text)
        self._last = time.monotonic()

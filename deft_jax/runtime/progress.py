"""Progress on the terminal: warnings, and a bar or plain lines while steps are done."""

import sys
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

from deft_jax.runtime.paths import shown


def warn(message: str) -> None:
    """Prints a warning in one line on stderr."""
    print(f"warning: {' '.join(shown(message).split())}", file=sys.stderr, flush=True)


class Progress:
    """Steps done: a bar with the remaining time on a terminal, plain lines elsewhere."""

    def __init__(self, total_steps: int, step: int, stream: TextIO | None = None, unit: str = "step"):
        """
        Args:
          total_steps: of the whole run.
          step: steps done so far.
          stream: where to print. Default: None, stderr.
          unit: what is counted.
        """
        self._stream = stream or sys.stderr
        self._total, self._unit = total_steps, unit
        self._bar = tqdm(
            total=total_steps,
            initial=step,
            unit=unit,
            file=self._stream,
            dynamic_ncols=True,
            disable=None,  # where there is no terminal
        )

    def write(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._bar.disable:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.write(text, file=self._stream)

    def update(self, step: int, texts: Iterable[str]) -> None:
        """Shows that `step` steps are done, with `texts` beside the number."""
        text = "  ".join(texts)
        if self._bar.disable:
            print(f"{self._unit} {step:>{len(str(self._total))}}/{self._total}  {text}", file=self._stream, flush=True)
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()

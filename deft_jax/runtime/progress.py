"""Progress on the terminal: warnings, and a bar or plain lines while steps are done."""

import sys

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None
from collections.abc import Iterable


def warn(told: str) -> None:
    """One line on stderr."""
    print(f"warning: {' '.join(told.split())}", file=sys.stderr, flush=True)


class Progress:
    """Steps on the terminal: a bar with the time left where one is attached, plain lines where not."""

    def __init__(self, total_steps: int, step: int, stream=None):
        self._stream = stream or sys.stderr
        self._total = total_steps
        self._bar = None
        if self._stream.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total_steps, initial=step, unit="step", file=self._stream, dynamic_ncols=True)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is None:
            print(text, file=self._stream, flush=True)
        else:
            self._bar.write(text, file=self._stream)

    def update(self, step: int, texts: Iterable[str]) -> None:
        """Moves on to `step`; `texts` say how training stands."""
        text = "  ".join(texts)
        if self._bar is None:
            print(f"step {step:>{len(str(self._total))}}/{self._total}  {text}", file=self._stream, flush=True)
        else:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Leaves the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

"""Signals: a run that receives SIGTERM or SIGINT saves its state before it ends."""

import signal
from types import FrameType, TracebackType
from typing import Any

TERMINATED = 143  # as of a process that SIGTERM ended: a job scheduler then restarts the command


class Interrupted(Exception):
    """A run has received a signal and saved its state; the message names the step."""


class Signals:
    """Records SIGTERM and SIGINT within a `with` block instead of ending the process; a second SIGINT acts at once.

    A block inside another one begins with what that one has received.

    Attributes:
      received: number of the signal, None if there was none.
    """

    received: int | None

    def __enter__(self) -> "Signals":
        self.received = None
        self._handlers: dict[int, Any] = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = handler = signal.signal(number, self._receive)
                outer = getattr(handler, "__self__", None)
                if isinstance(outer, Signals):
                    self.received = self.received or outer.received
        except ValueError:  # not the main thread, as in some notebooks: handlers stay as they are
            pass
        return self

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def interrupted(self, step: int, total: int) -> Interrupted:
        """The exception of a run that has saved `step` of `total`."""
        name = signal.Signals(self.received).name if self.received is not None else "a signal to another process"
        return Interrupted(f"{name}: saved step {step} of {total}; the same command resumes there")

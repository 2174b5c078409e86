"""Signals: a run that is told to stop saves its state and says so."""

import signal


class Interrupted(Exception):
    """A run was told to stop and has saved its state; the message says where it stands."""


class Signals:
    """Remembers SIGTERM and SIGINT instead of dying of them; a second SIGINT acts at once.

    received: the number of the signal, None while there was none.
    """

    def __enter__(self):
        self.received = None
        self._old = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, self._receive)
        except ValueError:  # not the main thread, as in some notebooks: signals stay as they are
            pass
        return self

    def _receive(self, number, frame):
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def interrupted(self, step: int, total: int) -> Interrupted:
        """The exception of a run that has saved `step` of `total`."""
        name = signal.Signals(self.received).name if self.received is not None else "a signal to another process"
        return Interrupted(f"{name}: saved step {step} of {total}; the same command resumes there")

"""The process of a training of a study: python -m deft_jax.studies.run_process, started by studies/task.py.

One line of JSON on stdin says what to do. While the runs are wanted, stdin stays open; when it is closed, also because
whoever started the process has died, the process saves the state of its runs and ends. Whatever is printed goes to the
log, stdout has the reason of a failure.
"""

import json
import os
import pathlib
import signal
import sys
import threading
import traceback

from deft_jax.runtime.parallel import use_cores
from deft_jax.runtime.signals import TERMINATED, Interrupted, Signals


def main() -> None:
    """Does what stdin says; ends with the exit status of a command."""
    reason = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    if order["cores"]:
        use_cores(order["cores"])  # before any library is loaded that starts a thread per core
    with Signals() as signals:
        threading.Thread(target=_stop_when_stdin_closes, daemon=True).start()
        try:
            from deft_jax.runtime import cli
            from deft_jax.studies.config import parse_study
            from deft_jax.studies.worker import work

            cli.keep_programs()
            work(parse_study(order["study"]), pathlib.Path(order["workdir"]), order["names"], signals)
        except Interrupted:
            sys.exit(TERMINATED)
        except Exception as error:
            if not isinstance(error, ValueError | OSError):
                traceback.print_exc()
            print(" ".join(str(error).split()) or type(error).__name__, file=reason, flush=True)
            sys.exit(1)


def _stop_when_stdin_closes() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()

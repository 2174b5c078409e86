"""A preload of Dask workers that lets them outlive the SIGINT of a terminal and the SIGTERM of a job.

Both reach every process. The command that runs the study receives them too, stops the runs and then ends its workers,
or the nanny of a worker does.
"""

import signal

from distributed import Worker


def dask_setup(worker: Worker) -> None:
    """Called by Dask in the main thread of each worker."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the processes of the runs would inherit

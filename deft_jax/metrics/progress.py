"""Progress of a metric, and the threads that fit one predictor per factor."""

import concurrent.futures
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from deft_jax.metrics import inputs

T = TypeVar("T")

Progress = Callable[[int, int], None]
"""progress(done, total), called from the calling thread as parts of a metric, mostly its factors, are finished.

Where the parts take long, it is called with done = 0 when the arguments are checked, before the first part.
"""


def map_in_threads(
    function: Callable[..., T],
    *arguments: Sequence[Any] | np.ndarray,
    num_workers: int | None,
    progress: Progress | None,
) -> list[T]:
    """function(*entries) for each tuple of entries, in threads.

    Args:
      function: called once per tuple.
      *arguments: sequences of the same length.
      num_workers: threads; None: os.cpu_count(). The results do not depend on it.
      progress: called before the first call and after each finished one; None: not called.

    Returns:
      The results, in the order of the arguments.

    Raises:
      ValueError: num_workers is not a positive integer.
    """
    if num_workers is not None:
        inputs.check_at_least({"num_workers": (num_workers, 1)})
    if progress is not None:
        progress(0, len(arguments[0]))
    with concurrent.futures.ThreadPoolExecutor(num_workers or os.cpu_count()) as pool:
        futures = [pool.submit(function, *entries) for entries in zip(*arguments, strict=True)]
        report_progress(futures, progress)
        return [future.result() for future in futures]


def report_progress(futures: Sequence[concurrent.futures.Future], progress: Progress | None) -> None:
    """Calls progress(done, total) as futures finish; returns when all have finished, or at once without `progress`.

    An exception of a future or of `progress` ends the wait and cancels the futures that have not started.
    """
    if progress is None:
        return
    try:
        for done, future in enumerate(concurrent.futures.as_completed(futures), 1):
            future.result()
            progress(done, len(futures))
    except BaseException:
        for future in futures:
            future.cancel()
        raise

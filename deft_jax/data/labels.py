"""Which labels are continuous numbers rather than classes."""

import numpy as np
import numpy.typing as npt

_MANY = 20  # a column with up to so many distinct values always holds classes


def continuous_columns(factors_NxF: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Decides for each factor whether it is continuous.

    Args:
      factors_NxF: numbers [N, F].

    Returns:
      bool [F]. A column is continuous where it has more than 20 distinct values and these are nearly all distinct: more
      than one value for every five rows of a float array, more than one for every two rows of an integer array.

    Example:
      >>> continuous_columns(np.stack([np.arange(200) % 30, np.linspace(0, 1, 200)], axis=1))
      array([False,  True])
    """
    factors_NxF = np.asarray(factors_NxF)
    share = 0.2 if factors_NxF.dtype.kind == "f" else 0.5
    counts = np.array([len(np.unique(column)) for column in factors_NxF.T])
    return (counts > _MANY) & (counts > share * len(factors_NxF))

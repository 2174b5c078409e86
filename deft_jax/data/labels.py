"""Which labels are numbers of a continuum rather than classes."""

import numpy as np

_MANY = 20  # distinct values up to which a column is always taken for classes


def continuous_columns(factors) -> np.ndarray:
    """Which columns of factors hold numbers of a continuum rather than classes: bool [F].

    A column counts as continuous where it has more than 20 distinct values and these are nearly all distinct: more than
    one value for every five rows of a float array, more than one for every two rows of an integer array.
    """
    factors = np.asarray(factors)
    share = 0.2 if factors.dtype.kind == "f" else 0.5
    counts = np.array([len(np.unique(column)) for column in factors.T])
    return (counts > _MANY) & (counts > share * len(factors))

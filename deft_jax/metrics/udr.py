"""Unsupervised disentanglement ranking (UDR), Duan et al. 2020 (ICLR; arXiv 1905.12614)."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from deft_jax.metrics import inputs
from deft_jax.runtime.validation import NonNegative


def udr(
    codes_list: Sequence[np.ndarray],
    kl_list: Sequence[np.ndarray] | None = None,
    correlation: Literal["spearman", "lasso"] = "spearman",
    kl_threshold: NonNegative = 0.01,
) -> dict[str, Any]:
    """How well the latents of a run match those of other runs one to one, up to order and sign.

    Disentangled runs agree, entangled runs mix the factors in different ways; so the score needs no factors. For two
    runs i and j, with C [D_i, D_j] the absolute correlation of the informative latents of one with those of the other,

        udr_pairs[i, j] = (mean over columns b of max_a C[a, b]^2 / sum_a C[a, b]
                           + mean over rows a of max_b C[a, b]^2 / sum_b C[a, b]) / 2,

    a column or row of zeros counts 0, and the score of run i is the median over j != i of udr_pairs[j, i]. As in
    disentanglement_lib, rows and columns are averaged separately; the paper divides one sum over both by D_i + D_j, the
    same for equal numbers of informative latents. The paper ranks runs that differ in their seed.

    C is one of
      'spearman': |rank correlation|, ties at their mean rank. Symmetric in i and j.
      'lasso': |coefficients| of a Lasso of the codes of j on those of i, both standardised; sklearn's Lasso with
        alpha = 0.1 as in disentanglement_lib, where it is the default, and its other defaults (max_iter = 1000,
        tol = 1e-4, cyclic descent, so no randomness). The penalty subtracts alpha from every coefficient: equal runs
        of uncorrelated latents score 1 - alpha = 0.9, not 1.

    A latent is informative if its KL exceeds the threshold (0.01 nats in the paper) and it is not constant. Without KLs
    its variance over the images has to exceed the threshold instead: where sigma^2 = 1, the KL is half the mean of
    mu^2. The scores of a run without an informative latent are 0.

    Args:
      codes_list: R >= 2 arrays [N, D_r] of the same N images in the same order, finite real numbers, the posterior
        means by convention. D_r may differ.
      kl_list: R arrays [D_r], KL(q(z_d|x) || N(0, 1)) of each latent averaged over images, in nats; or None.
      correlation: 'spearman' or 'lasso'.
      kl_threshold: in nats, or a variance without kl_list; at least 0.

    Returns:
      {'udr': [R]; 'udr_pairs': [R, R], 0 on the diagonal; 'udr_num_active': [R] int, informative latents}; scores
      in [0, 1], 1 is best.

    Raises:
      ValueError: fewer than two runs, an input that does not fit, or an unknown correlation.

    Example:
      >>> codes = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
      >>> udr([codes, -codes[:, ::-1]])["udr"].round(6)
      array([1., 1.])
    """
    inputs.check_choice("correlation", correlation, ("spearman", "lasso"))
    if not kl_threshold >= 0:
        raise ValueError(f"kl_threshold must be >= 0, got {kl_threshold!r}")
    runs = _check_runs(codes_list)
    evidence = [codes.var(axis=0) for codes in runs] if kl_list is None else _check_kl(kl_list, runs)

    informative = []
    for codes, value in zip(runs, evidence, strict=True):
        codes = codes[:, (value > kl_threshold) & (np.ptp(codes, axis=0) > 0)]
        informative.append(inputs.standardise(_ranks(codes) if correlation == "spearman" else codes))
    correlate = _spearman if correlation == "spearman" else _lasso
    pairs = np.zeros((len(runs), len(runs)))
    for i, first in enumerate(informative):
        for j, second in enumerate(informative):
            if i != j and first.shape[1] and second.shape[1]:
                pairs[i, j] = _one_to_one(correlate(first, second))
    others = [np.delete(pairs[:, i], i) for i in range(len(runs))]
    return {
        "udr": np.median(others, axis=1),
        "udr_pairs": pairs,
        "udr_num_active": np.array([codes.shape[1] for codes in informative]),
    }


def _one_to_one(matrix: np.ndarray) -> float:
    """Mean over columns, and over rows, of max^2 / sum, averaged."""
    scores = []
    for values in (matrix, matrix.T):
        total = values.sum(axis=0)
        scores.append(np.divide(values.max(axis=0) ** 2, total, where=total > 0, out=np.zeros(len(total))).mean())
    return sum(scores) / 2


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """|Correlation| [D_i, D_j] of standardised ranks."""
    return np.minimum(np.abs(first.T @ second) / len(first), 1.0)


def _lasso(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """|Coefficients| [D_i, D_j] of a Lasso of the second codes on the first."""
    from sklearn.linear_model import Lasso

    return np.abs(Lasso(alpha=0.1).fit(first, second).coef_).reshape(second.shape[1], first.shape[1]).T


def _ranks(codes: np.ndarray) -> np.ndarray:
    """Ranks within each column; scipy refuses an array without columns."""
    from scipy.stats import rankdata

    return rankdata(codes, axis=0) if codes.shape[1] else codes


def _check_runs(codes_list: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The codes of each run as float64."""
    runs = [inputs.finite_codes(codes, f"codes of run {r}") for r, codes in enumerate(codes_list)]
    if len(runs) < 2:
        raise ValueError(f"codes_list must contain the codes of two runs or more, got {len(runs)}")
    for r, codes in enumerate(runs):
        if len(codes) != len(runs[0]):
            raise ValueError(f"all runs must have the same N, got {len(runs[0])} in run 0 and {len(codes)} in run {r}")
    return [codes.astype(np.float64) for codes in runs]


def _check_kl(kl_list: Sequence[np.ndarray], runs: list[np.ndarray]) -> list[np.ndarray]:
    """The KL of each latent of each run."""
    kls = [np.asarray(kl) for kl in kl_list]
    if len(kls) != len(runs):
        raise ValueError(f"kl_list must contain one array per run, got {len(kls)} for {len(runs)} runs")
    for r, (kl, codes) in enumerate(zip(kls, runs, strict=True)):
        if kl.shape != codes.shape[1:]:
            raise ValueError(f"KL of run {r} must be one number per latent, {codes.shape[1:]}, got shape {kl.shape}")
        if kl.dtype.kind not in "fiub" or not np.isfinite(kl).all():
            raise ValueError(f"KL of run {r} must be finite real numbers")
    return kls

"""Gradient boosted trees, those of scikit-learn's GradientBoosting with its defaults, several times as fast.

Friedman 2001, 'Greedy function approximation: a gradient boosting machine', algorithms 2 (squared error) and 6
(classes): 100 rounds, trees of depth 3, learning rate 0.1. scikit-learn sorts the latents in every node of every tree.
Here they are sorted once, and the rows of a node keep their order when it splits. All edges between values are
candidates, so trees are the same where no two splits save equally much. Of latents that do, either takes a random one.
"""

from typing import Any

import numpy as np

ROUNDS, DEPTH, LEARNING_RATE = 100, 3, 0.1
_LEAVES = 2**DEPTH
_MIN_STEP = np.float32(1e-7)  # codes that differ by no more are equal, as in scikit-learn
_ROUNDING = 1e-9  # relative difference of equal sums in another order
_PURE = np.finfo(np.float64).eps  # a node with no more variance is a leaf, as in scikit-learn


def fit_and_score(
    codes: np.ndarray, column: np.ndarray, is_continuous: bool, train: np.ndarray, test: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, float, float]:
    """Fits one factor on the training rows.

    Args:
      codes: [N, D] finite real numbers, rounded to float32 as by scikit-learn.
      column: [N] classes, two or more in the training part, or real numbers where the factor is continuous.
      is_continuous: whether to regress it by squared error instead of classifying it by log-loss.
      train: row numbers of the training part.
      test: row numbers of the test part.
      seed: of the choice between latents that save equally much.

    Returns:
      (impurity importances [D] of the latents, with sum 1, or 0 where no split saves anything; score in the training
      part; score in the test part). The score is the accuracy, or R^2 where the factor is continuous.

    Example:
      >>> codes = np.random.default_rng(0).normal(size=(300, 2))
      >>> is_positive, rows = (codes[:, 1] > 0).astype(int), np.arange(300)
      >>> importance, train, test = fit_and_score(codes, is_positive, False, rows[:200], rows[200:])
      >>> importance.round(6).tolist(), train
      ([0.0, 1.0], 1.0)
    """
    loss, raw_KxN, importance_D = _boost(codes, column, is_continuous, train, test, seed)
    total, num_train = importance_D.sum(), len(train)
    importance_D = importance_D / total if total > 0 else np.zeros_like(importance_D)
    return importance_D, loss.score(raw_KxN, slice(num_train)), loss.score(raw_KxN, slice(num_train, None))


def fit_and_predict(
    codes: np.ndarray, column: np.ndarray, is_continuous: bool, train: np.ndarray, test: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Fits one factor on the training rows and predicts it in the test rows.

    Args:
      codes, column, is_continuous, train, test, seed: as for `fit_and_score`.

    Returns:
      [M] the likeliest class, or the mean where the factor is continuous, of each test row.

    Example:
      >>> codes = np.random.default_rng(0).normal(size=(300, 2))
      >>> is_positive, rows = (codes[:, 1] > 0).astype(int), np.arange(300)
      >>> predicted = fit_and_predict(codes, is_positive, False, rows[:200], rows[200:])
      >>> bool(np.mean(predicted == is_positive[200:]) > 0.95)
      True
    """
    loss, raw_KxN, _ = _boost(codes, column, is_continuous, train, test, seed)
    return loss.predict(raw_KxN, slice(len(train), None))


def _boost(
    codes: np.ndarray, column: np.ndarray, is_continuous: bool, train: np.ndarray, test: np.ndarray, seed: int
) -> tuple["_SquaredError | _LogLoss", np.ndarray, np.ndarray]:
    """(The loss, raw predictions [K, N] of the training rows and then of the test rows, squared error saved [D])."""
    rows, num_train = np.concatenate([train, test]), len(train)
    loss = (_SquaredError if is_continuous else _LogLoss)(column[rows], num_train)
    grower = _TreeGrower(codes[rows].astype(np.float32), num_train, seed)
    raw_KxN = np.tile(loss.start_K[:, None], len(rows))
    importance_D = np.zeros(codes.shape[1])
    for _ in range(ROUNDS):
        residual_KxT, curvature_KxT = loss.residuals(raw_KxN[:, :num_train])
        for raw_N, residual_T, curvature_T in zip(raw_KxN, residual_KxT, curvature_KxT, strict=True):
            leaf_N, saved_D = grower.grow(residual_T)
            importance_D += saved_D
            sums = (np.bincount(leaf_N[:num_train], part, _LEAVES) for part in (residual_T, curvature_T))
            raw_N += (LEARNING_RATE * loss.step * _ratio(*sums))[leaf_N]
    return loss, raw_KxN, importance_D


class _TreeGrower:
    """Grows regression trees on the same training rows."""

    def __init__(self, codes_NxD: np.ndarray, num_train: int, seed: int):
        """codes_NxD: float32, the training rows first. seed: of the choice between equal splits."""
        self._rng = np.random.default_rng(seed)
        self._flat = codes_NxD.ravel()
        self._row_start_N = np.arange(len(codes_NxD)) * codes_NxD.shape[1]
        self._codes_DxT = np.ascontiguousarray(codes_NxD[:num_train].T)
        self._order_DxT = np.argsort(self._codes_DxT, axis=1, kind="stable").astype(np.int32)

    def grow(self, residual_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Grows one tree.

        Returns (the leaf [N], 0 .. _LEAVES - 1, of all rows; the squared error [D] that splits of each latent save).
        """
        node_N = np.zeros(len(self._row_start_N), np.int64)
        saved_D = np.zeros(len(self._codes_DxT))
        nodes = [self._order_DxT]
        for level in range(DEPTH):
            latents, thresholds = np.zeros(len(nodes), np.int64), np.full(len(nodes), np.inf)
            for node, order_DxM in enumerate(nodes):
                split = self._best_split(order_DxM, residual_T)
                if split is not None:
                    latents[node], thresholds[node], saved = split
                    saved_D[latents[node]] += saved
            right_N = self._flat[self._row_start_N + latents[node_N]] > thresholds[node_N]
            node_N = 2 * node_N + right_N
            if level + 1 < DEPTH:
                nodes = [side for order_DxM in nodes for side in _sides(order_DxM, right_N)]
        return node_N, saved_D

    def _best_split(self, order_DxM: np.ndarray, residual_T: np.ndarray) -> tuple[int, float, float] | None:
        """The latent, the threshold and the squared error saved of a node's best split; None where it is a leaf.

        order_DxM: the M rows of the node in the order of each latent.
        """
        size = order_DxM.shape[1]
        own_M = residual_T[order_DxM[0]] if size > 1 else np.zeros(1)
        mean = own_M.mean()
        if (own_M @ own_M) / len(own_M) - mean**2 <= _PURE:
            return None
        left = np.arange(1.0, size)
        # With m rows on the left: n_left n_right / n (mean_left - mean_right)^2 = (sum_left - m mean)^2 n / (m (n - m))
        saved_DxM = np.cumsum(residual_T[order_DxM[:, :-1]], axis=1)
        saved_DxM -= mean * left
        saved_DxM *= saved_DxM
        saved_DxM *= size / (left * (size - left))
        latents = np.arange(len(order_DxM))
        edge_D = saved_DxM.argmax(axis=1)
        below_D, above_D = (self._codes_DxT[latents, order_DxM[latents, edge_D + side]] for side in (0, 1))
        if (above_D <= below_D + _MIN_STEP).any():  # no edge between equal codes; they are looked for where it matters
            codes_DxM = np.take_along_axis(self._codes_DxT, order_DxM, axis=1)
            saved_DxM[codes_DxM[:, 1:] <= codes_DxM[:, :-1] + _MIN_STEP] = -1
            edge_D = saved_DxM.argmax(axis=1)
            below_D, above_D = codes_DxM[latents, edge_D], codes_DxM[latents, edge_D + 1]
        saved_D = saved_DxM[latents, edge_D]
        if saved_D.max() < 0:
            return None
        equal = np.flatnonzero(saved_D >= saved_D.max() * (1 - _ROUNDING))
        best = int(equal[0] if len(equal) == 1 else self._rng.choice(equal))
        return best, _halfway(below_D[best], above_D[best]), float(saved_D[best])


def _halfway(below: np.float32, above: np.float32) -> float:
    """The threshold between two codes, not above the higher one."""
    middle = float(below) / 2 + float(above) / 2
    return float(below) if middle >= above else middle


def _sides(order_DxM: np.ndarray, right_N: np.ndarray) -> list[np.ndarray]:
    """The rows of both children of a node, left and right, in the order of each latent."""
    flat = order_DxM.ravel()
    is_right = right_N[flat]
    return [flat[chosen].reshape(len(order_DxM), -1) for chosen in (~is_right, is_right)]


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, where=denominator > 1e-150, out=np.zeros_like(numerator))


class _SquaredError:
    """A continuous factor: trees fit y - raw, and leaves are means."""

    step = 1.0

    def __init__(self, column_N: np.ndarray, num_train: int):
        self._column_N, self._num_train = column_N.astype(np.float64), num_train
        self.start_K = self._column_N[:num_train].mean(keepdims=True)

    def residuals(self, raw_KxT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residuals, and the weights by whose sums those of residuals are divided."""
        residual_KxT = self._column_N[: self._num_train] - raw_KxT
        return residual_KxT, np.ones_like(residual_KxT)

    def predict(self, raw_KxN: np.ndarray, rows: slice) -> np.ndarray:
        """The means of rows."""
        return raw_KxN[0, rows]

    def score(self, raw_KxN: np.ndarray, rows: slice) -> float:
        """R^2."""
        true = self._column_N[rows]
        error, spread = np.square(true - raw_KxN[0, rows]).sum(), np.square(true - true.mean()).sum()
        return float(1 - error / spread) if spread > 0 else float(error == 0)


class _LogLoss:
    """Classes: trees fit indicator - probability, and leaves are Newton steps; for two classes there is one tree."""

    def __init__(self, column_N: np.ndarray, num_train: int):
        self._column_N = column_N
        self._classes, class_T, counts = np.unique(column_N[:num_train], return_inverse=True, return_counts=True)
        indicator_CxT = np.arange(len(self._classes))[:, None] == class_T
        log_share_C = np.log(counts / num_train)
        self._is_binary = len(self._classes) == 2
        self.step = 1.0 if self._is_binary else 1 - 1 / len(self._classes)  # the factor is Friedman's
        self.start_K = np.diff(log_share_C) if self._is_binary else log_share_C
        self._indicator_KxT = indicator_CxT[1:] if self._is_binary else indicator_CxT

    def residuals(self, raw_KxT: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Residuals, and the curvatures by whose sums those of residuals are divided."""
        from scipy import special

        share_KxT: Any = special.expit(raw_KxT) if self._is_binary else special.softmax(raw_KxT, axis=0)
        return self._indicator_KxT - share_KxT, share_KxT * (1 - share_KxT)

    def predict(self, raw_KxN: np.ndarray, rows: slice) -> np.ndarray:
        """The likeliest classes of rows."""
        raw = raw_KxN[:, rows]
        index = (raw[0] >= 0).astype(np.int64) if self._is_binary else raw.argmax(axis=0)
        return self._classes[index]

    def score(self, raw_KxN: np.ndarray, rows: slice) -> float:
        """Accuracy."""
        return float(np.mean(self.predict(raw_KxN, rows) == self._column_N[rows]))

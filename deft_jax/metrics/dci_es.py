"""Explicitness and size of DCI-ES, Eastwood et al. 2023 (arXiv 2210.00364).

Each tree of a forest is grown to the largest depth once and read at every smaller depth: a tree splits each node
independently of the others, so a tree cut at depth c is distributed as one grown with max_depth = c, and a
loss-capacity curve costs one forest instead of one per depth.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from deft_jax.metrics import held_out, inputs
from deft_jax.metrics.inputs import Continuous
from deft_jax.metrics.progress import Progress, map_in_threads
from deft_jax.runtime.validation import Count, NonNegativeInt

_DEPTHS = (1, 2, 3, 4, 8, 10, 12, 14, 16, 18, 20, 32)


def dci_es(
    codes: np.ndarray,
    factors: np.ndarray,
    depths: Sequence[int] = _DEPTHS,
    num_trees: Count = 100,
    num_train: Count | None = None,
    seed: NonNegativeInt = 0,
    continuous: Continuous = None,
    num_workers: Count | None = None,
    groups: np.ndarray | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How little capacity a probe needs to predict a factor from the latents, and the number of factors per latent.

    Probes of capacities c_1 < ... < c_T have the losses l_1, ..., l_T on test images; m_t = min(l_1, ..., l_t), and b
    is the loss of the best constant prediction. Then

      explicitness of factor f = 1 - 2 / ((c_T - c_1) b) sum over t < T of ((m_t + m_t+1) / 2 - m_T) (c_t+1 - c_t),

    from the area under the loss-capacity curve, above its end, with 0 as the lowest loss possible. 1: the weakest probe
    does as well as any; 0: the loss falls on a straight line from b to 0; below 0: it falls late. Explicitness does not
    measure how much information there is: uninformative latents have a flat curve and explicitness 1, so read it
    beside informativeness, 1 - m_T. Size is F / D, the paper's S: 1 with one latent per factor, less with more latents.

    The probes are one of the paper's families, random forests of growing depth, with scikit-learn's defaults
    (bootstrap; sqrt(D) latents tried per split of a classifier, all of a regressor). Capacity is the depth. The loss is
    1 - accuracy, with b = 1 - the share of the most frequent value in the sample; where a factor is continuous it is
    1 - R^2, with b = 1. The authors' code grows one forest per depth; here one forest is cut at each depth, which has
    the same distribution. The default depths and number of trees are the authors'. Their other families, multilayer
    perceptrons and random Fourier features, and SAGE importances are left out; `dci` has D, C and I. Explicitness of
    different families or depths does not compare. disentanglement_lib does not have this metric.

    Args:
      codes: [N, D] finite real numbers, the posterior means by convention.
      factors: [N, F] integers >= 0; finite real numbers where continuous.
      depths: capacities, two or more increasing integers >= 1.
      num_trees: trees of a forest.
      num_train: the least number of rows in the training part; default: two thirds of N; see `held_out.split`.
      seed: integer in [0, 2**32), for the split and the forests.
      continuous: see `inputs.Continuous`; default: detected.
      num_workers: threads, one factor each; default: os.cpu_count(). The result does not depend on it.
      groups: [N] integers, equal for rows of one image; default: each row is a different image.
      progress: called as progress(done, total) before the first factor and after each.

    Returns:
      {'dci_es_explicitness': float, the mean over factors, at most 1, which is best; 'dci_es_size': float;
      'dci_es_informativeness': float, the mean over factors; 'dci_es_explicitness_per_factor',
      'dci_es_informativeness_per_factor': [F]; 'dci_es_loss': [T, F], l_t; 'num_distinct_train', 'num_distinct_test':
      int, distinct images in each part}.

    Raises:
      ValueError: an input does not fit, or a factor is constant in the sample or in the training part, or a continuous
        one in the test part.

    Example:
      >>> factors = np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (20, 1))
      >>> scores = dci_es(factors[:, :1], factors[:, :1], num_trees=3)
      >>> scores["dci_es_explicitness"], scores["dci_es_size"], scores["dci_es_informativeness"]
      (1.0, 1.0, 1.0)
    """
    depths = _check_options(depths, num_trees)
    sample = held_out.split_sample(codes, factors, continuous, num_train, seed, groups)
    held_out.check_varies(sample.columns, sample.test, "test", only=sample.continuous)
    held_out.check_shared_values(sample.columns, sample.continuous, sample.train, sample.test)
    curve = functools.partial(_loss_curve, sample, depths, num_trees, seed)
    curves = map_in_threads(curve, sample.columns, sample.continuous, num_workers=num_workers, progress=progress)
    explicitness_F = np.array([_explicitness(depths, losses, baseline) for losses, baseline in curves])
    loss_TxF = np.stack([losses for losses, _ in curves], axis=1)
    informativeness_F = 1 - loss_TxF.min(axis=0)
    return {
        "dci_es_explicitness": float(explicitness_F.mean()),
        "dci_es_size": len(sample.columns) / sample.codes.shape[1],
        "dci_es_informativeness": float(informativeness_F.mean()),
        "dci_es_explicitness_per_factor": explicitness_F,
        "dci_es_informativeness_per_factor": informativeness_F,
        "dci_es_loss": loss_TxF,
        **sample.num_distinct(),
    }


def _check_options(depths: Sequence[int], num_trees: int) -> tuple[int, ...]:
    """The depths as a tuple; raises ValueError for an option that does not fit."""
    capacities: tuple[Any, ...] = tuple(depths) if np.ndim(depths) == 1 else (depths,)
    inputs.check_at_least({f"depths[{t}]": (depth, 1) for t, depth in enumerate(capacities)})
    if len(capacities) < 2 or any(np.diff(capacities) <= 0):
        raise ValueError(f"depths must be two or more increasing integers, got {capacities}")
    inputs.check_at_least({"num_trees": (num_trees, 1)})
    return capacities


def _loss_curve(
    sample: held_out.HeldOutSample,
    depths: Sequence[int],
    num_trees: int,
    seed: int,
    column: np.ndarray,
    is_continuous: bool,
) -> tuple[np.ndarray, float]:
    """The losses [T] of forests that predict one factor, and the loss of the best constant prediction."""
    from sklearn import ensemble

    codes, train, test = sample.standardised_codes(), sample.train, sample.test
    family = ensemble.RandomForestRegressor if is_continuous else ensemble.RandomForestClassifier
    forest = family(num_trees, max_depth=max(depths), random_state=seed).fit(codes[train], column[train])
    outputs_TxNxC = _outputs_by_depth(forest, codes[test], depths)
    if is_continuous:
        errors_TxN = (outputs_TxNxC[:, :, 0] - column[test]) ** 2
        return errors_TxN.mean(axis=1) / column[test].var(), 1.0
    correct_TxN = forest.classes_[outputs_TxNxC.argmax(axis=2)] == column[test]
    most_frequent = np.unique(column, return_counts=True)[1].max()
    return 1 - correct_TxN.mean(axis=1), 1 - most_frequent / len(column)


def _explicitness(capacities_T: Sequence[int], losses_T: np.ndarray, baseline: float) -> float:
    """1 - 2 * (area of the running minimum of the losses above its end) / (range of capacities * baseline)."""
    above_T = np.minimum.accumulate(losses_T) - np.min(losses_T)
    area = ((above_T[1:] + above_T[:-1]) / 2 * np.diff(capacities_T)).sum()
    return float(1 - 2 * area / ((capacities_T[-1] - capacities_T[0]) * baseline))


def _outputs_by_depth(forest: Any, codes: np.ndarray, depths: Sequence[int]) -> np.ndarray:
    """Outputs [T, N, C] of a fitted forest, class shares or one value, with its trees cut at each of T depths."""
    rows = np.ascontiguousarray(codes, dtype=np.float32)  # the dtype of scikit-learn's trees
    outputs = np.zeros(())
    for estimator in forest.estimators_:
        tree = estimator.tree_
        parent, depth = _parents_and_depths(tree)
        node_N, values_T = tree.apply(rows), []
        for limit in sorted(depths, reverse=True):
            while (too_deep := depth[node_N] > limit).any():
                node_N = np.where(too_deep, parent[node_N], node_N)
            value_NxC = tree.value[node_N, 0]
            values_T.append(value_NxC / value_NxC.sum(axis=1, keepdims=True) if value_NxC.shape[1] > 1 else value_NxC)
        outputs = outputs + np.stack(values_T[::-1])
    return outputs / len(forest.estimators_)


def _parents_and_depths(tree: Any) -> tuple[np.ndarray, np.ndarray]:
    """Parent and depth of each node of a fitted tree; the root, node 0, has depth 0 and itself as its parent."""
    parent, depth = np.zeros(tree.node_count, np.int64), np.zeros(tree.node_count, np.int64)
    level, level_depth = np.array([0]), 0
    while len(level):
        depth[level] = level_depth
        children = np.stack([tree.children_left[level], tree.children_right[level]], axis=1)
        inner = children[:, 0] >= 0
        parent[children[inner]] = level[inner, None]
        level, level_depth = children[inner].ravel(), level_depth + 1
    return parent, depth

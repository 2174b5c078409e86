"""UDR: closed forms, its definition, uninformative latents."""

import itertools

import numpy as np
import pytest
import toy_codes
from refusals import refused
from scipy import stats
from sklearn.linear_model import Lasso

from deft_jax.metrics.udr import udr


def _runs(num_samples=4000):
    """Three unrelated runs, five independent latents each."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(num_samples, 5)) for _ in range(3)]


@pytest.mark.parametrize(("correlation", "expected"), [("spearman", 1), ("lasso", 0.9)])
def test_udr_of_equal_runs_up_to_order_and_sign(correlation, expected):
    # A grid has correlations of exactly 0; the Lasso subtracts alpha = 0.1 from the coefficient 1.
    codes = toy_codes.grid(5, 6, 7) * 1.0
    scores = udr([codes, codes[:, [2, 0, 1]] * [-1, 3, -0.5], -codes], correlation=correlation)
    np.testing.assert_allclose(scores["udr"], expected, atol=1e-3 if correlation == "lasso" else 1e-12)
    np.testing.assert_array_equal(np.diag(scores["udr_pairs"]), 0)
    np.testing.assert_array_equal(scores["udr_num_active"], [3, 3, 3])


@pytest.mark.parametrize("correlation", ["spearman", "lasso"])
def test_unrelated_runs_score_low(correlation):
    first, second, third = _runs()
    assert udr([first, second, third], correlation=correlation)["udr"].max() < 0.05
    scores = udr([first, -first[:, ::-1], first, second], correlation=correlation)["udr"]
    assert scores[:3].min() > 0.8
    assert scores[3] < 0.05


def test_udr_of_a_rotated_run_has_a_closed_form():
    # Uncorrelated latents of equal variance, so each of a run has correlation 1 / sqrt 2 with two of the other:
    # max^2 / sum = 0.5 / sqrt 2.
    codes = _runs(20_000)[0][:, :2]
    rotated = codes @ np.array([[1.0, 1.0], [1.0, -1.0]])
    pearson_of_ranks = 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2)  # of a bivariate normal
    assert udr([codes, rotated])["udr"] == pytest.approx([pearson_of_ranks / 2] * 2, abs=0.02)


def _spearman(first, second):
    return np.array([[abs(stats.spearmanr(a, b).statistic) for b in second.T] for a in first.T])


def _lasso(first, second):
    return np.array([np.abs(Lasso(alpha=0.1).fit(first, target).coef_) for target in second.T]).T


def _sharpness(rows):
    """max^2 / sum in the mean over rows; a row of zeros counts 0."""
    return np.mean([max(values) ** 2 / sum(values) if any(values) else 0 for values in rows])


@pytest.mark.parametrize(("correlation", "matrix_of"), [("spearman", _spearman), ("lasso", _lasso)])
def test_udr_equals_the_literal_definition(correlation, matrix_of):
    rng = np.random.default_rng(3)
    base = rng.normal(size=(500, 4))
    runs = [base @ rng.normal(size=(4, latents)) + 0.2 * rng.normal(size=(500, latents)) for latents in (3, 6, 5)]
    runs = [np.round(codes, 1) for codes in runs]  # with equal codes
    pairs = udr(runs, correlation=correlation)["udr_pairs"]
    scaled = [(codes - codes.mean(axis=0)) / codes.std(axis=0) for codes in runs]
    matrices = {(i, j): matrix_of(scaled[i], scaled[j]) for i, j in itertools.permutations(range(3), 2)}
    for pair, matrix in matrices.items():
        assert pairs[pair] == pytest.approx((_sharpness(matrix) + _sharpness(matrix.T)) / 2)
    expected = [np.median(np.delete(pairs[:, i], i)) for i in range(3)]
    np.testing.assert_allclose(udr(runs, correlation=correlation)["udr"], expected)
    if correlation == "lasso":
        assert not all(matrix.any(axis=1).all() for matrix in matrices.values())  # some latents are not used
        assert np.abs(pairs - pairs.T).max() > 0.01  # the direction matters


def test_spearman_is_invariant_to_monotone_maps():
    first, second, _ = _runs(500)
    runs = [first, first + second, second + first**3]
    expected = udr(runs)
    np.testing.assert_allclose(udr([np.exp(run) for run in runs])["udr_pairs"], expected["udr_pairs"])
    assert np.ptp(expected["udr"]) > 0.05


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("correlation", ["spearman", "lasso"])
def test_udr_leaves_uninformative_latents_out(correlation):
    codes, noise, _ = _runs()
    narrow = 0.05 * noise  # variance 0.0025; with sigma = 1 the KL is half of it
    run = np.concatenate([codes[:, :3], narrow], axis=1)
    kl = np.array([1.0] * 3 + [0.005] * 5)
    constant = np.insert(codes[:, :3], 1, 0.1, axis=1)
    expected = udr([codes[:, :3], codes], correlation=correlation)["udr_pairs"]
    np.testing.assert_allclose(udr([run, codes], correlation=correlation)["udr_pairs"], expected)
    scores = udr([run, codes], [kl, np.ones(5)], correlation=correlation)
    np.testing.assert_allclose(scores["udr_pairs"], expected)
    np.testing.assert_array_equal(scores["udr_num_active"], [3, 5])
    above = udr([run, codes], [kl + 0.006, np.ones(5)], correlation=correlation)
    assert above["udr_num_active"][0] == 8
    assert above["udr"][0] < scores["udr"][0] - 0.05
    scores = udr([constant, codes], [np.ones(4), np.ones(5)], correlation=correlation)
    np.testing.assert_allclose(scores["udr_pairs"], expected)
    collapsed = udr([codes, codes, np.full((4000, 2), 0.1)], correlation=correlation)
    assert collapsed["udr"][2] == collapsed["udr_num_active"][2] == 0
    assert collapsed["udr_pairs"][0, 1] > 0.8


def test_one_latent_has_a_closed_form():
    codes = _runs(200)[0][:, :1]
    assert udr([codes, -codes])["udr"] == pytest.approx([1, 1])
    assert udr([codes, -codes], correlation="lasso")["udr"] == pytest.approx([0.9, 0.9])


def test_bad_inputs_are_refused():
    codes = toy_codes.grid(4, 3) * 1.0
    cases = [
        (([codes],), {}, "two runs or more, got 1"),
        (([codes, codes[1:]],), {}, "same N, got 12 in run 0 and 11 in run 1"),
        (([codes, codes * np.nan],), {}, "codes of run 1 must be finite real numbers"),
        (([codes, codes[:, 0]],), {}, r"codes of run 1 must be a non-empty \[N, D\] array, got shape \(12,\)"),
        (([codes, codes], [np.ones(2)]), {}, "one array per run, got 1 for 2 runs"),
        (([codes, codes], [np.ones(2), np.ones(3)]), {}, "KL of run 1 must be one number per latent"),
        (([codes, codes], [np.ones(2), np.array([1, np.nan])]), {}, "KL of run 1 must be finite"),
        (([codes, codes],), {"correlation": "pearson"}, "correlation must be"),
        (([codes, codes],), {"kl_threshold": -1}, "kl_threshold must be >= 0, got -1"),
    ]
    for arguments, options, message in cases:
        with refused(message):
            udr(*arguments, **options)

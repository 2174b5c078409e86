"""Dependence among latents: pairwise mutual information and the total correlation of a fitted Gaussian."""

import numpy as np
import pytest
import sklearn.metrics
import toy_codes
from scipy import linalg

from deft_jax.metrics.gaussian_total_correlation import gaussian_total_correlation
from deft_jax.metrics.latent_mutual_information import latent_mutual_information


def test_information_of_pairs_has_closed_forms():
    grid = toy_codes.grid(3, 6, 4)
    assert latent_mutual_information(grid)["latent_mutual_information"] == 0
    copies = np.concatenate([grid[:, :1], -grid[:, :1] * 3, grid[:, 1:2]], axis=1)
    scores = latent_mutual_information(copies)
    assert scores["latent_mutual_information"] == pytest.approx(np.log(3) / 3)
    expected = np.zeros((3, 3))
    expected[0, 1] = expected[1, 0] = np.log(3)
    np.testing.assert_allclose(scores["latent_mutual_information_pairs"], expected)
    for independent in (grid[:, :1], np.full((72, 3), 0.1)):
        scores = latent_mutual_information(independent)
        assert (scores["latent_mutual_information"], scores["latent_mutual_information_bias"]) == (0, 0)


def test_information_of_pairs_is_that_of_disentanglement_lib():
    # mutual_info_score of its unsupervised_metrics: pairs of binned latents by scikit-learn, the diagonal left out.
    codes, _ = toy_codes.noisy()
    bins = np.stack([np.digitize(code, np.histogram(code, 20)[1][:-1]) for code in codes.T])
    table = np.array([[sklearn.metrics.mutual_info_score(a, b) for a in bins] for b in bins])
    expected = (table.sum() - np.trace(table)) / 20
    scores = latent_mutual_information(codes)
    assert scores["latent_mutual_information"] == pytest.approx(expected, abs=1e-9)


def test_bias_of_independent_latents_has_a_closed_form():
    codes = np.random.default_rng(0).uniform(size=(5000, 6))
    scores = latent_mutual_information(codes)
    assert scores["latent_mutual_information_bias"] == pytest.approx(19 * 19 / 10_000)
    assert scores["latent_mutual_information"] == pytest.approx(19 * 19 / 10_000, rel=0.05)


def test_information_detects_dependence_without_correlation():
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, size=5000)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert latent_mutual_information(circle)["latent_mutual_information"] > 1
    assert gaussian_total_correlation(circle)["gaussian_total_correlation"] < 0.01


def _with_covariance(covariance, num_samples=500):
    """Codes whose sample covariance is exactly the given one."""
    noise = np.random.default_rng(0).normal(size=(num_samples, len(covariance)))
    noise -= noise.mean(axis=0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T))).T
    return white @ np.linalg.cholesky(covariance).T + 3


def test_total_correlation_of_two_latents_has_a_closed_form():
    for rho in (0.0, 0.3, -0.9):
        scores = gaussian_total_correlation(_with_covariance(np.array([[1, rho], [rho, 1]])))
        assert scores["gaussian_total_correlation"] == pytest.approx(-0.5 * np.log(1 - rho**2), abs=1e-12)
        wasserstein = 4 - 2 * (np.sqrt(1 + rho) + np.sqrt(1 - rho))
        assert scores["gaussian_wasserstein_correlation"] == pytest.approx(wasserstein, abs=1e-12)
        assert scores["gaussian_wasserstein_correlation_norm"] == pytest.approx(wasserstein / 2, abs=1e-12)
        assert scores["gaussian_num_active"] == 2


def test_total_correlation_equals_the_definitions_by_matrices():
    mixing = np.random.default_rng(1).normal(size=(4, 4))
    covariance = mixing @ mixing.T * 3
    scores = gaussian_total_correlation(_with_covariance(covariance))
    marginal = np.diag(np.diag(covariance))
    kl = 0.5 * (np.trace(np.linalg.inv(marginal) @ covariance) - 4)
    kl += 0.5 * np.log(np.linalg.det(marginal) / np.linalg.det(covariance))
    assert scores["gaussian_total_correlation"] == pytest.approx(kl)
    root = linalg.sqrtm(np.sqrt(marginal) @ covariance @ np.sqrt(marginal)).real
    wasserstein = np.trace(covariance + marginal - 2 * root)
    assert scores["gaussian_wasserstein_correlation"] == pytest.approx(wasserstein)
    assert scores["gaussian_wasserstein_correlation_norm"] == pytest.approx(wasserstein / np.trace(covariance))
    assert kl > 0.5


def test_total_correlation_of_independent_codes_is_near_zero():
    # The estimate has the mean D (D - 1) / (4 N): half a chi-square of D (D - 1) / 2 freedoms over N.
    scores = gaussian_total_correlation(np.random.default_rng(0).normal(size=(10_000, 6)))
    assert 0 < scores["gaussian_total_correlation"] < 4 * 30 / 4 / 10_000
    assert scores["gaussian_wasserstein_correlation_norm"] < 1e-3


@pytest.mark.filterwarnings("error")
def test_total_correlation_of_duplicated_codes_is_large_and_finite():
    codes = np.random.default_rng(0).normal(size=(1000, 3))
    scores = gaussian_total_correlation(np.concatenate([codes, -2 * codes], axis=1))
    assert 3 * 15 < scores["gaussian_total_correlation"] < 3 * 19
    # Variances v and 4v of one direction: the matrix within the root is v^2 [[1, 4], [4, 16]], its root's trace
    # sqrt(17) v.
    assert scores["gaussian_wasserstein_correlation_norm"] == pytest.approx(2 - 2 * np.sqrt(17) / 5, abs=0.01)


def test_total_correlation_is_invariant_to_order_sign_and_scale_and_wasserstein_not_to_scale():
    codes = toy_codes.partly_informative(toy_codes.grid(5, 6, 7))
    expected = gaussian_total_correlation(codes)
    moved = gaussian_total_correlation(codes[:, [2, 0, 3, 1]] * [-1, 1, -1, 1])
    assert moved == pytest.approx(expected)
    scaled = gaussian_total_correlation(codes * [10, 0.3, 1, 1e-3])
    assert scaled["gaussian_total_correlation"] == pytest.approx(expected["gaussian_total_correlation"])
    assert scaled["gaussian_wasserstein_correlation"] != pytest.approx(expected["gaussian_wasserstein_correlation"])
    assert expected["gaussian_total_correlation"] > 0.05


@pytest.mark.filterwarnings("error")
def test_total_correlation_leaves_constant_latents_out():
    codes = toy_codes.partly_informative(toy_codes.grid(5, 6, 7))
    assert gaussian_total_correlation(np.insert(codes, [0, 2], 0.1, axis=1)) == gaussian_total_correlation(codes)
    for codes, num_active in ((np.full((9, 3), 0.1), 0), (np.arange(9.0)[:, None], 1), (np.ones((1, 4)), 0)):
        assert list(gaussian_total_correlation(codes).values()) == [0, 0, 0, num_active]

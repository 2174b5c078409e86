"""MIG and NMI on hand-made codes, against a literal re-implementation, and under the symmetries they have."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from deft_jax import metrics
from deft_jax.metrics.mig import mig
from deft_jax.metrics.nmi import nmi


def _grid(*sizes):
    """Every combination of factors once: [prod(sizes), F]."""
    return np.stack(np.meshgrid(*map(range, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))


def _noisy(num_samples=1500, seed=0):
    """Six codes: three follow a factor each with noise, one follows two, one is noise, one is constant."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(size, size=num_samples) for size in (4, 9, 30)], axis=1)
    noise = rng.normal(size=(num_samples, 5))
    mixing = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0.0]])
    codes = factors @ mixing + noise * [0.3, 1, 8, 1, 1]
    return np.concatenate([codes, np.zeros((num_samples, 1))], axis=1), factors


def _literal_mig(codes, factors, num_bins):
    gaps = []
    for factor in factors.T:
        informed = []
        for code in codes.T:
            edges = np.histogram(code, num_bins)[1]
            informed.append(mutual_info_score(np.digitize(code, edges[:-1]), factor))
        second, first = sorted(informed)[-2:]
        gaps.append((first - second) / mutual_info_score(factor, factor))
    return np.mean(gaps), gaps


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("num_bins", [5, 20])
def test_mig_equals_the_literal_definition(dtype, num_bins):
    codes, factors = _noisy()
    codes = codes.astype(dtype)
    mean, gaps = _literal_mig(codes, factors, num_bins)
    found = metrics.compute("mig", codes, factors, num_bins=num_bins)
    assert found["mig"] == pytest.approx(mean, abs=1e-6)
    np.testing.assert_allclose(found["mig_per_factor"], gaps, rtol=0, atol=1e-6)
    assert isinstance(found["mig"], float)
    assert 0.1 < mean < 0.9


def test_perfect_codes_score_one_where_bins_suffice():
    factors = _grid(3, 6, 20)
    assert mig(factors, factors)["mig"] == pytest.approx(1, abs=1e-12)
    found = nmi(factors, factors)
    np.testing.assert_allclose(found["nmi"], np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(found["nmi1_latent"], [0, 1, 2])


def test_perfect_codes_with_too_few_bins_have_a_closed_form():
    # 40 values in 20 bins hide one bit; 32 values fill 8 bins singly and 12 bins with two.
    factors = _grid(40, 32)
    bits = [np.log(20) / np.log(40), 1 - (12 / 16) * np.log(2) / np.log(32)]
    np.testing.assert_allclose(mig(factors, factors)["mig_per_factor"], bits, rtol=1e-12)


def test_useless_codes_score_near_zero():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(size, size=10_000) for size in (3, 6, 10)], axis=1)
    found = mig(rng.normal(size=(10_000, 6)), factors)
    assert 0 <= found["mig"] < 0.005


def test_duplicated_codes_have_no_gap():
    codes, factors = _noisy()
    twice = np.concatenate([codes, codes], axis=1)
    assert mig(twice, factors)["mig"] == 0.0
    found = nmi(twice, factors)
    np.testing.assert_array_equal(found["nmi1"], found["nmi2"])
    assert found["nmi1"].min() > 0.1
    assert mig(codes, factors)["mig"] > 0.1


def test_diffusion_raises_nmi2_and_leaves_nmi1():
    codes, factors = _noisy()
    before = nmi(codes[:, :3], factors)
    other = factors[:, :1] + np.random.default_rng(1).normal(size=(1500, 1))
    after = nmi(np.concatenate([codes[:, :3], other], axis=1), factors)
    np.testing.assert_array_equal(after["nmi1"], before["nmi1"])
    assert after["nmi2"][0] > before["nmi2"][0] + 0.2
    np.testing.assert_allclose(after["nmi2"][1:], before["nmi2"][1:], atol=0.05)


def test_nmi_parts_belong_together():
    codes, factors = _noisy()
    found = metrics.compute("nmi", codes, factors)
    assert found["nmi"].shape == (6, 3)
    np.testing.assert_array_equal(found["nmi"][found["nmi1_latent"], np.arange(3)], found["nmi1"])
    np.testing.assert_array_equal(np.sort(found["nmi"], axis=0)[-2], found["nmi2"])
    np.testing.assert_array_equal(found["nmi"][5], 0.0)
    np.testing.assert_array_equal(found["nmi1_latent"][1:], [1, 2])
    gaps = mig(codes, factors)["mig_per_factor"]
    np.testing.assert_array_equal(found["nmi1"] - found["nmi2"], gaps)


def test_order_of_latents_and_samples_does_not_matter():
    codes, factors = _noisy()
    rng = np.random.default_rng(2)
    latents, samples = rng.permutation(6), rng.permutation(len(codes))
    moved_codes, moved_factors = codes[samples][:, latents], factors[samples]
    found, moved = nmi(codes, factors), nmi(moved_codes, moved_factors)
    np.testing.assert_array_equal(moved["nmi"], found["nmi"][latents])
    np.testing.assert_array_equal(latents[moved["nmi1_latent"]], found["nmi1_latent"])
    assert mig(moved_codes, moved_factors)["mig"] == mig(codes, factors)["mig"]


def test_positive_affine_maps_of_codes_do_not_matter():
    codes, factors = _noisy()
    found = nmi(codes, factors)["nmi"]
    np.testing.assert_array_equal(nmi(codes * 2.0 ** np.arange(-3, 3), factors)["nmi"], found)
    mapped = codes * [0.7, 3.1, 11.0, 1e-3, 1e3, 1] + [5, -2, 0.1, 0, 9, -1]
    np.testing.assert_allclose(nmi(mapped, factors)["nmi"], found, atol=1e-6)


def test_one_latent_has_no_second():
    factors = _grid(4, 3)
    found = nmi(factors[:, :1], factors)
    np.testing.assert_allclose(found["nmi1"], [1, 0], atol=1e-12)
    np.testing.assert_array_equal(found["nmi2"], [0, 0])
    assert mig(factors[:, :1], factors)["mig"] == pytest.approx(0.5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["mig", "nmi"])
def test_constant_codes_score_zero(name):
    factors = _grid(4, 3)
    for value in metrics.compute(name, np.zeros((12, 5), np.float32), factors).values():
        np.testing.assert_array_equal(value, np.zeros_like(value))


@pytest.mark.parametrize("metric", [mig, nmi])
def test_constant_factor_is_named(metric):
    codes, factors = _noisy()
    factors[:, 1] = 7
    with pytest.raises(ValueError, match=r"^factor 1 is constant in the sample.*leave it out$"):
        metric(codes, factors)


def test_unknown_metric_lists_the_known():
    with pytest.raises(ValueError, match=r"^unknown metric 'migg'; known: .*mig.*nmi.*$") as error:
        metrics.compute("migg", np.zeros((2, 1)), np.zeros((2, 1), int))
    assert "\n" not in str(error.value)


CODES, FACTORS = np.arange(12.0).reshape(6, 2), np.arange(18).reshape(6, 3)


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (CODES[:, 0], FACTORS, r"codes must be a non-empty \[N, D\] array, got shape \(6,\)"),
        (CODES[:0], FACTORS[:0], r"codes must be a non-empty \[N, D\] array, got shape \(0, 2\)"),
        (CODES, FACTORS[:, 0], r"factors must be a non-empty \[N, F\] array, got shape \(6,\)"),
        (CODES, FACTORS[:5], r"same N, got \(6, 2\) and \(5, 3\)"),
        (CODES.T, FACTORS, r"same N, got \(2, 6\) and \(6, 3\)"),
        (np.where(CODES == 7, np.nan, CODES), FACTORS, r"codes must be finite, got nan in row 3, latent 1"),
        (np.where(CODES == 4, np.inf, CODES), FACTORS, r"codes must be finite, got inf in row 2, latent 0"),
        (CODES.astype(complex), FACTORS, r"codes must be real numbers, got dtype complex128"),
        (CODES, FACTORS * 0.5, r"factors must be integers unless declared continuous, got 0.5 in row 0, factor 1"),
        (CODES, FACTORS - [0, 2, 0], r"factors must be >= 0, got -1 in column 1"),
    ],
)
@pytest.mark.parametrize("name", ["mig", "nmi"])
def test_inputs_are_checked(name, codes, factors, message):
    with pytest.raises(ValueError, match=message) as error:
        metrics.compute(name, codes, factors)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        metrics.get(name)(codes, factors)

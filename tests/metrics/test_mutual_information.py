"""Bins, entropy and mutual information: closed forms, NumPy's histogram, scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from deft_jax.metrics import mutual_information

SIZES = (3, 6, 40, 32)


def _sample(num_samples=2000, dtype=np.float64):
    """Codes with no, partial and full information on factors, and one constant code (the last)."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(size, size=num_samples) for size in SIZES], axis=1)
    noise = rng.normal(size=(num_samples, 3))
    columns = [noise[:, 0], factors[:, 2] + 3 * noise[:, 1], factors[:, 0] * factors[:, 1] + noise[:, 2]]
    codes = np.stack([*columns, factors[:, 3], np.zeros(num_samples)], axis=1)
    return codes.astype(dtype), factors


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("num_bins", [1, 2, 7, 20])
def test_bins_are_those_of_histogram_and_digitize(dtype, num_bins):
    codes = _sample(dtype=dtype)[0] * dtype(3)
    expected = [np.digitize(code, np.histogram(code, num_bins)[1][:-1]) - 1 for code in codes.T]
    bins = mutual_information.discretise(codes, num_bins)
    np.testing.assert_array_equal(bins, np.stack(expected, axis=1))
    assert bins.min() == 0
    assert bins.max() == num_bins - 1 or num_bins == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bins_of_values_on_an_edge_are_those_of_histogram_and_digitize(dtype):
    # 21 evenly spaced values and 20 bins: every value is an edge up to rounding, so the edges' dtype decides.
    codes = (np.arange(21)[:, None] * np.linspace(0.1, 3, 60) - 1).astype(dtype)
    expected = [np.digitize(code, np.histogram(code, 20)[1][:-1]) - 1 for code in codes.T]
    np.testing.assert_array_equal(mutual_information.discretise(codes, 20), np.stack(expected, axis=1))


def test_range_of_a_few_float_steps_has_distinct_bins():
    codes = np.float32(1) + np.float32(2**-23) * np.arange(3, dtype=np.float32)[:, None]
    bins = mutual_information.discretise(codes, 20)
    assert bins[0] < bins[1] < bins[2]
    assert bins[2] == 19


def test_half_precision_has_the_bins_of_double():
    codes = _sample()[0].astype(np.float16)
    wide = mutual_information.discretise(codes.astype(np.float64))
    np.testing.assert_array_equal(mutual_information.discretise(codes), wide)


def test_mutual_information_equals_scikit_learn():
    codes, factors = _sample()
    bins = mutual_information.discretise(codes)
    expected = [[mutual_info_score(b, v) for v in factors.T] for b in bins.T]
    np.testing.assert_allclose(mutual_information.mutual_information(bins, factors), expected, rtol=0, atol=1e-6)
    assert np.max(expected) > 1  # the comparison is not of zeros


def test_information_does_not_depend_on_the_numbering_of_labels():
    _, factors = _sample()
    sparse = factors * 10**15 + 7
    bins = factors[:, ::-1]
    np.testing.assert_array_equal(
        mutual_information.mutual_information(bins, sparse), mutual_information.mutual_information(bins, factors)
    )
    np.testing.assert_array_equal(mutual_information.entropy(sparse), mutual_information.entropy(factors))


def test_narrow_integers_do_not_overflow():
    _, factors = _sample()
    narrow = factors.astype(np.uint8)
    np.testing.assert_array_equal(
        mutual_information.mutual_information(narrow, narrow), mutual_information.mutual_information(factors, factors)
    )


def test_entropy_has_closed_forms():
    uniform = np.arange(24)
    quarter = np.arange(24) % 4 == 0
    factors = np.stack([uniform, uniform % 6, quarter, np.zeros(24)], axis=1).astype(int)
    quarter_entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    np.testing.assert_allclose(
        mutual_information.entropy(factors), [np.log(24), np.log(6), quarter_entropy, 0], rtol=1e-12, atol=0
    )


def test_independent_and_constant_columns_have_zero_information():
    grid = np.stack(np.meshgrid(range(3), range(7), range(5), indexing="ij"), axis=-1).reshape(-1, 3)
    with_constant = np.concatenate([grid, np.full((len(grid), 1), 4)], axis=1)
    information = mutual_information.mutual_information(with_constant, with_constant)
    np.testing.assert_array_equal(information[~np.eye(4, dtype=bool)], 0.0)
    np.testing.assert_array_equal(information[3], 0.0)
    np.testing.assert_allclose(np.diag(information)[:3], np.log([3, 7, 5]), rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, -0.3, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("error")
def test_constant_code_has_no_information(constant, dtype):
    codes, factors = _sample(dtype=dtype)
    codes[:, -1] = constant
    information = mutual_information.mutual_information(mutual_information.discretise(codes), factors)
    np.testing.assert_array_equal(information[-1], 0.0)
    assert np.isfinite(information).all()


@pytest.mark.parametrize("num_bins", [0, -1, 2.5, True, "20"])
def test_number_of_bins_is_checked(num_bins):
    with pytest.raises(ValueError, match="num_bins must be an integer >= 1"):
        mutual_information.discretise(np.ones((4, 2)), num_bins)


def test_labels_are_checked():
    good = np.zeros((4, 2), int)
    with pytest.raises(ValueError, match=r"factors must be integers, got dtype float64"):
        mutual_information.mutual_information(good, good.astype(float))
    with pytest.raises(ValueError, match=r"bins must be >= 0, got -3 in column 1"):
        mutual_information.mutual_information(good - [0, 3], good)
    with pytest.raises(ValueError, match=r"same N: 4, 3"):
        mutual_information.mutual_information(good, good[:3])
    with pytest.raises(ValueError, match=r"factors must be a non-empty 2-d array, got shape \(4,\)"):
        mutual_information.entropy(good[:, 0])

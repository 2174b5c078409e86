"""Metrics that count classes: continuous and unusual labels, explicitness of ordered codes, InfoMEC's estimators."""

import tracemalloc

import numpy as np
import pytest

from deft_jax import metrics
from deft_jax.evaluation import scores
from deft_jax.metrics.infomec import infomec
from deft_jax.metrics.irs import irs
from deft_jax.metrics.mig import mig
from deft_jax.metrics.mig_posterior import mig_posterior
from deft_jax.metrics.modularity_explicitness import modularity_explicitness
from deft_jax.metrics.nmi import nmi


def _posterior(codes, factors, **options):
    return mig_posterior(codes, factors, np.full(codes.shape, -9.0), **options)


# Metric, key of its score, score of perfect codes of continuous factors at least.
BINNING = [(mig, "mig", 0.95), (nmi, "nmi1", 0.999), (_posterior, "mig_posterior", 0.8), (irs, "irs", 0.85)]
BY_BINS = pytest.mark.parametrize(("metric", "key", "least"), BINNING)
OF_CLASSES = pytest.mark.parametrize("metric", [mig, nmi, _posterior, irs, modularity_explicitness, infomec])


def _ordered(num_samples=3_000, sizes=(3, 6, 40, 32, 32), seed=0):
    """Factors, and one latent for each that takes its values in order."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(size, size=num_samples) for size in sizes], axis=1)
    return factors.astype(np.float64), factors


def _uniform(num_samples=2_000, num_factors=2, seed=0):
    factors = np.random.default_rng(seed).uniform(size=(num_samples, num_factors))
    return factors[:, ::-1] * [2.0, -1.0], factors


# --- explicitness


def test_codes_that_order_the_values_are_explicit():
    codes, factors = _ordered(10_000)
    found = modularity_explicitness(codes, factors)
    assert 0.92 <= found["explicitness_test"] <= 1
    assert found["explicitness_test_per_factor"].min() > 0.85
    np.testing.assert_allclose(found["explicitness_test_per_factor"][0], 1)


def test_separate_probabilities_rank_along_one_direction():
    sizes = (3, 6, 10)
    codes, factors = _ordered(3_000, sizes)
    found, other = (modularity_explicitness(codes, factors, probabilities=p) for p in ("separate", "normalised"))
    # The k-th of K values then has an area of max(k, K - 1 - k) / (K - 1).
    areas = [np.mean([max(k, size - 1 - k) / (size - 1) for k in range(size)]) for size in sizes]
    np.testing.assert_allclose(found["explicitness_test_per_factor"], areas, atol=0.03)
    assert (other["explicitness_test_per_factor"] > found["explicitness_test_per_factor"] + 0.1).all()
    assert other["modularity"] == found["modularity"]


def test_normalising_changes_nothing_for_two_values():
    rng = np.random.default_rng(0)
    factors = rng.integers(2, size=(300, 2))
    codes = factors + rng.normal(size=(300, 2))
    first, second = (modularity_explicitness(codes, factors, probabilities=p) for p in ("normalised", "separate"))
    np.testing.assert_allclose(first["explicitness_test_per_factor"], second["explicitness_test_per_factor"])
    assert 0.6 < first["explicitness_test"] < 0.95


def test_explicitness_leaves_the_global_random_state_alone():
    codes, factors = _ordered(200, (3, 4))
    state = np.random.get_state()  # noqa: NPY002
    modularity_explicitness(codes, factors, seed=5)
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(after[1], state[1])
    assert after[2] == state[2]


def test_one_value_in_both_parts_is_scored():
    rows = np.random.default_rng(0).permutation(40)
    factors = np.empty((40, 1), int)
    factors[rows, 0] = np.r_[np.tile([0, 1], 10), np.tile([1, 2], 10)]
    found = modularity_explicitness(factors - 1.0, factors, num_train=20)
    assert found["explicitness_train"] == 1
    assert found["explicitness_test"] == 0  # value 2, which the fit never saw, lies beyond 1 and is taken for it


def test_rows_of_one_image_stay_in_one_part():
    rng = np.random.default_rng(1)
    image = rng.integers(40, size=400)  # each of 40 images about ten times
    label = rng.integers(2, size=(40, 1))  # nothing to learn but the image itself
    looks = rng.normal(size=(40, 30))
    leaking = modularity_explicitness(looks[image], label[image])
    held_out = modularity_explicitness(looks[image], label[image], groups=image)
    assert leaking["explicitness_test"] > 0.95
    assert held_out["explicitness_test"] < 0.85
    assert held_out["num_distinct_train"] + held_out["num_distinct_test"] == 40
    assert leaking["num_distinct_train"] + leaking["num_distinct_test"] > 60
    with pytest.raises(ValueError, match="groups must hold one number per row"):
        modularity_explicitness(looks[image], label[image], groups=image[:-1])


def test_unknown_probabilities_are_refused():
    with pytest.raises(ValueError, match="probabilities must be 'normalised' or 'separate', got 'raw'"):
        modularity_explicitness(*_ordered(60, (2, 3)), probabilities="raw")


# --- continuous labels


@BY_BINS
def test_perfect_codes_of_continuous_factors_score_high(metric, key, least):
    codes, factors = _uniform()
    found = metric(codes, factors)
    assert np.min(found[key]) > least
    np.testing.assert_array_equal(found["binned_factors"], [0, 1])
    # Continuous, declared, is what was detected.
    np.testing.assert_array_equal(metric(codes, factors, continuous=[True, True])[key], found[key])


def test_mig_of_a_perfect_continuous_code_is_what_two_independent_latents_leave():
    codes, factors = _uniform(10_000)
    assert mig(codes, factors)["mig"] == pytest.approx(0.989, abs=0.01)
    # Without bins each value is a class of its own, which any latent knows.
    classes = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)
    assert mig(codes, classes, continuous=False)["mig"] < 0.05


@BY_BINS
def test_classes_beside_a_continuous_factor_are_as_they_were(metric, key, least):
    rng = np.random.default_rng(2)
    factors = np.stack([rng.integers(4, size=2_000), rng.uniform(size=2_000)], axis=1)
    codes = factors * [1.0, 3.0] + 0.1 * rng.normal(size=(2_000, 2))
    found = metric(codes, factors)
    np.testing.assert_array_equal(found["binned_factors"], [1])
    name = {"mig": "mig_per_factor", "nmi1": "nmi1", "mig_posterior": "mig_posterior_per_factor"}.get(key)
    alone = metric(codes, factors[:, :1].astype(int))
    assert "binned_factors" not in alone
    if name is not None:
        assert found[name][0] == pytest.approx(alone[name][0], abs=1e-12)


@BY_BINS
def test_equal_width_bins_by_hand_give_the_same(metric, key, least):
    codes, factors = _uniform()
    bins = np.stack([np.digitize(x, np.histogram(x, 8)[1][1:-1]) for x in factors.T], axis=1)
    first, second = metric(codes, factors, num_bins=8), metric(codes, bins, num_bins=8)
    np.testing.assert_allclose(first[key], second[key], atol=1e-12)


def test_explicitness_is_refused_for_a_continuous_factor():
    rng = np.random.default_rng(3)
    factors = np.stack([rng.integers(3, size=500), rng.uniform(size=500)], axis=1)
    with pytest.raises(ValueError, match=r"factor 1 is continuous .*classes only") as error:
        modularity_explicitness(factors, factors)
    assert "\n" not in str(error.value)
    assert modularity_explicitness(factors, factors[:, :1])["explicitness_test"] == 1  # classes that came as floats


@OF_CLASSES
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([["red"], ["blue"]] * 30), "factors must be integers, got dtype <U4"),
        (np.array([["red"], ["blue"]] * 30, object), "factors must be integers, got dtype object"),
        (np.where(np.arange(60)[:, None] == 7, np.nan, 1.0 * (np.arange(60)[:, None] % 3)), "finite, got nan in row 7"),
        (np.where(np.arange(60)[:, None] == 5, np.inf, np.linspace(0, 1, 60)[:, None]), "finite, got inf in row 5"),
        (np.tile([[0.5], [1.5]], (30, 1)), "factors must be integers unless declared continuous, got 0.5 in row 0"),
    ],
)
def test_labels_that_are_no_numbers_are_refused_in_one_line(metric, labels, message):
    codes = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(ValueError, match=message) as error:
        metric(codes, labels)
    assert "\n" not in str(error.value)


# --- InfoMEC


def test_infomec_names_its_estimator():
    rng = np.random.default_rng(4)
    factors = rng.integers(3, size=(200, 2))
    codes = factors + 0.3 * rng.normal(size=(200, 2))
    assert infomec(codes, factors)["estimator"] == "knn"
    for estimator in ("knn", "binned", "discrete"):
        found = infomec(np.round(codes), factors, estimator=estimator)
        assert found["estimator"] == estimator
        numbers = scores.headlines({"infomec": found})
        assert set(numbers) == {"infom", "infoc", "infoe"}
    np.testing.assert_array_equal(infomec(codes, factors)["nmi"], infomec(codes, factors, estimator="knn")["nmi"])


def test_infomec_bins_what_would_take_neighbours_too_long():
    rng = np.random.default_rng(5)
    factors = rng.integers(2, size=(40_001, 1))
    codes = np.zeros((40_001, 100))
    codes[:, 0] = factors[:, 0] + rng.normal(size=40_001)
    assert infomec(codes, factors)["estimator"] == "binned"
    assert infomec(codes[:1_000], factors[:1_000])["estimator"] == "knn"


@pytest.mark.parametrize(("estimator", "named"), [("knn", False), ("binned", True)])
def test_infomec_of_continuous_labels_needs_no_declaration(estimator, named):
    codes, factors = _uniform(2_000)
    found = infomec(codes, factors, estimator=estimator)
    assert min(found["infom"], found["infoc"]) > 0.9
    assert found["infoe"] == pytest.approx(1)  # the R^2 of a linear code
    assert ("binned_factors" in found) == named


def test_one_latent_value_per_row_takes_little_memory():
    rng = np.random.default_rng(6)
    codes, factors = rng.normal(size=(10_000, 2)), rng.integers(2, size=(10_000, 1))
    tracemalloc.start()
    try:
        found = infomec(codes, factors, estimator="discrete")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2e8  # dense, 20,000 columns take 1.6e9 bytes
    np.testing.assert_allclose(found["nmi"], 1, atol=1e-9)


def test_headlines_leave_words_and_counts_out():
    codes, factors = _ordered(300, (3, 4))
    found = metrics.compute("modularity_explicitness", codes, factors)
    assert set(scores.headlines({"m": found})) == {"modularity", "explicitness_train", "explicitness_test"}
    assert scores.headlines({"m": {"score": 1, "word": "knn"}}) == {"score": 1.0}

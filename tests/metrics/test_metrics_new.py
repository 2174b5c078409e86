"""MCC, R^2, DCI-ES, MIG-sup, JEMMIG, DCIMIG and pairwise information: closed forms, references, symmetries."""

import itertools

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import sklearn.ensemble
import sklearn.linear_model
import sklearn.metrics

from deft_jax import metrics
from deft_jax.metrics import dci_es as dci_es_file
from deft_jax.metrics import inputs, mutual_information
from deft_jax.metrics.dci_es import dci_es
from deft_jax.metrics.dcimig import dcimig
from deft_jax.metrics.jemmig import jemmig
from deft_jax.metrics.latent_mutual_information import latent_mutual_information
from deft_jax.metrics.mcc import mcc
from deft_jax.metrics.mig_sup import mig_sup
from deft_jax.metrics.r2 import r2

OF_BINS = (mig_sup, jemmig, dcimig)
OF_SAMPLES = ("mcc", "r2", "dci_es", "mig_sup", "jemmig", "dcimig")
LOG_BINS = np.log(20)


def _grid(*sizes):
    """Every combination of factors once: [prod(sizes), F]."""
    return np.stack(np.meshgrid(*map(range, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))


def _noisy(num_samples=900, seed=0):
    """Five codes: three follow a factor each with noise, one follows two, one is noise."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(size, size=num_samples) for size in (3, 5, 8)], axis=1)
    mixing = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0.0]])
    return factors @ mixing + rng.normal(size=(num_samples, 5)) * [0.3, 0.5, 2, 1, 1], factors


def _rotated():
    """Two binary factors, all combinations, and codes turned by 45 degrees."""
    factors = _grid(2, 2)
    return factors @ np.array([[1, 1], [1, -1]]), factors


# ---- metrics of binned codes: closed forms ----


@pytest.mark.parametrize("metric", OF_BINS)
def test_perfect_codes_score_one(metric):
    factors = _grid(3, 6, 20)
    found = metric(-2.5 * factors + 7, factors)
    assert found[metric.__name__] == pytest.approx(1, abs=1e-12)


def test_rotated_codes():
    # a + b has 1/2 bit of either factor, and so has a - b; their entropies are 3/2 bit.
    codes, factors = _rotated()
    assert mig_sup(codes, factors)["mig_sup"] == pytest.approx(0, abs=1e-12)
    assert dcimig(codes, factors)["dcimig"] == pytest.approx(0, abs=1e-12)
    found = jemmig(codes, factors)
    np.testing.assert_allclose(found["jemmig_nats_per_factor"], 2 * np.log(2))
    assert found["jemmig"] == pytest.approx(1 - 2 * np.log(2) / (np.log(2) + LOG_BINS))


def test_duplicated_codes():
    factors = _grid(3, 6)
    codes = np.concatenate([factors, factors], axis=1)
    assert mig_sup(codes, factors)["mig_sup"] == pytest.approx(1)
    assert dcimig(codes, factors)["dcimig"] == pytest.approx(1)
    entropy = np.log([3, 6])
    found = jemmig(codes, factors)
    np.testing.assert_allclose(found["jemmig_nats_per_factor"], entropy)
    np.testing.assert_allclose(found["jemmig_per_factor"], LOG_BINS / (entropy + LOG_BINS))


def test_useless_codes():
    # The third column of the grid is exactly independent of the first two.
    factors, codes = np.split(_grid(3, 6, 5), [2], axis=1)
    assert mig_sup(codes, factors)["mig_sup"] == 0
    assert dcimig(codes, factors)["dcimig"] == 0
    entropy = np.log([3, 6])
    found = jemmig(codes, factors)
    np.testing.assert_allclose(found["jemmig_per_factor"], 1 - (entropy + np.log(5)) / (entropy + LOG_BINS))


@pytest.mark.filterwarnings("error")
def test_constant_codes():
    factors = _grid(3, 6)
    codes = np.full((18, 4), 0.1, np.float32)
    found = mig_sup(codes, factors)
    assert (found["mig_sup"], found["mig_sup_num_active"]) == (0, 0)
    np.testing.assert_array_equal(found["mig_sup_factor"], -1)
    assert dcimig(codes, factors)["dcimig"] == 0
    entropy = np.log([3, 6])
    np.testing.assert_allclose(jemmig(codes, factors)["jemmig_per_factor"], LOG_BINS / (entropy + LOG_BINS))


def test_one_latent_that_holds_two_factors():
    factors = _grid(3, 4)
    codes = factors @ [[4], [1]]
    assert mig_sup(codes, factors)["mig_sup"] == pytest.approx(0, abs=1e-12)
    # It knows all of both, log 3 and log 4; the gap goes to the second.
    found = dcimig(codes, factors)
    assert found["dcimig"] == pytest.approx(np.log(4 / 3) / np.log(12))
    np.testing.assert_allclose(found["dcimig_per_factor"], [0, np.log(4 / 3) / np.log(4)])
    assert metrics.compute("mig", codes, factors)["mig"] == pytest.approx(1)


def test_constant_latents_change_neither_mig_sup_nor_dcimig():
    codes, factors = _noisy()
    wider = np.insert(codes, [0, 3], 0.5, axis=1)
    assert mig_sup(wider, factors)["mig_sup"] == mig_sup(codes, factors)["mig_sup"]
    assert dcimig(wider, factors)["dcimig"] == dcimig(codes, factors)["dcimig"]


@pytest.mark.parametrize("metric", OF_BINS)
def test_codes_of_any_real_type_count_the_same(metric):
    factors = _grid(2, 2, 2)
    for dtype in (bool, np.uint8, np.float32):
        assert metric(factors.astype(dtype), factors)[metric.__name__] == pytest.approx(1)


def test_mig_sup_leaves_out_latents_of_low_variance():
    codes, factors = _noisy()
    narrow = codes * [1, 1, 1, 1, 0.05]
    found = mig_sup(narrow, factors, min_variance=0.01)
    assert found["mig_sup"] == pytest.approx(mig_sup(codes[:, :4], factors)["mig_sup"])
    assert found["mig_sup_num_active"] == 4
    np.testing.assert_array_equal(found["mig_sup_factor"][[0, 1, 2, 4]], [0, 1, 2, -1])
    assert mig_sup(narrow, factors)["mig_sup_num_active"] == 5


def test_one_factor_has_no_second():
    factors = _grid(4, 3)
    for metric in OF_BINS:
        assert metric(factors[:, :1], factors[:, :1])[metric.__name__] == pytest.approx(1)


def test_jemmig_takes_the_lowest_joint_entropy_among_equals():
    # Columns 1 and 2 of the grid, with 5 and 2 values, are both independent of the factor.
    grid = _grid(3, 5, 2)
    for order in ([1, 2], [2, 1]):
        found = jemmig(grid[:, order], grid[:, :1])
        assert found["jemmig_latent"] == [order.index(2)]
        assert found["jemmig_nats_per_factor"] == pytest.approx(np.log(3) + np.log(2))


# ---- metrics of binned codes: other implementations ----


def _golden():
    i = np.arange(600)
    factors = np.stack([i % 3, (i // 3) % 5, (i // 15) % 8], axis=1)
    columns = [
        factors[:, 0] + 0.4 * np.sin(i),
        factors[:, 1] + 0.8 * np.cos(3 * i),
        0.5 * factors[:, 2] + factors[:, 0] + 0.3 * np.sin(5 * i),
        np.cos(7 * i),
    ]
    return np.stack(columns, axis=1), factors


# From the functions jemmig, dcimig and mig_sup of ubisoft/ubisoft-laforge-DisentanglementMetrics (src/metrics), called
# with factors and codes of _golden(), continuous_factors=False and nb_bins as below; pyitlib 0.3.1, numpy 1.23.5.
@pytest.mark.parametrize(
    ("num_bins", "expected_jemmig", "expected_dcimig", "expected_mig_sup"),
    [
        (10, 0.4688138459908511, 0.5164351542043046, 0.2730604997844693),
        (20, 0.4308221931156033, 0.5491984493273568, 0.23281814662451653),
    ],
)
def test_code_of_the_survey_gives_the_same(num_bins, expected_jemmig, expected_dcimig, expected_mig_sup):
    codes, factors = _golden()
    assert jemmig(codes, factors, num_bins)["jemmig"] == pytest.approx(expected_jemmig, abs=1e-9)
    assert dcimig(codes, factors, num_bins)["dcimig"] == pytest.approx(expected_dcimig, abs=1e-9)
    # There the gap is a share of the entropy of the binned latent instead of the factor's, which swaps the two sides.
    bins = mutual_information.discretise(codes, num_bins)
    known_DxF = mutual_information.mutual_information(bins, factors)
    second, first = np.sort(known_DxF / mutual_information.entropy(bins)[:, None], axis=1)[:, -2:].T
    assert (first - second).mean() == pytest.approx(expected_mig_sup, abs=1e-9)


@pytest.mark.parametrize("num_bins", [5, 20])
def test_literal_definitions_give_the_same(num_bins):
    codes, factors = _noisy()
    bins = np.stack([np.digitize(code, np.histogram(code, num_bins)[1][:-1]) for code in codes.T], axis=1)
    info = sklearn.metrics.mutual_info_score
    known = np.array([[info(b, v) for v in factors.T] for b in bins.T])
    entropy = np.array([info(v, v) for v in factors.T])

    shares = np.sort(known / entropy, axis=1)
    assert mig_sup(codes, factors, num_bins)["mig_sup"] == pytest.approx((shares[:, -1] - shares[:, -2]).mean())

    scores = []
    for f, factor in enumerate(factors.T):
        second, first = np.argsort(known[:, f])[-2:]
        joint = bins[:, first] * 100 + factor
        gap = info(joint, joint) - known[first, f] + known[second, f]
        scores.append(1 - gap / (entropy[f] + np.log(num_bins)))
    np.testing.assert_allclose(jemmig(codes, factors, num_bins)["jemmig_per_factor"], scores)

    credit = np.zeros(3)
    for row in known:
        second, first = np.argsort(row)[-2:]
        credit[first] = max(credit[first], row[first] - row[second])
    assert dcimig(codes, factors, num_bins)["dcimig"] == pytest.approx(credit.sum() / entropy.sum())


# ---- MCC ----


def test_mcc_of_perfect_rotated_duplicated_and_constant_codes():
    factors = _grid(3, 6, 4)
    found = mcc((factors * [-2, 1e-3, 50] + 1e3)[:, [2, 0, 1]], factors)
    assert found["mcc"] == pytest.approx(1)
    np.testing.assert_array_equal(found["mcc_assignment"], [1, 2, 0])
    assert found["mcc_correlation"][1, 0] == pytest.approx(-1)
    assert mcc(*_rotated())["mcc"] == pytest.approx(np.sqrt(0.5))
    assert mcc(np.concatenate([factors, factors], axis=1), factors)["mcc"] == pytest.approx(1)
    assert mcc(np.full((72, 3), 0.1), factors)["mcc"] == 0
    assert mcc(factors[:, 2:], factors[:, :2])["mcc"] == pytest.approx(0, abs=1e-12)


def test_factors_without_a_latent_count_zero_and_latents_without_a_factor_do_not_count():
    factors = _grid(3, 6)
    found = mcc(factors[:, 1:], factors)
    assert found["mcc"] == pytest.approx(0.5)
    np.testing.assert_array_equal(found["mcc_assignment"], [-1, 0])
    np.testing.assert_allclose(found["mcc_per_factor"], [0, 1])
    wider = np.insert(factors, [0, 1], 3, axis=1)  # two constant latents
    assert mcc(wider, factors)["mcc"] == pytest.approx(1)


def test_mcc_is_the_best_of_all_matchings():
    rng = np.random.default_rng(0)
    for _ in range(20):
        factors = rng.integers(5, size=(30, 3))
        codes = factors @ rng.normal(size=(3, 4)) + rng.normal(size=(30, 4))
        table = np.abs(np.corrcoef(codes.T, factors.T)[:4, 4:])
        best = max(table[list(chosen), range(3)].mean() for chosen in itertools.permutations(range(4), 3))
        assert mcc(codes, factors)["mcc"] == pytest.approx(best)


def test_spearman_ignores_monotone_maps():
    factors = _grid(5, 7)
    codes = np.exp(factors * [3.0, -2.0])
    assert mcc(codes, factors, correlation="spearman")["mcc"] == pytest.approx(1)
    assert mcc(codes, factors)["mcc"] < 0.8


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_mcc_is_that_of_ice_beem(correlation):
    # Its mean_corr_coef_np (metrics/mcc.py of ilkhem/icebeem) in the same calls of numpy and scipy.
    codes, factors = _noisy()
    if correlation == "pearson":
        table = np.corrcoef(codes, factors, rowvar=False)[:5, 5:]
    else:
        table = scipy.stats.spearmanr(codes, factors)[0][:5, 5:]
    expected = np.abs(table)[scipy.optimize.linear_sum_assignment(-np.abs(table))].mean()
    found = mcc(codes, factors, correlation=correlation)
    assert found["mcc"] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(found["mcc_correlation"], table, atol=1e-12)


def test_unknown_correlation_is_refused():
    with pytest.raises(ValueError, match=r"^correlation must be 'pearson' or 'spearman', got 'kendall'$"):
        mcc(*_noisy(), correlation="kendall")


# ---- R^2 ----


def test_r2_of_linear_maps_is_one_and_of_less_is_what_is_left():
    factors = _grid(8, 8, 8)
    rng = np.random.default_rng(0)
    found = r2(factors @ rng.normal(size=(3, 5)) - 4, factors)
    assert found["r2"] == pytest.approx(1)
    assert (found["num_distinct_train"], found["num_distinct_test"]) == (341, 171)
    found = r2(factors[:, :1] * 2, factors)
    assert found["r2_per_factor"][0] == pytest.approx(1)
    assert found["r2_per_factor"][1:].max() < 0.01
    twice = np.concatenate([factors, factors], axis=1)
    assert r2(twice, factors)["r2"] == pytest.approx(1)


def test_r2_of_constant_codes_is_the_offset_of_the_means():
    factors = _grid(8, 5)
    train, test = inputs.split(40, None, 3, np.arange(40))
    offset = factors[train].mean(axis=0) - factors[test].mean(axis=0)
    found = r2(np.full((40, 2), 0.3), factors, seed=3)
    np.testing.assert_allclose(found["r2_per_factor"], -(offset**2) / factors[test].var(axis=0))


def test_r2_is_that_of_scikit_learn():
    codes, factors = _noisy()
    train, test = inputs.split(len(codes), 500, 7, np.arange(len(codes)))
    model = sklearn.linear_model.LinearRegression().fit(codes[train], factors[train])
    expected = sklearn.metrics.r2_score(factors[test], model.predict(codes[test]), multioutput="raw_values")
    found = r2(codes, factors, num_train=500, seed=7)
    np.testing.assert_allclose(found["r2_per_factor"], expected)
    assert found["r2"] == pytest.approx(expected.mean())


@pytest.mark.parametrize("name", ["r2", "dci_es"])
def test_repeated_images_do_not_meet_across_the_split(name):
    # 40 images with codes of noise: what repeats could be known by heart.
    rng = np.random.default_rng(0)
    codes, factors = rng.normal(size=(40, 20)), rng.integers(4, size=(40, 2))
    rows = np.tile(np.arange(40), 15)
    found = metrics.compute(name, codes[rows], factors[rows], groups=rows)
    assert found["num_distinct_train"] + found["num_distinct_test"] == 40
    score = found["r2"] if name == "r2" else found["dci_es_informativeness"]
    assert score < 0.5
    train, test = inputs.split(600, None, 0)
    assert set(rows[test]) <= set(rows[train])


# ---- DCI-ES ----


def test_explicitness_of_curves():
    depths = (1, 2, 5)
    explicitness = dci_es_file._explicitness
    assert explicitness(depths, [0.3, 0.3, 0.3], 0.8) == 1
    assert explicitness(depths, [0.8, 0.6, 0.0], 0.8) == pytest.approx(0)  # a straight line
    assert explicitness(depths, [0.8, 0.0, 0.0], 0.8) == pytest.approx(1 - 1 / 4)
    assert explicitness(depths, [0.8, 0.8, 0.0], 0.8) == pytest.approx(1 - 2 * (1 + 1.5) / 4)
    assert explicitness(depths, [0.4, 0.9, 0.4], 0.8) == 1  # a probe counts as well as the best smaller one


def test_explicitness_is_that_of_the_authors():
    # From the class in metrics/explitcitness.py of andreinicolicioiu/DCI-ES: add_curve(depths, losses, 5 / 6), then
    # get_explitcitness.
    losses = [0.7, 0.5, 0.52, 0.33, 0.2, 0.21, 0.15, 0.12, 0.12, 0.1, 0.11, 0.105]
    found = dci_es_file._explicitness(dci_es_file._DEPTHS, losses, 5 / 6)
    assert found == pytest.approx(0.8176774193548387, abs=1e-12)


def test_a_tree_cut_at_a_depth_is_the_tree_grown_to_it():
    codes, factors = _noisy(400)
    settings = {"n_estimators": 1, "bootstrap": False, "max_features": None, "random_state": 0}
    for family, target, predict in (
        (sklearn.ensemble.RandomForestClassifier, factors[:, 1], "predict_proba"),
        (sklearn.ensemble.RandomForestRegressor, codes[:, 1] ** 2, "predict"),
    ):
        whole = family(**settings, max_depth=8).fit(codes, target)
        cut = dci_es_file._outputs_by_depth(whole, codes, (1, 2, 4, 8))
        for outputs, depth in zip(cut, (1, 2, 4, 8), strict=True):
            grown = getattr(family(**settings, max_depth=depth).fit(codes, target), predict)(codes)
            np.testing.assert_allclose(outputs, grown.reshape(outputs.shape), atol=1e-12)


def test_a_forest_at_its_full_depth_is_itself():
    codes, factors = _noisy(400)
    forest = sklearn.ensemble.RandomForestClassifier(20, max_depth=32, random_state=0).fit(codes, factors[:, 2])
    [outputs] = dci_es_file._outputs_by_depth(forest, codes, (32,))
    np.testing.assert_allclose(outputs, forest.predict_proba(codes), atol=1e-12)


def test_forests_cut_at_a_depth_are_distributed_as_forests_grown_to_it():
    codes, factors = _noisy(300)
    settings = {"n_estimators": 300, "max_features": 2}
    cut = sklearn.ensemble.RandomForestClassifier(**settings, random_state=0).fit(codes, factors[:, 0])
    grown = sklearn.ensemble.RandomForestClassifier(**settings, max_depth=2, random_state=1).fit(codes, factors[:, 0])
    [outputs] = dci_es_file._outputs_by_depth(cut, codes, (2,))
    np.testing.assert_allclose(outputs, grown.predict_proba(codes), atol=0.08)
    np.testing.assert_allclose(outputs.mean(axis=0), grown.predict_proba(codes).mean(axis=0), atol=0.01)


def test_dci_es_of_binary_factors_that_one_cut_reads():
    factors = np.tile(_grid(2, 2), (100, 1))
    codes = factors + np.random.default_rng(0).uniform(-0.1, 0.1, size=factors.shape)
    found = dci_es(codes, factors, num_trees=20)
    assert (found["dci_es_explicitness"], found["dci_es_informativeness"], found["dci_es_size"]) == (1, 1, 1)
    twice = np.concatenate([codes, codes], axis=1)
    found = dci_es(twice, factors, num_trees=20)
    assert (found["dci_es_explicitness"], found["dci_es_informativeness"], found["dci_es_size"]) == (1, 1, 0.5)


@pytest.mark.filterwarnings("error")
def test_dci_es_of_constant_codes_is_explicit_and_not_informative():
    factors = np.stack([np.arange(300) % 3 // 2, np.arange(300) % 4], axis=1)
    found = dci_es(np.full((300, 2), 0.1), factors, num_trees=5)
    assert found["dci_es_explicitness"] == 1
    assert found["num_distinct_train"] + found["num_distinct_test"] == 300
    assert found["dci_es_informativeness"] < 0.8


def test_rotated_codes_need_more_capacity():
    rng = np.random.default_rng(0)
    factors = rng.integers(6, size=(1500, 2))
    codes = factors + rng.uniform(-0.3, 0.3, size=factors.shape)
    turned = codes @ np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    apart, mixed = dci_es(codes, factors, num_trees=20), dci_es(turned, factors, num_trees=20)
    assert apart["dci_es_informativeness"] > 0.99
    assert mixed["dci_es_informativeness"] > 0.8
    assert mixed["dci_es_explicitness"] < apart["dci_es_explicitness"] - 0.03


def test_dci_es_repeats_itself_with_any_number_of_workers():
    codes, factors = _noisy(300)
    one = dci_es(codes, factors, num_trees=5, num_workers=1)
    for found in (dci_es(codes, factors, num_trees=5, num_workers=3), dci_es(codes * 4, factors, num_trees=5)):
        np.testing.assert_array_equal(found["dci_es_loss"], one["dci_es_loss"])
    assert (dci_es(codes, factors, num_trees=5, seed=1)["dci_es_loss"] != one["dci_es_loss"]).any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"depths": (3,)}, r"depths must be two or more increasing integers, got \(3,\)"),
        ({"depths": (3, 3)}, r"depths must be two or more increasing integers, got \(3, 3\)"),
        ({"depths": (0, 3)}, r"depths\[0\] must be an integer >= 1, got 0"),
        ({"depths": 4}, r"depths must be two or more increasing integers, got \(4,\)"),
        ({"num_trees": 0}, r"num_trees must be an integer >= 1, got 0"),
        ({"num_workers": 0}, r"num_workers must be an integer >= 1, got 0"),
    ],
)
def test_options_of_dci_es_are_checked(given, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        dci_es(*_noisy(50), **given)


# ---- mutual information of latents ----


def test_information_of_pairs_has_closed_forms():
    grid = _grid(3, 6, 4)
    assert latent_mutual_information(grid)["latent_mutual_information"] == 0
    copies = np.concatenate([grid[:, :1], -grid[:, :1] * 3, grid[:, 1:2]], axis=1)
    found = latent_mutual_information(copies)
    assert found["latent_mutual_information"] == pytest.approx(np.log(3) / 3)
    expected = np.zeros((3, 3))
    expected[0, 1] = expected[1, 0] = np.log(3)
    np.testing.assert_allclose(found["latent_mutual_information_pairs"], expected)
    for alone in (grid[:, :1], np.full((72, 3), 0.1)):
        found = latent_mutual_information(alone)
        assert (found["latent_mutual_information"], found["latent_mutual_information_bias"]) == (0, 0)


def test_information_of_pairs_is_that_of_disentanglement_lib():
    # mutual_info_score of its unsupervised_metrics: pairs of binned latents by scikit-learn, the diagonal left out.
    codes, _ = _noisy()
    bins = np.stack([np.digitize(code, np.histogram(code, 20)[1][:-1]) for code in codes.T])
    table = np.array([[sklearn.metrics.mutual_info_score(a, b) for a in bins] for b in bins])
    expected = (table.sum() - np.trace(table)) / 20
    found = metrics.compute("latent_mutual_information", codes, None)
    assert found["latent_mutual_information"] == pytest.approx(expected, abs=1e-9)


def test_bias_of_independent_latents():
    codes = np.random.default_rng(0).uniform(size=(5000, 6))
    found = latent_mutual_information(codes)
    assert found["latent_mutual_information_bias"] == pytest.approx(19 * 19 / 10_000)
    assert found["latent_mutual_information"] == pytest.approx(19 * 19 / 10_000, rel=0.05)


def test_information_sees_dependence_without_correlation():
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, size=5000)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert latent_mutual_information(circle)["latent_mutual_information"] > 1
    assert metrics.compute("gaussian_total_correlation", circle, None)["gaussian_total_correlation"] < 0.01


# ---- laws that all share ----


def _headline(name, codes, factors):
    few = {"num_trees": 30} if name == "dci_es" else {}
    found = metrics.compute(name, codes, factors, **few)
    return found["dci_es_informativeness" if name == "dci_es" else name]


@pytest.mark.parametrize("name", [*OF_SAMPLES, "latent_mutual_information"])
def test_order_scale_and_sign_do_not_matter(name):
    codes, factors = _noisy()
    score = _headline(name, codes, factors)
    tolerance = 0.03 if name == "dci_es" else 1e-9  # other orders and signs grow other trees
    latents = np.array([3, 0, 4, 1, 2])
    assert _headline(name, codes[:, latents], factors[:, [2, 0, 1]]) == pytest.approx(score, abs=tolerance)
    assert _headline(name, codes * [4, 0.5, 1, 2, 8], factors) == pytest.approx(score, abs=1e-9)
    assert _headline(name, codes * [-1, 1, -1, 1, -1], factors) == pytest.approx(score, abs=tolerance)


@pytest.mark.parametrize("name", ["mcc", "mig_sup", "jemmig", "dcimig"])
def test_order_of_examples_does_not_matter(name):
    codes, factors = _noisy()
    rows = np.random.default_rng(1).permutation(len(codes))
    assert _headline(name, codes[rows], factors[rows]) == pytest.approx(_headline(name, codes, factors), abs=1e-12)


@pytest.mark.parametrize("name", OF_SAMPLES)
def test_results_are_floats_and_arrays(name):
    found = metrics.compute(name, *_noisy(300), **({"num_trees": 3} if name == "dci_es" else {}))
    assert all(isinstance(value, float | int | np.ndarray) for value in found.values())
    assert "binned_factors" not in found
    for value in found.values():
        assert np.isfinite(value).all()


@pytest.mark.parametrize("name", OF_SAMPLES)
def test_continuous_factors(name):
    rng = np.random.default_rng(0)
    factors = np.stack([rng.uniform(size=600), rng.integers(4, size=600)], axis=1)
    codes = factors + 0.01 * rng.normal(size=factors.shape)
    found = metrics.compute(name, codes, factors)
    score = found["dci_es_informativeness" if name == "dci_es" else name]
    assert score > 0.6
    if name in ("mig_sup", "jemmig", "dcimig"):
        np.testing.assert_array_equal(found["binned_factors"], [0])
    declared = metrics.compute(name, codes, factors, continuous=[True, False])
    np.testing.assert_array_equal([*declared], [*found])
    with pytest.raises(ValueError, match="factors must be integers, got dtype float64"):
        metrics.compute(name, codes, factors, continuous=False)


@pytest.mark.parametrize("name", OF_SAMPLES)
def test_a_constant_factor_and_bad_codes_are_refused(name):
    codes, factors = _noisy(60)
    with pytest.raises(ValueError, match=r"^factor 1 is constant in the sample.*leave it out$"):
        metrics.compute(name, codes, factors * [1, 0, 1])
    with pytest.raises(ValueError, match=r"^codes must be finite, got nan in row 0, latent 0$"):
        metrics.compute(name, np.where(codes == codes[0, 0], np.nan, codes), factors)
    with pytest.raises(ValueError, match="same N"):
        metrics.compute(name, codes[:50], factors)


@pytest.mark.parametrize("name", ["mig_sup", "jemmig", "dcimig", "latent_mutual_information"])
def test_bins_are_checked(name):
    with pytest.raises(ValueError, match=r"^num_bins must be an integer >= \d, got 0$"):
        metrics.compute(name, *_noisy(60), num_bins=0)


def test_a_negative_variance_is_refused():
    with pytest.raises(ValueError, match=r"^min_variance must be >= 0, got -1$"):
        mig_sup(*_noisy(60), min_variance=-1)


@pytest.mark.parametrize("name", ["r2", "dci_es"])
def test_a_factor_that_is_constant_in_a_part_is_named(name):
    codes, _ = _noisy(60)
    train, _ = inputs.split(60, None, 0)
    once = np.isin(np.arange(60), train, invert=True).astype(int)
    with pytest.raises(ValueError, match=r"^factor 0 is constant in the training part"):
        metrics.compute(name, codes, once[:, None])

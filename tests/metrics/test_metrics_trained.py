"""DCI, SAP, modularity and explicitness, InfoMEC: closed forms on hand-made codes, and scikit-learn's own pieces.

Most closed forms need a training part that is an exact grid of factors: `_halves` puts one into either part.
"""

import numpy as np
import pytest
import scipy.stats
from sklearn import feature_selection, linear_model, metrics, preprocessing, svm

from deft_jax.metrics.dci import dci
from deft_jax.metrics.infomec import infomec
from deft_jax.metrics.modularity_explicitness import modularity_explicitness
from deft_jax.metrics.nmi import nmi
from deft_jax.metrics.sap import sap

METRICS = (dci, sap, modularity_explicitness, infomec)
SIZES = (2, 3, 4)


def _grid(*sizes):
    """Every combination of factors once: [prod(sizes), F]."""
    return np.stack(np.meshgrid(*map(range, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))


def _halves(part, seed=0):
    """Rows of which both the training part and the test part are `part`, in its order, with num_train = len(part)."""
    rows = np.random.default_rng(seed).permutation(2 * len(part))
    result = np.empty((2 * len(part), *part.shape[1:]), part.dtype)
    result[rows] = np.concatenate([part, part])
    return result


def _balanced():
    """Factors of 2, 3 and 4 values, the training part of 144 rows a grid; codes equal to them, of mean 0."""
    factors = _halves(np.tile(_grid(*SIZES), (6, 1)))
    return 20 * (factors - factors.mean(axis=0)), factors


def _noisy(num_samples=900):
    """Five codes: two follow a factor each with noise, one follows both, one is noise, one is constant."""
    rng = np.random.default_rng(0)
    factors = np.stack([rng.choice(size, p=p, size=num_samples) for size, p in ((3, [0.5, 0.3, 0.2]), (4, None))], 1)
    mixing = np.array([[1, 0, 1, 0], [0, 1, -1, 0.0]])
    codes = factors @ mixing + rng.normal(size=(num_samples, 4)) * [0.3, 0.6, 0.5, 1]
    return np.concatenate([codes, np.full((num_samples, 1), 0.1)], axis=1), factors


def _headlines(codes, factors, model="linear"):
    """The scores, 1 is best, that codes must have to be called disentangled."""
    half = len(codes) // 2
    found = dci(codes, factors, model, num_train=half)
    result = {name: found[name] for name in ("disentanglement", "completeness")}
    result["sap"] = sap(codes, factors, num_train=half)["sap"]
    result["modularity"] = modularity_explicitness(codes, factors, num_train=half)["modularity"]
    found = infomec(codes, factors)
    return result | {name: found[name] for name in ("infom", "infoc")}


def _literal_split(num_samples, num_train, seed):
    rows = np.random.default_rng(seed).permutation(num_samples)
    return rows[:num_train], rows[num_train:]


# --- codes of which the scores are known


@pytest.mark.parametrize(("order", "signs"), [([0, 1, 2], [1, 1, 1]), ([2, 0, 1], [-1, 1, -1])])
def test_perfect_codes_score_at_the_top(order, signs):
    codes, factors = _balanced()
    codes, half = codes[:, order] * signs, len(codes) // 2
    assignment = np.eye(3)[order]  # latent d holds factor order[d]
    for model in ("trees", "linear"):
        found = dci(codes, factors, model, num_train=half)
        importance = found["importance"] / found["importance"].sum(axis=0)
        np.testing.assert_allclose(importance, assignment, atol=1e-6)
        for name in ("disentanglement", "completeness", "informativeness_train", "informativeness_test"):
            assert found[name] == pytest.approx(1, abs=1e-5), (model, name)
    found = modularity_explicitness(codes, factors, num_train=half)
    np.testing.assert_allclose(found["explicitness_train_per_factor"], 1, atol=1e-9)
    np.testing.assert_allclose(found["explicitness_test_per_factor"], 1, atol=1e-9)
    found = modularity_explicitness(codes, factors, num_train=half, probabilities="separate")
    np.testing.assert_allclose(found["modularity_per_latent"], 1, atol=1e-12)
    # One latent ranks the values: the ends are separable, value 1 of 3 is not at all, values 1 and 2 of 4 from two
    # of the other three.
    areas = [1, (1 + 1 / 2 + 1) / 3, (1 + 2 / 3 + 2 / 3 + 1) / 4]
    np.testing.assert_allclose(found["explicitness_train_per_factor"], areas, atol=1e-9)
    np.testing.assert_allclose(found["explicitness_test_per_factor"], areas, atol=1e-9)
    assert found["explicitness_test"] == pytest.approx(np.mean(areas), abs=1e-9)
    found = infomec(codes, factors, estimator="binned")
    np.testing.assert_allclose(found["nmi"], assignment, atol=1e-12)
    assert found["infom"] == pytest.approx(1, abs=1e-12)
    assert found["infoc"] == pytest.approx(1, abs=1e-12)
    assert 0.995 < found["infoe"] <= 1


@pytest.mark.parametrize(("order", "signs"), [([0, 1], [1, 1]), ([1, 0], [-1, 1])])
def test_perfect_codes_have_the_highest_sap(order, signs):
    codes, factors = _balanced()
    found = sap(codes[:, order] * signs, factors[:, :2], num_train=144)
    # A latent that knows nothing guesses, and on a grid each guess is right once in 'size' times.
    np.testing.assert_allclose(found["scores"], np.where(np.eye(2)[order] > 0, 1, [1 / 2, 1 / 3]), atol=1e-12)
    np.testing.assert_allclose(found["sap_per_factor"], [1 / 2, 2 / 3], atol=1e-12)
    assert found["sap"] == pytest.approx(7 / 12, abs=1e-12)


def test_one_latent_per_value_is_fully_explicit():
    _, factors = _balanced()
    codes = np.concatenate([np.eye(size)[factor] for size, factor in zip(SIZES, factors.T, strict=True)], axis=1)
    found = modularity_explicitness(codes, factors, num_train=144)
    assert found["explicitness_train"] == found["explicitness_test"] == 1
    assert found["modularity"] == pytest.approx(1, abs=1e-12)


def test_perfect_codes_of_continuous_factors():
    factors = _halves(np.tile(_grid(6, 5, 4) / 7 - 0.3, (2, 1)))
    codes, half, continuous = factors[:, ::-1] * [3, -1, 2], len(factors) // 2, [True] * 3
    assignment = np.eye(3)[::-1]
    found = sap(codes, factors, continuous, num_train=half)
    np.testing.assert_allclose(found["scores"], assignment, atol=1e-12)
    assert found["sap"] == pytest.approx(1, abs=1e-12)
    # Soft thresholding shortens the one weight to 1 - alpha, which leaves alpha^2 of the variance.
    found = dci(codes, factors, "linear", num_train=half, continuous=continuous, lasso_alpha=0.1)
    np.testing.assert_allclose(found["importance"], (1 - 0.1) * assignment, atol=1e-9)
    np.testing.assert_allclose(found["informativeness_train_per_factor"], 1 - 0.1**2, atol=1e-9)
    assert found["informativeness_test"] == pytest.approx(1 - 0.1**2, abs=1e-9)
    found = dci(codes, factors, "trees", num_train=half, continuous=continuous)
    np.testing.assert_allclose(found["importance"], assignment, atol=1e-6)
    assert 0.99 < found["informativeness_test"] <= 1
    found = infomec(codes, factors, continuous, "binned")
    np.testing.assert_allclose(found["nmi"], assignment, atol=1e-12)
    assert found["infom"] == pytest.approx(1)
    assert found["infoc"] == pytest.approx(1)
    assert found["infoe"] == pytest.approx(1, abs=1e-9)


def test_useless_codes_score_low():
    rng = np.random.default_rng(0)
    factors = rng.integers(3, size=(900, 3))
    codes = rng.normal(size=(900, 4))
    for model in ("trees", "linear"):
        found = dci(codes, factors, model)
        assert found["disentanglement"] < 0.2
        assert found["completeness"] < 0.2
        assert found["informativeness_test"] == pytest.approx(1 / 3, abs=0.06)
    assert sap(codes, factors)["sap"] < 0.05
    assert modularity_explicitness(codes, factors)["explicitness_test"] == pytest.approx(0.5, abs=0.05)
    found = infomec(codes, factors, estimator="binned")
    assert found["infom"] < 0.15
    assert found["infoc"] < 0.15
    assert found["infoe"] < 0.02


def test_duplicated_codes_have_closed_forms():
    codes, factors = _balanced()
    twice = np.concatenate([codes, codes], axis=1)
    found = sap(twice, factors, num_train=144)
    assert found["sap"] == 0
    assert found["scores"].max(axis=0)[:2] == pytest.approx(1)
    # Equal weights for equal latents: two of six latents share each factor.
    found = dci(twice, factors, "linear", num_train=144)
    np.testing.assert_allclose(found["completeness_per_factor"], 1 - np.log(2) / np.log(6), atol=1e-6)
    assert found["disentanglement"] == pytest.approx(1, abs=1e-5)
    # Trees take either of the two by chance, which is even only on average.
    found = dci(twice, factors, "trees", num_train=144)
    assert found["completeness"] == pytest.approx(1 - np.log(2) / np.log(6), abs=0.1)
    assert found["disentanglement"] == pytest.approx(1, abs=1e-5)
    found = infomec(twice, factors, estimator="binned")
    assert found["infoc"] == pytest.approx((1 / 2 - 1 / 6) / (1 - 1 / 6), abs=1e-12)
    assert found["infom"] == pytest.approx(1, abs=1e-12)
    assert modularity_explicitness(twice, factors, num_train=144)["modularity"] == pytest.approx(1, abs=1e-12)


def test_rotated_codes_score_between_perfect_and_useless():
    factors = _halves(np.tile(_grid(3, 3), (40, 1)))
    codes = 3.0 * (factors - 1) + np.random.default_rng(1).normal(size=factors.shape)
    cos, sin = np.cos(0.4), np.sin(0.4)
    rotated = codes @ np.array([[cos, -sin], [sin, cos]])
    even = codes @ np.array([[1, -1], [1, 1]]) / np.sqrt(2)
    for model in ("linear", "trees"):
        perfect, between, low = (_headlines(z, factors, model) for z in (codes, rotated, even))
        for name in perfect:
            assert perfect[name] > between[name] + 0.05 > low[name] + 0.1, (name, perfect, between, low)
    # Rotation loses nothing that a linear model of all latents cannot undo.
    assert infomec(even, factors)["infoe"] == pytest.approx(infomec(codes, factors)["infoe"], abs=0.01)


def test_modularity_by_hand():
    f0, f1 = _halves(np.tile(_grid(2, 2), (5, 1))).T
    # In units of log 2, information on (f0, f1): (1, 0), (1, 1), (1/2, 1/2), (1, 1/2), (0, 0).
    codes = np.stack([f0, 2 * f0 + f1, f0 + f1, 2 * f0 + f0 * f1, 0 * f0], axis=1)
    found = modularity_explicitness(codes, np.stack([f0, f1], axis=1), num_train=20)
    np.testing.assert_allclose(found["modularity_per_latent"], [1, 0, 0, 3 / 4, 0], atol=1e-12)
    assert found["modularity"] == pytest.approx(7 / 20, abs=1e-12)
    three = _halves(np.tile(_grid(2, 2, 2), (5, 1)))
    found = modularity_explicitness(three[:, :1] + three[:, 1:2], three, num_train=40)
    assert found["modularity"] == pytest.approx(1 / 2, abs=1e-12)


def test_infomec_by_hand():
    f0, f1 = np.tile(_grid(2, 2), (5, 1)).T
    codes, factors = np.stack([f0, 2 * f0 + f0 * f1, 0 * f0], axis=1), np.stack([f0, f1], axis=1)
    found = infomec(codes, factors, estimator="discrete")
    np.testing.assert_allclose(found["nmi"], [[1, 0], [1, 1 / 2], [0, 0]], atol=1e-12)
    np.testing.assert_array_equal(found["active"], [True, True, False])
    assert found["infom"] == pytest.approx(((1 + 2 / 3) / 2 - 1 / 2) * 2, abs=1e-12)
    assert found["infoc"] == pytest.approx(((1 / 2 + 1) / 2 - 1 / 2) * 2, abs=1e-12)


# --- symmetries, collapsed latents, numbers of latents


def test_order_and_sign_of_latents_do_not_matter():
    codes, factors = _noisy()
    order, signs = [3, 0, 4, 2, 1], [1, -1, -1, 1, -1]
    moved = codes[:, order] * signs
    np.testing.assert_allclose(sap(moved, factors)["scores"], sap(codes, factors)["scores"][order], atol=1e-12)
    for model, tolerance in (("linear", 1e-6), ("trees", 0.02)):  # trees break ties by the order of latents
        found, other = dci(codes, factors, model), dci(moved, factors, model)
        np.testing.assert_allclose(other["importance"], found["importance"][order], atol=tolerance)
        assert other["disentanglement"] == pytest.approx(found["disentanglement"], abs=tolerance)
        assert other["completeness"] == pytest.approx(found["completeness"], abs=tolerance)
    found, other = modularity_explicitness(codes, factors), modularity_explicitness(moved, factors)
    np.testing.assert_allclose(other["modularity_per_latent"], found["modularity_per_latent"][order], atol=1e-12)
    assert other["explicitness_test"] == pytest.approx(found["explicitness_test"], abs=1e-4)
    found, other = infomec(codes, factors), infomec(moved, factors)
    np.testing.assert_allclose(other["nmi"], found["nmi"][order], atol=1e-12)
    assert other["infoe"] == pytest.approx(found["infoe"], abs=1e-5)


def test_collapsed_latents_add_nothing():
    codes, factors = _balanced()
    more = np.concatenate([codes, np.full((len(codes), 2), 0.1)], axis=1)
    for model in ("trees", "linear"):
        found = dci(more, factors, model, num_train=144)
        np.testing.assert_array_equal(found["importance"][3:], 0)
        np.testing.assert_array_equal(found["disentanglement_per_latent"][3:], 0)
        assert found["disentanglement"] == pytest.approx(1, abs=1e-5)
        assert found["completeness"] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(sap(more, factors, num_train=144)["scores"][3:], [1 / np.array(SIZES)] * 2, atol=1e-12)
    continuous = sap(more, factors, [True] * 3, num_train=144)["scores"]
    np.testing.assert_array_equal(continuous[3:], 0)
    found = modularity_explicitness(more, factors, num_train=144)
    np.testing.assert_array_equal(found["modularity_per_latent"][3:], 0)
    assert found["modularity"] == pytest.approx(3 / 5, abs=1e-12)
    for estimator in ("binned", "knn", "discrete"):
        found, plain = infomec(more, factors, estimator=estimator), infomec(codes, factors, estimator=estimator)
        np.testing.assert_array_equal(found["nmi"][3:], 0)
        np.testing.assert_array_equal(found["active"], [True, True, True, False, False])
        assert (found["infom"], found["infoc"]) == (plain["infom"], plain["infoc"])


@pytest.mark.filterwarnings("error")
def test_representation_that_collapsed_altogether_scores_zero():
    _, factors = _balanced()
    codes = np.full((len(factors), 4), 0.1)
    for model in ("trees", "linear"):
        found = dci(codes, factors, model, num_train=144)
        assert found["disentanglement"] == found["completeness"] == 0
        np.testing.assert_array_equal(found["importance"], 0)
        assert found["informativeness_test"] == pytest.approx(np.mean(1 / np.array(SIZES)))
    assert sap(codes, factors, num_train=144)["sap"] == 0
    found = modularity_explicitness(codes, factors, num_train=144)
    assert (found["modularity"], found["explicitness_test"]) == (0, 0.5)
    for estimator in ("binned", "knn", "discrete"):
        found = infomec(codes, factors, estimator=estimator)
        assert (found["infom"], found["infoc"]) == (0, 0)
        assert found["infoe"] == pytest.approx(0, abs=1e-6)


def test_narrow_latents_are_pruned():
    codes, factors = _noisy()
    narrow = codes[:, :3] * [1, 1, 1e-2]
    found, pruned = infomec(narrow, factors), infomec(narrow[:, :2], factors)
    np.testing.assert_array_equal(found["active"], [True, True, False])
    assert (found["infom"], found["infoc"]) == (pruned["infom"], pruned["infoc"])
    assert found["nmi"][2].min() > 0.1
    kept = infomec(narrow, factors, inactive=0.001)
    assert kept["active"].all()
    assert kept["infoc"] < found["infoc"] - 0.1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("model", ["trees", "linear"])
def test_one_latent_and_one_factor_have_nothing_to_spread_over(model):
    codes, factors = _balanced()
    found = dci(codes[:, :1], factors[:, [0, 0]], model, num_train=144)
    np.testing.assert_allclose(found["importance"] / found["importance"].sum(axis=0), [[1, 1]], atol=1e-12)
    assert found["completeness"] == pytest.approx(1)
    assert found["disentanglement"] == pytest.approx(0, abs=1e-9)
    found = dci(codes, factors[:, :1], model, num_train=144)
    assert found["disentanglement"] == pytest.approx(1)
    assert found["completeness"] == pytest.approx(1, abs=1e-5)


@pytest.mark.filterwarnings("error")
def test_one_latent_and_one_factor_elsewhere():
    codes, factors = _balanced()
    found = sap(codes[:, :1], factors, num_train=144)
    np.testing.assert_array_equal(found["sap_per_factor"], found["scores"][0])
    one = modularity_explicitness(codes, factors[:, :1], num_train=144)["modularity_per_latent"]
    np.testing.assert_array_equal(one, [1, 0, 0])
    one = infomec(codes[:, :1], factors[:, [0, 0]])
    assert (one["infoc"], one["infom"]) == pytest.approx((1, 0), abs=1e-12)
    one = infomec(codes, factors[:, :1])
    assert (one["infoc"], one["infom"]) == pytest.approx((1, 1 / 3), abs=1e-12)


# --- against scikit-learn's and scipy's own pieces


def test_sap_equals_its_pieces():
    codes, factors = _noisy()
    train, test = _literal_split(900, 500, 3)
    expected = np.empty((5, 2))
    for d, code in enumerate(codes.T):
        machine = svm.LinearSVC(C=0.01, class_weight="balanced", random_state=0, dual=True, max_iter=100_000, tol=1e-8)
        machine.fit(code[train, None], factors[train, 0])
        expected[d, 0] = np.mean(machine.predict(code[test, None]) == factors[test, 0])
        if code.std() > 1e-9:
            expected[d, 1] = np.corrcoef(code[train], factors[train, 1])[0, 1] ** 2
        else:
            expected[d, 1] = 0
    found = sap(codes, factors, [False, True], num_train=500, seed=3)
    np.testing.assert_allclose(found["scores"], expected, rtol=0, atol=1e-6)
    gaps = np.sort(expected, axis=0)[-1] - np.sort(expected, axis=0)[-2]
    np.testing.assert_allclose(found["sap_per_factor"], gaps, atol=1e-6)
    assert found["sap"] == pytest.approx(gaps.mean(), abs=1e-6)
    assert 0.05 < gaps.min()


@pytest.mark.parametrize("model", ["trees", "linear"])
def test_dci_equals_the_entropies_of_its_importance(model):
    codes, factors = _noisy(450)
    found = dci(codes, factors, model)
    importance = found["importance"]
    if model == "trees":
        np.testing.assert_allclose(importance.sum(axis=0), 1, atol=1e-12)
    per_latent = 1 - scipy.stats.entropy(importance.T + 1e-11, base=2)
    per_factor = 1 - scipy.stats.entropy(importance + 1e-11, base=5)
    np.testing.assert_allclose(found["disentanglement_per_latent"], per_latent, atol=1e-6)
    np.testing.assert_allclose(found["completeness_per_factor"], per_factor, atol=1e-6)
    weights = importance.sum(axis=1) / importance.sum()
    assert found["disentanglement"] == pytest.approx((per_latent * weights).sum(), abs=1e-6)
    assert found["completeness"] == pytest.approx(per_factor.mean(), abs=1e-6)
    assert 0.1 < found["disentanglement"] < 0.9
    assert 0.1 < found["completeness"] < 0.9


def test_linear_dci_equals_its_pieces():
    codes, factors = _noisy(450)
    train, test = _literal_split(450, 300, 0)
    scaler = preprocessing.StandardScaler().fit(codes[train])
    model = linear_model.LogisticRegression(C=0.1, l1_ratio=1, solver="saga", max_iter=5000, tol=1e-8, random_state=1)
    model.fit(scaler.transform(codes[train]), factors[train, 0])
    weights = np.abs(model.coef_).mean(axis=0)
    mean, scale = factors[train, 1].mean(), factors[train, 1].std()
    lasso = linear_model.Lasso(alpha=0.3).fit(scaler.transform(codes[train]), (factors[train, 1] - mean) / scale)
    found = dci(codes, factors, "linear", continuous=[False, True], logistic_c=0.1, lasso_alpha=0.3)
    np.testing.assert_allclose(found["importance"][:, 0], weights, atol=1e-3)
    np.testing.assert_allclose(found["importance"][:, 1], np.abs(lasso.coef_), atol=1e-9)
    for part, name in ((train, "train"), (test, "test")):
        inputs = scaler.transform(codes[part])
        accuracy = np.mean(model.predict(inputs) == factors[part, 0])
        share = metrics.r2_score((factors[part, 1] - mean) / scale, lasso.predict(inputs))
        np.testing.assert_allclose(found[f"informativeness_{name}_per_factor"], [accuracy, share], atol=1e-2)
        mean_of_both = found[f"informativeness_{name}_per_factor"].mean()
        assert found[f"informativeness_{name}"] == pytest.approx(mean_of_both, abs=1e-12)


@pytest.mark.parametrize("probabilities", ["normalised", "separate"])
def test_modularity_and_explicitness_equal_their_pieces(probabilities):
    codes, factors = _noisy()
    train, test = _literal_split(900, 500, 3)
    informed = np.empty((5, 2))
    for d, code in enumerate(codes[train].T):
        bins = np.digitize(code, np.histogram(code, 10)[1][:-1])
        informed[d] = [metrics.mutual_info_score(bins, factor) for factor in factors[train].T]
    expected = [1 - min(pair) ** 2 / max(pair) ** 2 for pair in informed[:4]] + [0]
    scaler = preprocessing.StandardScaler().fit(codes[train])
    areas = {name: [] for name in ("train", "test")}
    for factor in factors.T:
        rest = [
            linear_model.LogisticRegression(solver="liblinear", random_state=0).fit(
                scaler.transform(codes[train]), factor[train] == v
            )
            for v in np.unique(factor)
        ]
        for name, part in (("train", train), ("test", test)):
            scores = np.array([model.predict_proba(scaler.transform(codes[part]))[:, 1] for model in rest])
            if probabilities == "normalised":
                scores /= scores.sum(axis=0)
            found = [metrics.roc_auc_score(factor[part] == v, score) for v, score in enumerate(scores)]
            areas[name].append(np.mean(found))
    options = {"num_bins": 10, "num_train": 500, "seed": 3}
    found = modularity_explicitness(codes, factors, probabilities=probabilities, **options)
    np.testing.assert_allclose(found["modularity_per_latent"], expected, atol=1e-6)
    assert found["modularity"] == pytest.approx(np.mean(expected), abs=1e-6)
    for name, values in areas.items():
        np.testing.assert_allclose(found[f"explicitness_{name}_per_factor"], values, atol=1e-6)
        assert found[f"explicitness_{name}"] == pytest.approx(np.mean(values), abs=1e-6)
        assert 0.6 < min(values) < max(values) < 1


@pytest.mark.parametrize("estimator", ["binned", "knn", "discrete"])
def test_infomec_equals_its_pieces(estimator):
    codes, factors = _noisy(450)
    if estimator == "discrete":
        codes = np.round(codes)
    expected, explained = np.zeros((5, 2)), []
    inputs = preprocessing.OneHotEncoder() if estimator == "discrete" else preprocessing.StandardScaler()
    inputs = inputs.fit_transform(codes)
    for f, factor in enumerate(factors.T):
        for d, code in enumerate(codes[:, :4].T):
            if estimator == "knn":
                expected[d, f] = feature_selection.mutual_info_classif(
                    code[:, None], factor, discrete_features=False, n_neighbors=7, random_state=5
                )[0]
            elif estimator == "binned":
                expected[d, f] = metrics.mutual_info_score(np.digitize(code, np.histogram(code, 8)[1][:-1]), factor)
            else:
                expected[d, f] = metrics.mutual_info_score(code, factor)
        expected[:, f] /= metrics.mutual_info_score(factor, factor)
        losses = []
        for columns in (inputs, np.zeros((450, 2))):
            model = linear_model.LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100)
            losses.append(metrics.log_loss(factor, model.fit(columns, factor).predict_proba(columns)))
        explained.append(1 - losses[0] / losses[1])
    found = infomec(codes, factors, estimator=estimator, num_bins=8, num_neighbors=7, seed=5)
    np.testing.assert_allclose(found["nmi"], expected, atol=1e-6)
    rows = expected[:4]
    infom = 2 * (rows.max(axis=1) / rows.sum(axis=1)).mean() - 1
    infoc = ((rows.max(axis=0) / rows.sum(axis=0)).mean() - 1 / 4) / (3 / 4)
    assert (found["infom"], found["infoc"]) == pytest.approx((infom, infoc), abs=1e-6)
    np.testing.assert_allclose(found["infoe_per_factor"], explained, atol=1e-4)
    assert found["infoe"] == pytest.approx(np.mean(explained), abs=1e-4)
    assert 0.2 < found["infoe"] < 0.95


def test_infomec_of_continuous_factors_equals_its_pieces():
    codes, factors = _noisy(450)
    factors = factors + np.random.default_rng(3).normal(size=(450, 1)) * [0.1, 0]
    found = infomec(codes, factors, [True, False], "knn", num_neighbors=4)
    settings = {"discrete_features": False, "n_neighbors": 4, "random_state": 0}
    of_itself = feature_selection.mutual_info_regression(factors[:, :1], factors[:, 0], **settings)[0]
    of_code = feature_selection.mutual_info_regression(codes[:, :1], factors[:, 0], **settings)[0]
    assert found["nmi"][0, 0] == pytest.approx(of_code / of_itself, abs=1e-6)
    squared = linear_model.LinearRegression().fit(codes, factors[:, 0]).score(codes, factors[:, 0])
    assert found["infoe_per_factor"][0] == pytest.approx(squared, abs=1e-6)
    binned = infomec(codes, factors, [True, False], "binned", num_bins=6)["nmi"][0, 0]
    bins, labels = (np.digitize(x, np.histogram(x, 6)[1][:-1]) for x in (codes[:, 0], factors[:, 0]))
    expected = metrics.mutual_info_score(bins, labels) / metrics.mutual_info_score(labels, labels)
    assert binned == pytest.approx(expected, abs=1e-6)


# --- threads, seeds, parts


@pytest.mark.parametrize("model", ["trees", "linear"])
def test_results_do_not_depend_on_the_number_of_workers(model):
    codes, factors = _noisy(300)
    one = dci(codes, factors, model, num_workers=1)
    for workers in (2, None):
        other = dci(codes, factors, model, num_workers=workers)
        for name, value in one.items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)


@pytest.mark.parametrize("metric", [sap, modularity_explicitness, lambda *args, **kw: dci(*args, "linear", **kw)])
def test_seed_decides_the_split(metric):
    codes, factors = _noisy(300)
    first, again, other = (next(iter(metric(codes, factors, seed=seed).items())) for seed in (0, 0, 1))
    assert first == again != other
    assert metric(codes, factors)[first[0]] == first[1]
    assert metric(codes, factors, num_train=200)[first[0]] == first[1]
    assert metric(codes, factors, num_train=201)[first[0]] != first[1]


def test_values_missing_from_a_part():
    factor = np.repeat([0, 1, 0, 1], 10)
    factor[[5, 25]] = 2, 3  # value 2 in the training part only, 3 in the test part only
    factors = np.empty((40, 1), int)
    factors[np.random.default_rng(0).permutation(40), 0] = factor
    codes = np.where(factors == 1, 1.0, -1.0)
    found = modularity_explicitness(codes, factors, num_train=20)
    # Latent -1: values 0, 2 and 3. Value 0 ranks above all 1s and level with 2; value 2 likewise, level with nine 0s.
    train = [1 - 1 / 22, 1, 1 - 9 / 38]
    assert found["explicitness_train"] == pytest.approx(np.mean(train), abs=1e-12)
    assert found["explicitness_test"] == pytest.approx(np.mean([1 - 1 / 22, 1]), abs=1e-12)
    assert sap(codes, factors, num_train=20)["scores"][0, 0] <= 19 / 20
    assert dci(codes, factors, "linear", num_train=20)["informativeness_test"] == pytest.approx(19 / 20)


def test_float32_codes_and_scores_of_plain_floats():
    codes, factors = _noisy(300)
    for metric in METRICS:
        options = {"model": "linear"} if metric is dci else {}
        found, exact = (metric(z, factors, **options) for z in (codes.astype(np.float32), codes))
        if metric is infomec:
            assert found.pop("estimator") == "knn"
        for name in [name for name in found if name.startswith("num_distinct")]:
            assert isinstance(found.pop(name), int), name
        for name, value in found.items():
            assert isinstance(value, float | np.ndarray) or name.startswith("num_"), name
            np.testing.assert_allclose(value, exact[name], atol=0.02, err_msg=name)
    codes = codes.astype(np.float32)
    np.testing.assert_array_equal(infomec(codes, factors, estimator="binned")["nmi"], nmi(codes, factors)["nmi"])


# --- bad input

CODES = np.random.default_rng(0).normal(size=(12, 2))
FACTORS = _grid(3, 2, 2)
NAN = np.where(np.arange(24).reshape(12, 2) == 7, np.nan, CODES)
ONE_VALUE = FACTORS * [1, 0, 1] + [0, 4, 0]


def _assert_refused(message, metric, *args, **kwargs):
    with pytest.raises(ValueError, match=message) as error:
        metric(*args, **kwargs)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("metric", "options"),
    [(metric, {}) for metric in METRICS]
    + [(metric, {"continuous": [True, False, False]}) for metric in (dci, sap, infomec)],
)
@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (NAN, FACTORS, r"^codes must be finite, got nan in row 3, latent 1$"),
        (CODES[:, 0], FACTORS, r"^codes must be a non-empty \[N, D\] array, got shape \(12,\)$"),
        (CODES[:0], FACTORS[:0], r"^codes must be a non-empty \[N, D\] array, got shape \(0, 2\)$"),
        (CODES, FACTORS[:, 0], r"^factors must be a non-empty \[N, F\] array, got shape \(12,\)$"),
        (CODES, FACTORS[:5], r"^codes and factors must have the same N, got \(12, 2\) and \(5, 3\)$"),
        (CODES.astype(complex), FACTORS, r"^codes must be real numbers, got dtype complex128$"),
        (CODES, FACTORS - [0, 0, 1], r"^factors must be >= 0, got -1 in column 2$"),
        (CODES, ONE_VALUE, r"^factor 1 is constant in the sample: leave it out$"),
    ],
)
def test_codes_and_factors_are_checked(metric, options, codes, factors, message):
    _assert_refused(message, metric, codes, factors, **options)


@pytest.mark.parametrize("metric", [dci, sap, infomec])
@pytest.mark.parametrize(
    ("factors", "continuous", "message"),
    [
        (FACTORS, [True, False], r"^continuous must be False or 3 booleans, got bool of shape \(2,\)$"),
        (FACTORS, True, r"^continuous must be False or 3 booleans, got bool of shape \(\)$"),
        (FACTORS, [0, 1, 0], r"^continuous must be False or 3 booleans, got int64 of shape \(3,\)$"),
        (FACTORS * 0.5, False, r"^factors must be integers, got dtype float64$"),
        (
            FACTORS * 0.5,
            [True, False, True],
            r"^factors must be integers unless declared continuous, got 0.5 in row 2, factor 1$",
        ),
        (np.where(FACTORS == 2, np.nan, FACTORS), [True] * 3, r"^factors must be finite, got nan in row 8, factor 0$"),
        (FACTORS * 1j, [True] * 3, r"^factors must be real numbers, got dtype complex128$"),
        (ONE_VALUE * 0.3, [True] * 3, r"^factor 1 is constant in the sample: leave it out$"),
    ],
)
def test_continuous_factors_are_checked(metric, factors, continuous, message):
    _assert_refused(message, metric, CODES, factors, continuous=continuous)


@pytest.mark.parametrize("metric", [dci, sap, modularity_explicitness])
def test_split_is_checked(metric):
    for wrong in (0, 12, -1, 3.0):
        _assert_refused(
            rf"^num_train must be an integer from 1 to 11, got {wrong}$", metric, CODES, FACTORS, num_train=wrong
        )
    for wrong in (-1, 2**32, None, 0.5):
        _assert_refused(r"^seed must be an integer in \[0, 2\*\*32\), got ", metric, CODES, FACTORS, seed=wrong)
    rows = np.random.default_rng(0).permutation(12)
    factors = FACTORS.copy()
    factors[rows[:8], 2] = 1
    factors[rows[8:], 2] = [0, 0, 1, 1]
    _assert_refused(
        r"^factor 2 is constant in the training part: leave it out or raise num_train$", metric, CODES, factors
    )


def test_test_part_is_checked():
    rows = np.random.default_rng(0).permutation(12)
    factors = FACTORS.copy()
    factors[rows, 1] = [0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]
    factors[rows, 2] = [0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3]
    factors[rows, 0] = [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]
    _assert_refused(
        r"^factor 1 is constant in the test part: .*lower num_train$", modularity_explicitness, CODES, factors
    )
    missing = r"^factor 1 has no value that is in both parts: give more samples$"
    _assert_refused(missing, modularity_explicitness, CODES, factors[:, [0, 2]])


def test_options_are_checked():
    _assert_refused(r"^model must be 'trees' or 'linear', got 'forest'$", dci, CODES, FACTORS, "forest")
    _assert_refused(r"^num_workers must be None or an integer >= 1, got 0$", dci, CODES, FACTORS, num_workers=0)
    known = r"^estimator must be 'binned', 'knn' or 'discrete', got 'kde'$"
    _assert_refused(known, infomec, CODES, FACTORS, estimator="kde")
    _assert_refused(r"^inactive must be in \[0, 1\), got 1$", infomec, CODES, FACTORS, inactive=1)
    _assert_refused(
        r"^num_bins must be an integer >= 1, got 0$", infomec, CODES, FACTORS, estimator="binned", num_bins=0
    )
    _assert_refused(r"^num_bins must be an integer >= 1, got 0$", modularity_explicitness, CODES, FACTORS, num_bins=0)
    _assert_refused(
        r"^num_neighbors must be an integer from 1 to 11, got 12$",
        infomec,
        CODES,
        FACTORS,
        estimator="knn",
        num_neighbors=12,
    )
    _assert_refused(r"^seed must be an integer in ", infomec, CODES, FACTORS, estimator="knn", seed=-1)
    _assert_refused(
        r"^estimator 'discrete' takes no continuous factors$",
        infomec,
        CODES,
        FACTORS,
        continuous=[True] * 3,
        estimator="discrete",
    )
    outlier = np.r_[np.arange(11) * 1e-3, 1.0][:, None]
    _assert_refused(
        r"^factor 0 falls into one bin: raise num_bins$",
        infomec,
        CODES,
        outlier,
        continuous=[True],
        estimator="binned",
        num_bins=1,
    )

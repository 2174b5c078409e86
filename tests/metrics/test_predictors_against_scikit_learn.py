"""DCI, SAP, modularity and explicitness, InfoMEC equal their definitions in scikit-learn and SciPy."""

import numpy as np
import pytest
import scipy.stats
import toy_codes
from sklearn import feature_selection, linear_model, metrics, preprocessing, svm

from deft_jax.metrics import held_out, inputs
from deft_jax.metrics.dci import dci
from deft_jax.metrics.infomec import infomec
from deft_jax.metrics.modularity_explicitness import modularity_explicitness
from deft_jax.metrics.sap import sap


def test_sap_equals_support_vector_machines_and_correlations():
    codes, factors = toy_codes.noisy_with_constant()
    train, test = held_out.split(900, 500, 3)
    expected = np.empty((5, 2))
    for d, code in enumerate(codes.T):
        machine = svm.LinearSVC(C=0.01, class_weight="balanced", random_state=0, dual=True, max_iter=100_000, tol=1e-8)
        machine.fit(code[train, None], factors[train, 0])
        expected[d, 0] = np.mean(machine.predict(code[test, None]) == factors[test, 0])
        if code.std() > 1e-9:
            expected[d, 1] = np.corrcoef(code[train], factors[train, 1])[0, 1] ** 2
        else:
            expected[d, 1] = 0
    scores = sap(codes, factors, [False, True], num_train=500, seed=3)
    np.testing.assert_allclose(scores["scores"], expected, rtol=0, atol=1e-6)
    gaps = np.sort(expected, axis=0)[-1] - np.sort(expected, axis=0)[-2]
    np.testing.assert_allclose(scores["sap_per_factor"], gaps, atol=1e-6)
    assert scores["sap"] == pytest.approx(gaps.mean(), abs=1e-6)
    assert 0.05 < gaps.min()


@pytest.mark.parametrize("model", ["trees", "linear"])
def test_dci_equals_the_entropies_of_its_importance(model):
    codes, factors = toy_codes.noisy_with_constant(450)
    scores = dci(codes, factors, model)
    importance = scores["importance"]
    if model == "trees":
        np.testing.assert_allclose(importance.sum(axis=0), 1, atol=1e-12)
    per_latent = 1 - scipy.stats.entropy(importance.T + 1e-11, base=2)
    per_factor = 1 - scipy.stats.entropy(importance + 1e-11, base=5)
    np.testing.assert_allclose(scores["disentanglement_per_latent"], per_latent, atol=1e-6)
    np.testing.assert_allclose(scores["completeness_per_factor"], per_factor, atol=1e-6)
    weights = importance.sum(axis=1) / importance.sum()
    assert scores["disentanglement"] == pytest.approx((per_latent * weights).sum(), abs=1e-6)
    assert scores["completeness"] == pytest.approx(per_factor.mean(), abs=1e-6)
    assert 0.1 < scores["disentanglement"] < 0.9
    assert 0.1 < scores["completeness"] < 0.9


def test_linear_dci_equals_logistic_regression_and_lasso():
    codes, factors = toy_codes.noisy_with_constant(450)
    train, test = held_out.split(450, 300, 0)
    scaler = preprocessing.StandardScaler().fit(codes[train])
    model = linear_model.LogisticRegression(C=0.1, l1_ratio=1, solver="saga", max_iter=5000, tol=1e-8, random_state=1)
    model.fit(scaler.transform(codes[train]), factors[train, 0])
    weights = np.abs(model.coef_).mean(axis=0)
    mean, scale = factors[train, 1].mean(), factors[train, 1].std()
    lasso = linear_model.Lasso(alpha=0.3).fit(scaler.transform(codes[train]), (factors[train, 1] - mean) / scale)
    scores = dci(codes, factors, "linear", continuous=[False, True], logistic_c=0.1, lasso_alpha=0.3)
    np.testing.assert_allclose(scores["importance"][:, 0], weights, atol=1e-3)
    np.testing.assert_allclose(scores["importance"][:, 1], np.abs(lasso.coef_), atol=1e-9)
    for part, name in ((train, "train"), (test, "test")):
        inputs = scaler.transform(codes[part])
        accuracy = np.mean(model.predict(inputs) == factors[part, 0])
        share = metrics.r2_score((factors[part, 1] - mean) / scale, lasso.predict(inputs))
        np.testing.assert_allclose(scores[f"informativeness_{name}_per_factor"], [accuracy, share], atol=1e-2)
        mean_of_both = scores[f"informativeness_{name}_per_factor"].mean()
        assert scores[f"informativeness_{name}"] == pytest.approx(mean_of_both, abs=1e-12)


@pytest.mark.parametrize("probabilities", ["normalised", "separate"])
def test_modularity_and_explicitness_equal_their_definitions(probabilities):
    codes, factors = toy_codes.noisy_with_constant()
    train, test = held_out.split(900, 500, 3)
    information = np.empty((5, 2))
    for d, code in enumerate(codes[train].T):
        bins = np.digitize(code, np.histogram(code, 10)[1][:-1])
        information[d] = [metrics.mutual_info_score(bins, factor) for factor in factors[train].T]
    expected = [1 - min(pair) ** 2 / max(pair) ** 2 for pair in information[:4]] + [0]
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
            outputs = np.array([model.predict_proba(scaler.transform(codes[part]))[:, 1] for model in rest])
            if probabilities == "normalised":
                outputs /= outputs.sum(axis=0)
            areas_of_values = [metrics.roc_auc_score(factor[part] == v, output) for v, output in enumerate(outputs)]
            areas[name].append(np.mean(areas_of_values))
    options = {"num_bins": 10, "num_train": 500, "seed": 3}
    scores = modularity_explicitness(codes, factors, probabilities=probabilities, **options)
    np.testing.assert_allclose(scores["modularity_per_latent"], expected, atol=1e-6)
    assert scores["modularity"] == pytest.approx(np.mean(expected), abs=1e-6)
    for name, values in areas.items():
        np.testing.assert_allclose(scores[f"explicitness_{name}_per_factor"], values, atol=1e-6)
        assert scores[f"explicitness_{name}"] == pytest.approx(np.mean(values), abs=1e-6)
        assert 0.6 < min(values) < max(values) < 1


@pytest.mark.parametrize("estimator", ["binned", "knn", "discrete"])
def test_infomec_equals_its_definition(estimator):
    codes, factors = toy_codes.noisy_with_constant(450)
    if estimator == "discrete":
        codes = np.round(codes)
    expected, shares = np.zeros((5, 2)), []
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
        shares.append(1 - losses[0] / losses[1])
    scores = infomec(codes, factors, estimator=estimator, num_bins=8, num_neighbors=7, seed=5)
    np.testing.assert_allclose(scores["nmi"], expected, atol=1e-6)
    rows = expected[:4]
    infom = 2 * (rows.max(axis=1) / rows.sum(axis=1)).mean() - 1
    infoc = ((rows.max(axis=0) / rows.sum(axis=0)).mean() - 1 / 4) / (3 / 4)
    assert (scores["infom"], scores["infoc"]) == pytest.approx((infom, infoc), abs=1e-6)
    np.testing.assert_allclose(scores["infoe_per_factor"], shares, atol=1e-4)
    assert scores["infoe"] == pytest.approx(np.mean(shares), abs=1e-4)
    assert 0.2 < scores["infoe"] < 0.95


def test_infomec_of_continuous_factors_equals_its_definition():
    codes, factors = toy_codes.noisy_with_constant(450)
    factors = factors + np.random.default_rng(3).normal(size=(450, 1)) * [0.1, 0]
    scores = infomec(codes, factors, [True, False], "knn", num_neighbors=4)
    settings = {"discrete_features": False, "n_neighbors": 4, "random_state": 0}
    entropy = feature_selection.mutual_info_regression(factors[:, :1], factors[:, 0], **settings)[0]
    information = feature_selection.mutual_info_regression(codes[:, :1], factors[:, 0], **settings)[0]
    assert scores["nmi"][0, 0] == pytest.approx(information / entropy, abs=1e-6)
    squared = linear_model.LinearRegression().fit(codes, factors[:, 0]).score(codes, factors[:, 0])
    assert scores["infoe_per_factor"][0] == pytest.approx(squared, abs=1e-6)
    binned = infomec(codes, factors, [True, False], "binned", num_bins=6)["nmi"][0, 0]
    bins, labels = (np.digitize(x, np.histogram(x, 6)[1][:-1]) for x in (codes[:, 0], factors[:, 0]))
    expected = metrics.mutual_info_score(bins, labels) / metrics.mutual_info_score(labels, labels)
    assert binned == pytest.approx(expected, abs=1e-6)


def test_linear_dci_averages_weights_over_values():
    rng = np.random.default_rng(0)
    factors = rng.integers([2, 3], size=(300, 2))
    codes = factors @ np.array([[1, 1, 0], [0, 1, 1]]) + rng.normal(size=(300, 3))
    scores = dci(codes, factors, "linear", num_train=200)
    train, _ = held_out.split(300, 200, 0)
    for f, num_values in enumerate((2, 3)):
        fit = linear_model.LogisticRegression(l1_ratio=1, solver="saga", max_iter=10_000, tol=1e-8, random_state=1)
        weights = np.abs(fit.fit(inputs.standardise(codes, train)[train], factors[train, f]).coef_).sum(axis=0)
        np.testing.assert_allclose(scores["importance"][:, f], weights / num_values, atol=5e-3)


@pytest.mark.parametrize("metric", [sap, modularity_explicitness, lambda *args, **kw: dci(*args, "linear", **kw)])
def test_seed_decides_the_split(metric):
    codes, factors = toy_codes.noisy_with_constant(300)
    first, again, other = (next(iter(metric(codes, factors, seed=seed).items())) for seed in (0, 0, 1))
    assert first == again != other
    assert metric(codes, factors)[first[0]] == first[1]
    assert metric(codes, factors, num_train=200)[first[0]] == first[1]
    assert metric(codes, factors, num_train=201)[first[0]] != first[1]


@pytest.mark.parametrize("model", ["trees", "linear"])
def test_results_do_not_depend_on_the_number_of_workers(model):
    codes, factors = toy_codes.noisy_with_constant(150)
    expected, scores = (dci(codes, factors, model, num_workers=workers) for workers in (1, 3))
    for name, value in expected.items():
        np.testing.assert_array_equal(scores[name], value, err_msg=name)

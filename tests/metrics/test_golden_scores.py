"""Scores of fixed codes, which notice any change of a metric. Where a change is intended, renew the numbers."""

import numpy as np
import pytest
import toy_codes

from deft_jax import metrics

# jemmig and dcimig are also those of ubisoft/ubisoft-laforge-DisentanglementMetrics (src/metrics, nb_bins=20).
OF_SAMPLES = [
    ("mig", {}, {"mig": 0.5657454153}),
    ("nmi", {}, {"nmi1": [1.0, 0.6931294651, 0.3622147313], "nmi2": [0.261164648, 0.0581406097, 0.0388026928]}),
    ("dcimig", {}, {"dcimig": 0.5491984493}),
    ("jemmig", {}, {"jemmig": 0.4308221931}),
    ("mig_sup", {}, {"mig_sup": 0.4469840832}),
    ("mcc", {}, {"mcc": 0.8929021484}),
    ("mcc", {"correlation": "spearman"}, {"mcc": 0.8929655866}),
    ("irs", {}, {"irs": 0.5746286863}),
    (
        "gaussian_total_correlation",
        {},
        {
            "gaussian_total_correlation": 0.1714094969,
            "gaussian_wasserstein_correlation": 0.1750288508,
            "gaussian_wasserstein_correlation_norm": 0.03125784755,
        },
    ),
    (
        "latent_mutual_information",
        {},
        {"latent_mutual_information": 0.3534336555, "latent_mutual_information_bias": 0.285},
    ),
]

# Fitted by scikit-learn, so equal to few digits across its releases.
OF_PREDICTORS = [
    ("r2", {}, {"r2": 0.8864681539}),
    ("sap", {}, {"sap": 0.2033333333}),
    (
        "dci",
        {"model": "linear"},
        {
            "disentanglement": 0.6451763959,
            "completeness": 0.7602718716,
            "informativeness_train": 0.72,
            "informativeness_test": 0.6866666667,
        },
    ),
    (
        "dci_es",
        {"num_trees": 10},
        {"dci_es_explicitness": 0.9387231183, "dci_es_size": 0.75, "dci_es_informativeness": 0.7616666667},
    ),
    (
        "modularity_explicitness",
        {},
        {"modularity": 0.9425024133, "explicitness_train": 0.9341472405, "explicitness_test": 0.9112098878},
    ),
    ("infomec", {"estimator": "binned"}, {"infom": 0.6658468761, "infoc": 0.7915100626, "infoe": 0.7169753814}),
    ("infomec", {"estimator": "knn"}, {"infom": 0.5846509082, "infoc": 0.9041289462, "infoe": 0.7169753814}),
]


def _assert_scores(scores, expected, tolerance):
    for key, value in expected.items():
        np.testing.assert_allclose(scores[key], value, rtol=tolerance, atol=tolerance, err_msg=key)


@pytest.mark.parametrize(("name", "options", "expected"), OF_SAMPLES)
def test_score_of_a_fixed_sample(name, options, expected):
    _assert_scores(metrics.compute(name, *toy_codes.without_random_numbers(), **options), expected, 1e-8)


@pytest.mark.parametrize(("name", "options", "expected"), OF_PREDICTORS)
def test_score_of_a_fixed_sample_by_fitted_predictors(name, options, expected):
    _assert_scores(metrics.compute(name, *toy_codes.without_random_numbers(), **options), expected, 2e-3)


def test_score_of_fixed_posteriors():
    codes, factors = toy_codes.without_random_numbers()
    logvar = np.broadcast_to(np.log([0.04, 0.2, 0.05, 1]), codes.shape)
    scores = metrics.compute("mig_posterior", codes, factors, logvar=logvar)
    assert scores["mig_posterior"] == pytest.approx(0.4399849901, abs=1e-8)


def test_score_of_a_fixed_encoder():
    def encode(factors):
        mixed = factors @ np.array([[1, 0.5, 0], [0, 1, 1], [0, 0, 0.3]])
        return mixed + np.sin(7 * factors.sum(axis=1, keepdims=True))

    options = {"num_train": 300, "num_eval": 200, "batch_size": 8}
    scores = metrics.get("factor_vae")(encode, (4, 5, 3), **options)
    _assert_scores(scores, {"factor_vae": 0.62, "factor_vae_train": 181 / 300}, 1e-12)
    scores = metrics.get("beta_vae")(encode, (4, 5, 3), **options)
    _assert_scores(scores, {"beta_vae": 0.82, "beta_vae_train": 247 / 300}, 1e-2)


def test_score_of_fixed_runs():
    codes, _ = toy_codes.without_random_numbers()
    runs = [codes, codes[:, [1, 0, 2]], -codes[:, :2] + 0.1 * codes[:, 2:]]
    assert metrics.get("udr")(runs)["udr"].mean() == pytest.approx(0.7360879547, abs=1e-8)

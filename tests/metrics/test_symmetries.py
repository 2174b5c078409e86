"""Symmetries of metrics: order and sign of latents, order of factors and examples, scale of latents."""

import numpy as np
import pytest
import toy_codes

from deft_jax import metrics

# Name -> the score, options, tolerance under other orders and signs (other trees, sums in another order).
SCORES = {
    "mig": ("mig", {}, 1e-9),
    "nmi": ("nmi1", {}, 1e-9),
    "mcc": ("mcc", {}, 1e-9),
    "mig_sup": ("mig_sup", {}, 1e-9),
    "jemmig": ("jemmig", {}, 1e-9),
    "dcimig": ("dcimig", {}, 1e-9),
    "irs": ("irs", {}, 1e-9),
    "latent_mutual_information": ("latent_mutual_information", {}, 1e-9),
    "r2": ("r2", {}, 1e-9),
    "modularity_explicitness": ("explicitness_test", {}, 1e-4),
    "dci": ("disentanglement", {"model": "linear"}, 1e-6),
    "dci_es": ("dci_es_informativeness", {"num_trees": 30}, 0.03),
    "infomec": ("infom", {"estimator": "binned"}, 1e-9),
    "sap": ("sap", {}, 1e-9),
}
by_name = pytest.mark.parametrize("name", SCORES)


def _score(name, codes, factors):
    key, options, _ = SCORES[name]
    return np.mean(metrics.compute(name, codes, factors, **options)[key])


@by_name
def test_order_and_sign_do_not_matter(name):
    codes, factors = toy_codes.noisy()
    expected, tolerance = _score(name, codes, factors), SCORES[name][2]
    moved = _score(name, codes[:, [3, 0, 4, 1, 2]], factors[:, [2, 0, 1]])
    assert moved == pytest.approx(expected, abs=tolerance)
    assert _score(name, codes * [-1, 1, -1, 1, -1], factors) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("name", [name for name in SCORES if name not in ("irs", "sap", "infomec")])
def test_scale_and_shift_of_latents_do_not_matter(name):
    # IRS weights latents by their deviation, SAP has a penalty, InfoMEC prunes narrow latents.
    codes, factors = toy_codes.noisy()
    expected = _score(name, codes, factors)
    scaled = codes * [4, 0.7, 1, 1e-3, 8] + [5, -2, 0.1, 0, 9]
    assert _score(name, scaled, factors) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["mig", "nmi", "mcc", "mig_sup", "jemmig", "dcimig", "irs"])
def test_order_of_examples_does_not_matter(name):
    codes, factors = toy_codes.noisy()
    rows = np.random.default_rng(1).permutation(len(codes))
    assert _score(name, codes[rows], factors[rows]) == pytest.approx(_score(name, codes, factors), abs=1e-12)

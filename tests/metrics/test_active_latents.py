"""Active, mixed and passive latents."""

import numpy as np
from refusals import refused

from deft_jax.metrics.latents import active_latents


def test_latents_are_classified_by_variance_and_mean():
    # Half of the images each: sigma^2 and mu of the two halves.
    sigma2 = [(0.01, 0.05), (1, 1), (0.02, 1), (0.95, 1.08), (0.5, 0.5), (1, 1), (1.5, 1.5), (0.1, 0.1)]
    mu = [(-1, 1), (0, 0), (2, 0), (0.1, -0.1), (-0.5, 0.5), (-2, 2), (0, 0), (0, 0)]
    mean, logvar = np.repeat(np.array(mu).T, 3, axis=0), np.log(np.repeat(np.array(sigma2).T, 3, axis=0))
    classes = active_latents(mean, logvar, active_variance=0.1 + 1e-9)
    expected = ["active", "passive", "mixed", "passive", "mixed", "mixed", "mixed", "active"]
    for kind in ("active", "mixed", "passive"):
        np.testing.assert_array_equal(classes[kind], [kind == k for k in expected])
    np.testing.assert_allclose(classes["variance"], np.mean(sigma2, axis=1))
    np.testing.assert_allclose(classes["variance_of_mean"], np.var(mu, axis=1))


def test_thresholds_bound_the_classes():
    mean = np.array([[-0.5, 0.0], [0.5, 0.0]])
    logvar = np.log([[0.8, 0.3]] * 2)
    assert active_latents(mean, logvar)["mixed"].tolist() == [True, True]
    assert active_latents(mean, logvar, active_variance=0.31)["active"].tolist() == [False, True]
    assert active_latents(mean, logvar, passive_tolerance=0.21)["passive"].tolist() == [False, False]
    loose = active_latents(mean, logvar, passive_tolerance=0.21, passive_mean_variance=0.26)
    assert loose["passive"].tolist() == [True, False]


def test_each_latent_has_exactly_one_class():
    rng = np.random.default_rng(0)
    for latents in (1, 200):
        scale = rng.uniform(0, 1, size=latents)
        classes = active_latents(
            rng.normal(size=(50, latents)) * scale,
            np.log(rng.uniform(0, 1.4, latents)) + 0.1 * rng.normal(size=(50, latents)),
        )
        total = classes["active"].astype(int) + classes["mixed"] + classes["passive"]
        np.testing.assert_array_equal(total, np.ones(latents))
    assert min(classes["active"].sum(), classes["mixed"].sum(), classes["passive"].sum()) > 0


def test_bad_inputs_are_refused():
    ones = np.ones((4, 2))
    cases = [
        ((ones, ones[1:]), {}, r"same shape, got \(4, 2\) and \(3, 2\)"),
        ((ones * np.nan, ones), {}, "mean must be finite real numbers"),
        ((ones, ones * np.inf), {}, "logvar must be finite real numbers"),
        ((ones[0], ones), {}, r"mean must be a non-empty \[N, D\] array, got shape \(2,\)"),
        ((ones, ones), {"active_variance": -1}, "thresholds must be >= 0"),
        ((ones, ones), {"active_variance": 0.9}, r"active_variance 0\.9 must be below 1 - passive_tolerance, 0\.9"),
    ]
    for arguments, options, message in cases:
        with refused(message):
            active_latents(*arguments, **options)

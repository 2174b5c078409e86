"""Posteriors of a data set, scores of codes, and the order in which factors freeze."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from deft_jax import metrics
from deft_jax.data.factors import draw
from deft_jax.evaluation import decoder, factor_entry, figures, pictures
from deft_jax.evaluation import encoder as evaluation_encoder
from deft_jax.evaluation import scores as evaluation_scores
from deft_jax.models.likelihoods import to_images
from deft_jax.models.posterior import Posterior
from deft_jax.training import step


@pytest.fixture(scope="module")
def experiment():
    return tiny.experiment()


@pytest.fixture(scope="module")
def params(experiment):
    params = jax.tree.map(np.asarray, step.init_state(experiment).params)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32), params)


def test_sampled_factors_are_uniform_and_determined_by_the_seed(experiment):
    sizes = (4, 10, 200)
    source = dataclasses.replace(experiment.source, factor_sizes=sizes)
    factors = evaluation_encoder.draw_factors(source, 4000, 1)
    assert (factors.shape, factors.dtype) == ((4000, 3), np.int32)
    for column, size in enumerate(sizes):
        share = np.bincount(factors[:, column], minlength=size) / 4000
        np.testing.assert_allclose(share, np.full(size, 1 / size), atol=0.04)
    np.testing.assert_array_equal(evaluation_encoder.draw_factors(source, 4000, 1), factors)
    assert not np.array_equal(evaluation_encoder.draw_factors(source, 4000, 2), factors)
    np.testing.assert_array_equal(factors, draw(1, 4000, sizes))


@pytest.mark.parametrize("num_samples", [32, 10_000])
def test_a_small_set_is_sampled_whole_in_random_order(experiment, num_samples):
    factors = evaluation_encoder.draw_factors(experiment.source, num_samples, 1)
    assert (factors.shape, factors.dtype) == ((32, 3), np.int32)
    index = np.ravel_multi_index(tuple(factors.T), experiment.source.factor_sizes)
    np.testing.assert_array_equal(np.sort(index), np.arange(32))
    assert not np.array_equal(index, np.arange(32))
    np.testing.assert_array_equal(evaluation_encoder.draw_factors(experiment.source, num_samples, 1), factors)
    assert not np.array_equal(evaluation_encoder.draw_factors(experiment.source, num_samples, 2), factors)
    assert len(evaluation_encoder.draw_factors(experiment.source, 31, 1)) == 31


def test_encoding_many_examples_equals_encoding_each(experiment, params):
    source, model = experiment.source, experiment.model
    factors = draw(0, 1203, source.factor_sizes)
    encoder = evaluation_encoder.Encoder(experiment.source, experiment.encode)
    images = source.render(source.arrays, jnp.asarray(factors), jax.random.key(0))
    for stage in range(2):
        want = jax.jit(model.encode, static_argnums=2)(params, images, stage)
        for count in (1203, 3):
            got = encoder(params, factors[:count], stage)
            assert isinstance(got, Posterior)
            for one, other in zip(got, want, strict=True):
                assert one.shape == (count, 4)
                np.testing.assert_allclose(one, other[:count], rtol=1e-4, atol=1e-5)


def test_cache_encodes_each_image_once(experiment, params):
    source = experiment.source
    factors = np.stack(np.unravel_index(np.arange(32), source.factor_sizes), axis=1)

    def encode(params, stage):
        images = source.render(source.arrays, jnp.asarray(factors), jax.random.key(0))
        return experiment.encode(params, images, stage)

    for stage in range(2):
        want = jax.tree.map(np.asarray, jax.jit(encode, static_argnums=1)(params, stage))
        cache = evaluation_encoder.PosteriorCache(experiment.source, experiment.encode, params, stage)
        for rows, encoded in (([7, 3, 7], 2), ([3], 2), ([31, 0, 3], 4), (np.arange(32)[::-1], 32)):
            for one, other in zip(cache(factors[rows]), want, strict=True):
                np.testing.assert_allclose(one, other[rows], rtol=1e-4, atol=1e-5)
            assert cache.num_encoded == encoded


def test_cache_encodes_more_images_than_one_dispatch_takes(experiment, params):
    sizes = (2, 4, 4, 600)
    source = experiment.source
    wide = dataclasses.replace(
        source,
        factor_names=(*source.factor_names, "nothing"),
        factor_sizes=sizes,
        render=lambda arrays, factors, key: source.render(arrays, factors[:, :3], key),
    )
    factors = np.stack(np.unravel_index(np.arange(19200), sizes), axis=1)
    narrow = evaluation_encoder.PosteriorCache(experiment.source, experiment.encode, params, 1)(factors[:, :3])
    posterior = evaluation_encoder.PosteriorCache(wide, experiment.encode, params, 1)(factors)
    np.testing.assert_allclose(posterior.mean, narrow.mean, rtol=1e-4, atol=1e-5)


def test_noise_of_an_image_depends_on_its_index_and_the_seed(experiment, params):
    source = experiment.source

    def noisy(arrays, factors, key):
        images = source.render(arrays, factors, key)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(len(images)))
        return images * jax.vmap(lambda k: jax.random.uniform(k, source.image_shape))(keys)

    noised = dataclasses.replace(experiment, source=dataclasses.replace(source, render=noisy))
    factors = np.stack(np.unravel_index(np.arange(32), source.factor_sizes), axis=1)
    whole = evaluation_encoder.PosteriorCache(noised.source, noised.encode, params, 1)(factors)
    cache = evaluation_encoder.PosteriorCache(noised.source, noised.encode, params, 1)
    for rows in ([5], [30, 5, 2], [2, 31, 0]):
        np.testing.assert_allclose(cache(factors[rows]).mean, whole.mean[rows], rtol=1e-4, atol=1e-5)
    other = evaluation_encoder.PosteriorCache(noised.source, noised.encode, params, 1, seed=1)(factors)
    assert np.abs(other.mean - whole.mean).max() > 1e-2


def test_constant_factors_do_not_change_the_scores_of_the_others():
    rng = np.random.default_rng(0)
    factors = rng.integers(0, 5, size=(500, 3))
    codes = factors[:, [0, 2, 2]] + rng.normal(size=(500, 3))
    factors[:, 1] = 4
    scores, want = evaluation_scores.score(codes, factors), evaluation_scores.score(codes, factors[:, [0, 2]])
    assert set(scores) == set(want)
    assert scores["mig"] == want["mig"]
    for name in set(want) - {"mig"}:
        np.testing.assert_array_equal(scores[name][..., [0, 2]], want[name])
        assert not np.any(scores[name][..., 1])
    nothing = evaluation_scores.score(codes, np.ones((500, 2), int))
    assert "mig" not in nothing
    assert nothing["nmi"].shape == (3, 2)


def test_headlines_are_numbers_named_by_their_estimator():
    scores = {
        "infomec": {"infom": 0.5, "estimator": "knn", "nmi": np.eye(2), "num_distinct_train": 7, "note": None},
        "irs": {"irs": np.float32(0.25), "irs_num_active": 3, "x_num_distinct_test": 9, "binned": [1],
                "count": np.int64(2), "is": True},
    }
    assert evaluation_scores.headlines(scores) == {"infom": 0.5, "irs": 0.25, "count": 2.0}
    assert list(evaluation_scores.headlines(scores, labelled=True)) == ["infom (knn)", "irs", "count"]


def test_continuous_is_passed_where_a_factor_is_or_where_the_metric_would_guess(monkeypatch):
    known = {
        "guesses": lambda codes, factors, continuous=None: {},
        "classes": lambda codes, factors, continuous=False, seed=0: {},
        "plain": lambda codes, factors, progress=None: {},
    }
    monkeypatch.setattr(metrics, "get", known.get)
    offered = {"seed": 3, "progress": print, "groups": [0]}
    assert evaluation_scores.accepted("guesses", offered, (False, False)) == {"continuous": [False, False]}
    assert evaluation_scores.accepted("guesses", offered) == {}
    assert evaluation_scores.accepted("classes", offered, (False, False)) == {"seed": 3}
    assert evaluation_scores.accepted("classes", offered, (False, True)) == {"seed": 3, "continuous": [False, True]}
    assert evaluation_scores.accepted("plain", offered, (False, True)) == {"progress": print}


NAMES = ("shape", "scale", "posX", "posY")
BETAS = [70.0, 30.0, 4.0]
EVALUATIONS = [  # scale is there for a moment at first, and has not entered; posX is last of all, and has gone again
    {"step": 10, "nmi": [[0.0, 0.9, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]},
    {"step": 20, "nmi": [[0.01, 0.05, 0.3, 0.0], [0.02, 0.0, 0.1, 0.6], [0.0, 0.0, 0.0, 0.0]]},
    {"step": 30, "nmi": [[0.02, 0.05, 0.5, 0.0], [0.03, 0.0, 0.1, 0.15], [0.0, 0.4, 0.0, 0.0]]},
    {"step": 40, "nmi": [[0.02, 0.05, 0.6, 0.0], [0.03, 0.0, 0.1, 0.15], [0.0, 0.5, 0.0, 0.0]]},
    {"step": 50, "nmi": [[0.09, 0.1, 0.03, 0.0], [0.05, 0.0, 0.02, 0.7], [0.0, 0.5, 0.0, 0.0]]},
]
for _record, _stage in zip(EVALUATIONS, (0, 0, 1, 1, 2), strict=True):
    _record |= {"stage": _stage, "beta": BETAS[_stage]}


def test_factors_are_listed_in_the_order_in_which_they_enter_permanently():
    rows = factor_entry.freezing_order(EVALUATIONS, NAMES, (0, 0, 1))
    fields = ("factor", "nmi", "step", "stage", "beta", "latent", "group")
    assert [tuple(row[field] for field in fields) for row in rows] == [
        ("posY", [0.6, 0.15, 0.7], 20, 0, 70.0, 1, 0),
        ("scale", [0.05, 0.5, 0.5], 30, 1, 30.0, 2, 1),
        ("posX", [0.3, 0.6, 0.03], None, None, None, None, None),
        ("shape", [0.02, 0.03, 0.09], None, None, None, None, None),
    ]


def test_factors_that_enter_together_are_listed_by_their_nmi():
    rows = factor_entry.freezing_order(EVALUATIONS[:4], NAMES, (0, 0, 1))
    assert [(row["factor"], row["step"]) for row in rows[:3]] == [("posY", 20), ("posX", 20), ("scale", 30)]
    assert [len(row["nmi"]) for row in rows] == [2] * 4, "one entry per stage so far"


@pytest.mark.parametrize(("threshold", "want"), [
    (0.09, [("posY", 0), ("posX", None), ("scale", 1), ("shape", 2)]),
    (0.65, [("posY", 2), ("posX", None), ("scale", None), ("shape", None)]),
])
def test_threshold_decides_which_factors_have_entered(threshold, want):
    rows = factor_entry.freezing_order(EVALUATIONS, NAMES, (0, 0, 1), threshold)
    assert {(row["factor"], row["stage"]) for row in rows} == set(want)
    assert rows[0]["factor"] == "posY"


def test_pictures_of_a_model_show_what_it_decodes(experiment, params):
    source, model = experiment.source, experiment.model
    factors = evaluation_encoder.draw_factors(source, 64, 0)
    posterior = evaluation_encoder.Encoder(experiment.source, experiment.encode)(params, factors, 0)
    decode = decoder.Decoder(source, model)
    originals = pictures.first_images(source, factors)
    grids = pictures.grids(decode, params, 0, originals, posterior, 2.0)
    side, gap = source.image_shape[0], 1

    def tile(grid, row, column, extra=0):  # extra: pixels of wider gaps above
        top, left = row * (side + gap) + extra, column * (side + gap)
        return grid[top : top + side, left : left + side, :1] / 255

    np.testing.assert_allclose(tile(grids["reconstructions"], 0, 3), originals[3], atol=1 / 255)
    decoded = np.asarray(to_images(source.likelihood, model.decode(params, posterior.mean[13:14])))[0]
    np.testing.assert_allclose(tile(grids["reconstructions"], 3, 3, 2 * gap), decoded, atol=1 / 255)
    z = posterior.mean[:1].copy()
    z[0, 1] = -2.0  # the second open latent at the first value
    decoded = np.asarray(to_images(source.likelihood, model.decode(params, z)))[0]
    np.testing.assert_allclose(tile(grids["traversals"], 1, 0), decoded, atol=1 / 255)
    assert grids["traversals"].shape[0] == 2 * side + gap, "only the two latents of the open group"
    numbers = pictures.histograms(posterior, model.group_of_latent, 0)
    assert set(numbers) == {"mean/0", "mean/1", "deviation/0", "deviation/1"}
    np.testing.assert_allclose(numbers["deviation/1"] ** 2, np.exp(posterior.logvar[:, 1]), rtol=1e-5)


def test_figures_of_a_model_show_the_open_latents(experiment, params):
    source, model = experiment.source, experiment.model
    factors = evaluation_encoder.draw_factors(source, 64, 0)
    posterior = evaluation_encoder.Encoder(experiment.source, experiment.encode)(params, factors, 0)
    figure_of_name = figures.figures(
        source=source,
        model=model,
        params=params,
        stage=0,
        factors_NxF=factors,
        posterior=posterior,
        scores=evaluation_scores.score(posterior.mean, factors),
        title="a title",
    )
    assert set(figure_of_name) == {"traversals", "reconstructions", "nmi"}
    text = " ".join(t.get_text() for t in figure_of_name["traversals"].findobj(lambda a: hasattr(a, "get_text")))
    assert "z1 (group 0)" in text
    assert "z2" not in text

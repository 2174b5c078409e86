"""Held-out scores are held out: no image stands on both sides of a split, and noise scores at the chance level."""

import concurrent.futures
import threading

import numpy as np
import pytest
from sklearn import linear_model

from deft_jax.metrics import beta_vae, dci, factor_vae, inputs, r2, sap


def noise(images, rows, classes=10, latents=8, seed=0):
    """Codes of images of noise, with labels that have nothing to do with them, and the image of each row."""
    rng = np.random.default_rng(seed)
    codes, labels = rng.standard_normal((images, latents)), rng.integers(0, classes, (images, 2))
    index = rng.integers(0, images, rows)
    return codes[index], labels[index], index


@pytest.mark.parametrize("images", [200, 1_000])
@pytest.mark.parametrize("model", ["trees", "linear"])
def test_noise_drawn_many_times_is_predicted_at_the_chance_level(images, model):
    codes, labels, _ = noise(images, 2_000)
    found = dci.dci(codes, labels, model=model, groups=inputs.distinct_rows(codes, labels))
    assert found["informativeness_train"] > 0.15  # it has learned images by heart
    assert found["informativeness_test"] < 0.2  # ten classes: 0.1, and what few images leave to luck
    assert found["num_distinct_train"] + found["num_distinct_test"] <= images


def test_codes_with_noise_of_their_own_are_held_out_by_their_image():
    codes, labels, index = noise(100, 3_000)
    sampled = codes + 1e-3 * np.random.default_rng(1).standard_normal(codes.shape)
    by_row, by_image = (dci.dci(sampled, labels, groups=groups) for groups in (np.arange(3_000), index))
    assert by_row["informativeness_test"] > 0.9
    assert by_image["informativeness_test"] < 0.25
    assert by_image["num_distinct_train"] + by_image["num_distinct_test"] == len(np.unique(index))


def test_sap_sees_no_image_twice():
    codes, labels, index = noise(50, 2_000)
    found = sap.sap(codes, labels, groups=index)
    assert found["num_distinct_train"] + found["num_distinct_test"] == len(np.unique(index))
    with pytest.raises(ValueError, match="distinct images"):
        sap.sap(codes[:1].repeat(20, axis=0), labels[:2].repeat(10, axis=0), groups=np.zeros(20, int))


def test_split_of_distinct_rows_is_the_permutation():
    for count in (10, 101):
        plain = inputs.split(count, None, 3)
        for groups in (np.arange(count), np.random.default_rng(0).permutation(count)):
            for part, grouped in zip(plain, inputs.split(count, None, 3, groups), strict=True):
                np.testing.assert_array_equal(part, grouped)


@pytest.mark.parametrize("seed", range(5))
def test_split_keeps_groups_together_and_covers_all_rows(seed):
    groups = np.random.default_rng(seed).integers(0, 30, 400)
    train, test = inputs.split(400, 200, seed, groups)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(400))
    assert not set(groups[train]) & set(groups[test])
    largest = np.bincount(groups).max()
    assert 200 <= len(train) < 200 + largest


def test_rows_are_distinct_by_codes_and_factors():
    codes = np.array([[0.0], [0.0], [1.0], [0.0]])
    groups = inputs.distinct_rows(codes, np.array([[0], [1], [0], [0]]))
    assert len(set(groups)) == 3
    assert groups[0] == groups[3]


@pytest.mark.parametrize("metric", [factor_vae.factor_vae, beta_vae.beta_vae])
def test_sampled_metrics_say_how_many_images_they_saw(metric):
    sizes = (2, 3)
    codes = np.random.default_rng(0).standard_normal((6, 10))
    found = metric(
        lambda factors: codes[np.ravel_multi_index(tuple(factors.T), sizes)], sizes, num_train=200, num_eval=100
    )
    assert found["num_distinct_train"] == found["num_distinct_eval"] == 6


@pytest.mark.parametrize(("metric", "score"), [(dci.dci, "disentanglement"), (sap.sap, "sap")])
def test_a_thousand_distinct_labels_are_a_continuum(metric, score):
    rng = np.random.default_rng(0)
    labels = np.stack([rng.uniform(size=1_000), rng.integers(0, 3, 1_000)], axis=1)
    codes = np.stack([labels[:, 0] - 0.5, 3 * labels[:, 1], np.zeros(1_000)], axis=1)
    found = metric(codes, labels)
    declared = metric(codes, labels, continuous=[True, False])
    assert found[score] == declared[score] > 0.6
    assert found.get("informativeness_test", 1.0) > 0.95


def test_whole_numbers_that_repeat_are_classes():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, 40, 1_000), rng.integers(0, 183, 1_000)], axis=1)
    assert not inputs.continuous_columns(factors).any()
    assert not inputs.continuous_columns(factors.astype(float)).any()
    assert inputs.continuous_columns(np.stack([np.arange(1_000), rng.permutation(1_000)], axis=1)).all()


def test_linear_dci_weighs_factors_by_their_weights():
    """Two continuous factors on one latent: P of the shared latent is the ratio of the weights, unscaled."""
    rng = np.random.default_rng(0)
    shared, own = rng.standard_normal((2, 4_000))
    first, second = shared, 0.6 * shared + 0.8 * own
    codes, factors = np.stack([shared, own], axis=1), np.stack([first, second], axis=1)
    found = dci.dci(codes, factors, model="linear", lasso_alpha=1e-6, continuous=[True, True])
    expected = np.array([[1.0, 0.6], [0.0, 0.8]])
    np.testing.assert_allclose(found["importance"], expected, atol=0.03)
    share = np.array([1.0, 0.6]) / 1.6
    of_shared = 1 + (share * np.log(share)).sum() / np.log(2)
    weights = np.array([1.6, 0.8]) / 2.4
    np.testing.assert_allclose(found["disentanglement"], weights @ [of_shared, 1.0], atol=0.03)


def test_progress_is_reported_factor_by_factor_and_changes_nothing():
    codes, labels, _ = noise(300, 600)
    for metric in (dci.dci, sap.sap):
        seen = []
        with_progress = metric(codes, labels, progress=lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == [(1, 2), (2, 2)]
        plain = metric(codes, labels)
        for name, value in plain.items():
            np.testing.assert_array_equal(with_progress[name], value)


def test_r2_is_held_out():
    codes, labels, index = noise(60, 2_000, latents=30)
    assert r2.r2(codes, labels, groups=index)["r2"] < 0


def test_linear_dci_averages_completeness_over_factors_alike():
    # Three independent signs, the third not in the codes. Factor 0 is the first; factor 1 has correlation 0.3 with each
    # of the first two. Soft thresholding takes alpha off each weight: R = [[0.9, 0.2], [0, 0.2]].
    part = np.tile(2.0 * np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), axis=-1).reshape(-1, 3) - 1, (5, 1))
    signs = np.empty((80, 3))
    signs[np.random.default_rng(0).permutation(80)] = np.concatenate([part, part])
    factors = np.stack([5 * signs[:, 0], signs @ [0.3, 0.3, np.sqrt(1 - 0.18)]], axis=1)
    found = dci.dci(7 * signs[:, :2], factors, "linear", num_train=40, continuous=[True, True], lasso_alpha=0.1)
    np.testing.assert_allclose(found["importance"], [[0.9, 0.2], [0, 0.2]], atol=1e-9)
    share = np.array([0.9, 0.2]) / 1.1
    assert found["disentanglement"] == pytest.approx((1.1 + 1.1 * (share * np.log2(share)).sum() + 0.2) / 1.3, abs=1e-9)
    np.testing.assert_allclose(found["completeness_per_factor"], [1, 0], atol=1e-9)
    assert found["completeness"] == pytest.approx(1 / 2, abs=1e-9)


def test_linear_dci_averages_weights_over_two_values_as_over_three():
    rng = np.random.default_rng(0)
    factors = rng.integers([2, 3], size=(300, 2))
    codes = factors @ np.array([[1, 1, 0], [0, 1, 1]]) + rng.normal(size=(300, 3))
    found = dci.dci(codes, factors, "linear", num_train=200)
    train, _ = inputs.split(300, 200, 0)
    for f, num_values in enumerate((2, 3)):
        fit = linear_model.LogisticRegression(l1_ratio=1, solver="saga", max_iter=10_000, tol=1e-8, random_state=1)
        weights = np.abs(fit.fit(inputs.standardise(codes, train)[train], factors[train, f]).coef_).sum(axis=0)
        np.testing.assert_allclose(found["importance"][:, f], weights / num_values, atol=5e-3)


@pytest.mark.parametrize("metric", [dci.dci, sap.sap])
@pytest.mark.parametrize("constant", [0.3, -1.5, 4.0])
def test_constant_columns_are_named(metric, constant):
    labels = np.stack([np.random.default_rng(0).uniform(size=100), np.full(100, constant)], axis=1)
    with pytest.raises(ValueError, match=r"^factor 1 is constant in the sample: leave it out$"):
        metric(labels, labels)


@pytest.mark.parametrize("metric", [factor_vae.factor_vae, beta_vae.beta_vae])
def test_sampled_metrics_report_progress(metric):
    seen = []
    options = {"num_train": 30, "num_eval": 20, "batch_size": 4, "chunk": 40}
    found = metric(lambda z: z * 1.0, (3, 4), progress=lambda *call: seen.append(call), **options)
    done, totals = zip(*seen, strict=True)
    assert set(totals) == {50}
    assert list(done) == sorted(set(done))
    assert done[-1] == 50
    assert len(done) > 2
    plain = metric(lambda z: z * 1.0, (3, 4), **options)
    for name, value in plain.items():
        np.testing.assert_array_equal(found[name], value)


def test_what_progress_raises_cancels_what_has_not_begun():
    begin, ran = threading.Event(), []

    def task(number):
        if number:
            begin.wait(10)
        ran.append(number)

    def progress(done, total):
        raise KeyboardInterrupt

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        futures = [pool.submit(task, number) for number in range(10)]
        with pytest.raises(KeyboardInterrupt):
            inputs.report_progress(futures, progress)
        begin.set()
    assert len(ran) <= 2


def test_collapsed_codes_have_every_result():
    collapsed, codes = (
        factor_vae.factor_vae(encode, (3, 4), num_train=20, num_eval=20)
        for encode in (lambda z: np.full((len(z), 3), 0.1), lambda z: z * 1.0)
    )
    assert collapsed.keys() == codes.keys()


def test_distinct_images_are_counted_on_any_grid():
    sizes = (2**31 - 1,) * 3
    factors = np.random.default_rng(0).integers(3, size=(20, 4, 2, 3), dtype=np.int32)
    assert inputs.count_distinct(factors, sizes) == len({tuple(row) for row in factors.reshape(-1, 3).tolist()})


@pytest.mark.parametrize(("sizes", "of_votes", "of_pairs"), [((2, 3), 0.90, 1.00), ((4, 5, 10), 0.48, 0.48)])
def test_noise_on_few_images_scores_as_documented(sizes, of_votes, of_pairs):
    found = {"factor_vae": [], "beta_vae": []}
    for seed in range(4):
        codes = np.random.default_rng(seed).standard_normal((np.prod(sizes), 10))

        def encode(factors, codes=codes):
            return codes[np.ravel_multi_index(tuple(factors.T), sizes)]

        for metric in (factor_vae.factor_vae, beta_vae.beta_vae):
            scores = metric(encode, sizes, num_train=1_000, num_eval=1_000, seed=seed)
            found[metric.__name__].append(scores[metric.__name__])
    np.testing.assert_allclose(np.mean(found["factor_vae"]), of_votes, atol=0.12)
    np.testing.assert_allclose(np.mean(found["beta_vae"]), of_pairs, atol=0.12)

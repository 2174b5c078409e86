"""FactorVAE and beta-VAE metrics, which draw images themselves: closed forms, definitions, symmetries, progress."""

import warnings

import numpy as np
import pytest
from refusals import refused
from sklearn.linear_model import LogisticRegression
from toy_codes import hash_noise, partly_informative

from deft_jax.metrics.beta_vae import beta_vae
from deft_jax.metrics.factor_vae import factor_vae

SIZES = (5, 8, 6)
FEW = {"num_train": 600, "num_eval": 400, "batch_size": 16}
SAMPLED = {
    "factor_vae": lambda encode, sizes, **options: factor_vae(encode, sizes, num_variance=1000, **FEW | options),
    "beta_vae": lambda encode, sizes, **options: beta_vae(encode, sizes, **FEW | options),
}
sampled = pytest.mark.parametrize("name", SAMPLED)


def _perfect(factors):
    return factors.astype(float)


class _Recorder:
    """Encodes, and records the factors of all calls."""

    def __init__(self, encode):
        self.encode, self.calls = encode, []

    def __call__(self, factors):
        self.calls.append(factors.copy())
        return self.encode(factors)

    def batches(self, *shape_of_parts):
        """All rows in order, cut into parts of the given leading shapes."""
        rows, parts = np.concatenate(self.calls), []
        for shape in shape_of_parts:
            count = int(np.prod(shape))
            parts.append(rows[:count].reshape(*shape, rows.shape[1]))
            rows = rows[count:]
        assert not len(rows)
        return parts


@sampled
def test_perfect_codes_score_one_in_any_order_and_unit(name):
    codes = {
        "perfect": _perfect,
        "scaled and shifted": lambda factors: factors[:, [2, 0, 1]] * [-3.0, 0.7, 20.0] + [5.0, 0.0, -1.0],
        "with latents of noise": lambda factors: np.concatenate([factors, 0.5 * hash_noise(factors, 2)], axis=1),
    }
    for encode in codes.values():
        scores = SAMPLED[name](encode, SIZES, batch_size=64)
        assert scores[name] == scores[f"{name}_train"] == 1.0
        assert isinstance(scores[name], float)


@sampled
def test_useless_codes_score_chance(name):
    # The label is uniform for any classifier; the factors have many values so that the hash averages out.
    sizes = (50, 60, 40, 70)
    scores = SAMPLED[name](hash_noise, sizes, num_train=2000, num_eval=2000)
    assert scores[name] == pytest.approx(1 / 4, abs=4 * np.sqrt(0.25 * 0.75 / 2000))


@sampled
def test_two_factors_rotated_by_45_degrees_score_two_thirds(name):
    # Fixing factor 0 and fixing factor 1 change the sum and the difference alike, so a classifier guesses between them.
    def rotated(factors):
        first, second, third = factors.T
        return np.stack([first + second, first - second, third], axis=1).astype(float)

    scores = SAMPLED[name](rotated, (6, 6, 6), num_eval=2000)
    assert scores[name] == pytest.approx(2 / 3, abs=4 * np.sqrt(2 / 9 / 2000))


@sampled
def test_order_and_sign_of_latents_do_not_matter(name):
    def moved(factors):
        return partly_informative(factors)[:, [3, 1, 0, 2]] * [1, -1, -1, 1]

    expected = SAMPLED[name](partly_informative, SIZES)[name]
    # The solver of the classifier sums in another order, so a few points at the border may change sides.
    tolerance = 0 if name == "factor_vae" else 0.01
    assert SAMPLED[name](moved, SIZES)[name] == pytest.approx(expected, abs=tolerance)
    assert 0.4 < expected < 0.95


@sampled
def test_collapsed_latents_do_not_matter(name):
    def with_constants(factors):
        return np.insert(partly_informative(factors), [0, 2], 0.1, axis=1)

    expected, tolerance = SAMPLED[name](partly_informative, SIZES)[name], 0 if name == "factor_vae" else 0.01
    assert SAMPLED[name](with_constants, SIZES)[name] == pytest.approx(expected, abs=tolerance)


@sampled
def test_one_latent_has_a_closed_form(name):
    # Equal sizes: a fixed factor 1 is recognised; the two other factors are guessed.
    scores = SAMPLED[name](lambda factors: factors[:, 1:2] * 1.0, (6, 6, 6), num_eval=2000)
    expected = 1 / 3 if name == "factor_vae" else 2 / 3
    assert scores[name] == pytest.approx(expected, abs=4 * np.sqrt(2 / 9 / 2000))


@sampled
def test_seed_decides_the_draws(name):
    runs = []
    for seed in (0, 0, 1):
        recorder = _Recorder(partly_informative)
        scores = SAMPLED[name](recorder, SIZES, seed=seed)
        runs.append((scores, np.concatenate(recorder.calls)))
    (first, drawn), (again, drawn_again), (_, others) = runs
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
    np.testing.assert_array_equal(drawn, drawn_again)
    assert (drawn != others).mean() > 0.5
    np.testing.assert_array_equal(np.unique(drawn[:, 1]), np.arange(8))


@sampled
def test_calls_are_at_most_a_chunk_and_scores_do_not_depend_on_it(name):
    scores = {}
    for chunk in (7, 40, 100, 10_000):
        recorder = _Recorder(partly_informative)
        scores[chunk] = SAMPLED[name](recorder, SIZES, num_train=100, num_eval=50, chunk=chunk)
        assert max(map(len, recorder.calls)) <= chunk
    for chunk in (7, 40, 100):
        for key, value in scores[10_000].items():
            np.testing.assert_array_equal(scores[chunk][key], value)


@sampled
def test_distinct_images_are_counted_in_each_part(name):
    scores = SAMPLED[name](_perfect, (2, 3))
    assert scores["num_distinct_train"] == scores["num_distinct_eval"] == 6


@sampled
def test_factor_with_one_value_is_never_fixed(name):
    scores = SAMPLED[name](_perfect, (5, 1, 8, 6))
    assert scores[name] == 1.0
    if name == "factor_vae":
        np.testing.assert_array_equal(scores["factor_vae_votes"] > 0, np.diag([1, 0, 1, 1]))


def test_factor_vae_equals_the_loop_of_its_definition():
    recorder = _Recorder(partly_informative)
    scores = factor_vae(recorder, (9, 8, 7), num_variance=500, num_train=300, num_eval=200, batch_size=12)
    sample, train, evaluation = recorder.batches((500,), (300, 12), (200, 12))
    global_variance = np.var(partly_informative(sample), axis=0, ddof=1)

    votes = {"train": np.zeros((3, 4), int), "evaluation": np.zeros((3, 4), int)}
    for part, batches in (("train", train), ("evaluation", evaluation)):
        for batch in batches:
            (fixed,) = [f for f in range(3) if len(set(batch[:, f])) == 1]
            ratios = [np.var(partly_informative(batch)[:, d], ddof=1) / global_variance[d] for d in range(4)]
            votes[part][fixed, ratios.index(min(ratios))] += 1
    num_correct = {"train": 0, "evaluation": 0}
    for d in range(4):
        best = list(votes["train"][:, d]).index(max(votes["train"][:, d]))
        for part in num_correct:
            num_correct[part] += votes[part][best, d]
    np.testing.assert_array_equal(scores["factor_vae_votes"], votes["train"])
    assert scores["factor_vae_train"] == num_correct["train"] / 300
    assert scores["factor_vae"] == num_correct["evaluation"] / 200
    assert 0.4 < scores["factor_vae"] < 0.95
    assert votes["train"].sum(axis=1).min() > 50


def test_factor_vae_prunes_by_the_standard_deviation():
    def encode(factors):
        codes = factors - np.array([4, 3.5, 3])
        return codes / np.sqrt((81 - 1) / 12) * [1.0, 0.06, 0.04]

    scores = factor_vae(encode, (9, 9, 9), num_variance=1000, **FEW)
    assert scores["factor_vae_num_active"] == 2
    assert not scores["factor_vae_votes"][:, 2].any()
    assert scores["factor_vae"] == pytest.approx(2 / 3, abs=0.1)
    assert factor_vae(encode, (9, 9, 9), num_variance=1000, variance_threshold=0, **FEW)["factor_vae"] == 1.0


@pytest.mark.parametrize("threshold", [0, 0.05])
def test_factor_vae_of_collapsed_codes_is_zero(threshold):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = factor_vae(lambda factors: np.full((len(factors), 3), 0.1), SIZES, variance_threshold=threshold)
    assert scores["factor_vae"] == scores["factor_vae_train"] == scores["factor_vae_num_active"] == 0
    np.testing.assert_array_equal(scores["factor_vae_votes"], np.zeros((3, 3)))
    assert scores.keys() == factor_vae(_perfect, SIZES, num_train=20, num_eval=20).keys()


def test_beta_vae_equals_the_loop_of_its_definition():
    recorder = _Recorder(partly_informative)
    scores = beta_vae(recorder, (9, 8, 7), num_train=300, num_eval=200, batch_size=12)
    train, evaluation = recorder.batches((300, 12, 2), (200, 12, 2))

    def features_and_labels(points):
        features, labels = [], []
        for pairs in points:
            (shared,) = [f for f in range(3) if (pairs[:, 0, f] == pairs[:, 1, f]).all()]
            codes = [partly_informative(pair) for pair in pairs]
            features.append(np.mean([abs(first - second) for first, second in codes], axis=0))
            labels.append(shared)
        return np.array(features), np.array(labels)

    classifier = LogisticRegression(solver="newton-cholesky", max_iter=1000).fit(*features_and_labels(train))
    assert scores["beta_vae_train"] == pytest.approx(classifier.score(*features_and_labels(train)), abs=0.01)
    assert scores["beta_vae"] == pytest.approx(classifier.score(*features_and_labels(evaluation)), abs=0.01)
    assert 0.4 < scores["beta_vae"] < 0.95


def test_beta_vae_of_collapsed_codes_is_chance():
    scores = beta_vae(lambda factors: np.full((len(factors), 3), 0.1), SIZES, **FEW)
    assert scores["beta_vae"] == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / 400))


@sampled
@pytest.mark.parametrize(("encode", "sizes", "options", "message"), [
    (lambda factors: factors * np.nan, SIZES, {}, "codes must be finite, got nan in row 0, latent 0"),
    (lambda factors: factors[1:] * 1.0, SIZES, {}, "codes and factors must have the same N"),
    (lambda factors: factors[:, 0] * 1.0, SIZES, {}, r"codes must be a non-empty \[N, D\] array"),
    (_perfect, (5, 1, 1), {}, r"two factors or more must have more than one value, got sizes \(5, 1, 1\)"),
    (_perfect, (5, 0), {}, r"factor_sizes must be positive integers, got \(5, 0\)"),
    (_perfect, (5, 2.5), {}, "factor_sizes must be positive integers"),
    (_perfect, SIZES, {"num_train": 0}, "num_train must be an integer >= "),
    (_perfect, SIZES, {"num_eval": 1.5}, r"num_eval must be an integer >= 1, got 1\.5"),
    (_perfect, SIZES, {"batch_size": 0}, "batch_size must be an integer >= "),
])
def test_bad_inputs_are_refused(name, encode, sizes, options, message):
    with refused(message):
        SAMPLED[name](encode, sizes, **options)


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"variance_threshold": -1}])
def test_bad_options_of_factor_vae_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        factor_vae(_perfect, SIZES, **options)


def test_training_points_of_one_label_are_refused():
    outcomes = []
    for seed in range(20):
        try:
            outcomes.append(beta_vae(_perfect, (2, 2), num_train=2, num_eval=1, seed=seed)["beta_vae"])
        except ValueError as error:
            outcomes.append(str(error))
    refused = [f"all 2 training points share factor {f}: raise num_train" for f in (0, 1)]
    assert min(map(outcomes.count, refused)) > 0
    assert {*refused} < {*outcomes} <= {*refused, 0.0, 1.0}


@pytest.mark.parametrize("metric", [factor_vae, beta_vae])
def test_progress_is_reported_and_changes_no_score(metric):
    calls = []
    options = {"num_train": 30, "num_eval": 20, "batch_size": 4, "chunk": 40}
    scores = metric(lambda z: z * 1.0, (3, 4), progress=lambda *call: calls.append(call), **options)
    done, totals = zip(*calls, strict=True)
    assert set(totals) == {50}
    assert list(done) == sorted(set(done))
    assert done[-1] == 50
    assert len(done) > 2
    for name, value in metric(lambda z: z * 1.0, (3, 4), **options).items():
        np.testing.assert_array_equal(scores[name], value)

"""Metrics that draw images themselves, compare runs or need no factors: closed forms, definitions, symmetries."""

import warnings

import numpy as np
import pytest
from scipy import linalg, stats
from sklearn.linear_model import Lasso, LogisticRegression

from deft_jax.metrics.beta_vae import beta_vae
from deft_jax.metrics.factor_vae import factor_vae
from deft_jax.metrics.gaussian_total_correlation import gaussian_total_correlation
from deft_jax.metrics.irs import irs
from deft_jax.metrics.latents import active_latents
from deft_jax.metrics.udr import udr

SIZES = (5, 8, 6)
FEW = {"num_train": 600, "num_eval": 400, "batch_size": 16}
SAMPLED = {
    "factor_vae": lambda encode, sizes, **options: factor_vae(encode, sizes, num_variance=1000, **FEW | options),
    "beta_vae": lambda encode, sizes, **options: beta_vae(encode, sizes, **FEW | options),
}
sampled = pytest.mark.parametrize("name", SAMPLED)


def _grid(*sizes):
    """Every combination of factors once: [prod(sizes), F]."""
    return np.stack(np.meshgrid(*map(range, sizes), indexing="ij"), axis=-1).reshape(-1, len(sizes))


def _perfect(factors):
    return factors.astype(float)


def _noise(factors, num_latents=4):
    """Uniform in [-1, 1), a hash of the row: the same for the same factors and otherwise unrelated to them."""
    golden, first, second = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
    state = np.arange(1, num_latents + 1, dtype=np.uint64) * golden
    for column in factors.astype(np.uint64).T:  # splitmix64, a step for each factor
        state = state + column[:, None] + golden
        state = (state ^ (state >> np.uint64(30))) * first
        state = (state ^ (state >> np.uint64(27))) * second
        state = state ^ (state >> np.uint64(31))
    return (state >> np.uint64(11)) / 2.0**52 - 1


def _some(factors):
    """Neither perfect nor useless: two factors each with noise of their size, a mixture, noise."""
    noise = _noise(factors, 4)
    codes = factors[:, [0, 1, 2, 0]] * [1.0, 1.0, 1.0, 0.0]
    codes[:, 2] += factors[:, 0]
    return codes + noise * [2.0, 4.0, 2.0, 1.0]


class _Recorder:
    """Encodes and keeps what it was asked to encode."""

    def __init__(self, encode):
        self.encode, self.asked = encode, []

    def __call__(self, factors):
        self.asked.append(factors.copy())
        return self.encode(factors)

    def batches(self, *shape_of_parts):
        """All rows in order, cut into parts of the given leading shapes."""
        rows, parts = np.concatenate(self.asked), []
        for shape in shape_of_parts:
            count = int(np.prod(shape))
            parts.append(rows[:count].reshape(*shape, rows.shape[1]))
            rows = rows[count:]
        assert not len(rows)
        return parts


# FactorVAE and beta-VAE


@sampled
def test_perfect_codes_score_one_in_any_order_and_unit(name):
    codes = {
        "plain": _perfect,
        "moved": lambda factors: factors[:, [2, 0, 1]] * [-3.0, 0.7, 20.0] + [5.0, 0.0, -1.0],
        "with noise beside": lambda factors: np.concatenate([factors, 0.5 * _noise(factors, 2)], axis=1),
    }
    for encode in codes.values():
        found = SAMPLED[name](encode, SIZES, batch_size=64)
        assert found[name] == found[f"{name}_train"] == 1.0
        assert isinstance(found[name], float)


@sampled
def test_useless_codes_score_chance(name):
    # The label is uniform whatever the classifier says; factors are large so that the hash averages out.
    sizes = (50, 60, 40, 70)
    found = SAMPLED[name](_noise, sizes, num_train=2000, num_eval=2000)
    assert found[name] == pytest.approx(1 / 4, abs=4 * np.sqrt(0.25 * 0.75 / 2000))


@sampled
def test_two_factors_rotated_by_45_degrees_score_two_thirds(name):
    # Held factor 0 and held factor 1 leave the same mark on the sum and the difference, so their votes are coins.
    def rotated(factors):
        first, second, third = factors.T
        return np.stack([first + second, first - second, third], axis=1).astype(float)

    found = SAMPLED[name](rotated, (6, 6, 6), num_eval=2000)
    assert found[name] == pytest.approx(2 / 3, abs=4 * np.sqrt(2 / 9 / 2000))


@sampled
def test_order_and_sign_of_latents_do_not_matter(name):
    plain = SAMPLED[name](_some, SIZES)
    moved = SAMPLED[name](lambda factors: _some(factors)[:, [3, 1, 0, 2]] * [1, -1, -1, 1], SIZES)
    # lbfgs sums in another order; at most a few points at the border may change sides.
    assert moved[name] == pytest.approx(plain[name], abs=0 if name == "factor_vae" else 0.01)
    assert 0.4 < plain[name] < 0.95


@sampled
def test_collapsed_latents_do_not_matter(name):
    plain = SAMPLED[name](_some, SIZES)
    more = SAMPLED[name](lambda factors: np.insert(_some(factors), [0, 2], 0.1, axis=1), SIZES)
    assert more[name] == pytest.approx(plain[name], abs=0 if name == "factor_vae" else 0.01)


@sampled
def test_one_latent_has_a_closed_form(name):
    # Equal sizes: seen apart from the two others if its factor is held, else a guess between them.
    found = SAMPLED[name](lambda factors: factors[:, 1:2] * 1.0, (6, 6, 6), num_eval=2000)
    expected = 1 / 3 if name == "factor_vae" else 2 / 3
    assert found[name] == pytest.approx(expected, abs=4 * np.sqrt(2 / 9 / 2000))


@sampled
def test_seed_decides_the_draws(name):
    runs = []
    for seed in (0, 0, 1):
        recorder = _Recorder(_some)
        found = SAMPLED[name](recorder, SIZES, seed=seed)
        runs.append((found, np.concatenate(recorder.asked)))
    (first, drawn), (again, drawn_again), (_, others) = runs
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
    np.testing.assert_array_equal(drawn, drawn_again)
    assert (drawn != others).mean() > 0.5
    np.testing.assert_array_equal(np.unique(drawn[:, 1]), np.arange(8))


@sampled
def test_chunks_bound_the_calls_and_do_not_matter(name):
    found = {}
    for chunk in (7, 40, 100, 10_000):
        recorder = _Recorder(_some)
        found[chunk] = SAMPLED[name](recorder, SIZES, num_train=100, num_eval=50, chunk=chunk)
        assert max(map(len, recorder.asked)) <= chunk
    for chunk in (7, 40, 100):
        for key, value in found[10_000].items():
            np.testing.assert_array_equal(found[chunk][key], value)


@sampled
def test_factor_with_one_value_is_never_the_held_one(name):
    found = SAMPLED[name](_perfect, (5, 1, 8, 6))
    assert found[name] == 1.0
    if name == "factor_vae":
        np.testing.assert_array_equal(found["factor_vae_votes"] > 0, np.diag([1, 0, 1, 1]))


def test_factor_vae_equals_the_loop_of_its_definition():
    recorder = _Recorder(_some)
    found = factor_vae(recorder, (9, 8, 7), num_variance=500, num_train=300, num_eval=200, batch_size=12)
    sample, train, evaluation = recorder.batches((500,), (300, 12), (200, 12))
    spread = np.var(_some(sample), axis=0, ddof=1)

    votes = {"train": np.zeros((3, 4), int), "evaluation": np.zeros((3, 4), int)}
    for part, batches in (("train", train), ("evaluation", evaluation)):
        for batch in batches:
            (held,) = [f for f in range(3) if len(set(batch[:, f])) == 1]
            ratios = [np.var(_some(batch)[:, d], ddof=1) / spread[d] for d in range(4)]
            votes[part][held, ratios.index(min(ratios))] += 1
    right = {"train": 0, "evaluation": 0}
    for d in range(4):
        best = list(votes["train"][:, d]).index(max(votes["train"][:, d]))
        for part in right:
            right[part] += votes[part][best, d]
    np.testing.assert_array_equal(found["factor_vae_votes"], votes["train"])
    assert found["factor_vae_train"] == right["train"] / 300
    assert found["factor_vae"] == right["evaluation"] / 200
    assert 0.4 < found["factor_vae"] < 0.95
    assert votes["train"].sum(axis=1).min() > 50


def test_factor_vae_prunes_by_the_standard_deviation():
    def encode(factors):
        codes = factors - np.array([4, 3.5, 3])
        return codes / np.sqrt((81 - 1) / 12) * [1.0, 0.06, 0.04]

    found = factor_vae(encode, (9, 9, 9), num_variance=1000, **FEW)
    assert found["factor_vae_num_active"] == 2
    assert not found["factor_vae_votes"][:, 2].any()
    assert found["factor_vae"] == pytest.approx(2 / 3, abs=0.1)
    assert factor_vae(encode, (9, 9, 9), num_variance=1000, variance_threshold=0, **FEW)["factor_vae"] == 1.0


@pytest.mark.parametrize("threshold", [0, 0.05])
def test_factor_vae_of_collapsed_codes_is_zero(threshold):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = factor_vae(lambda factors: np.full((len(factors), 3), 0.1), SIZES, variance_threshold=threshold)
    assert found["factor_vae"] == found["factor_vae_train"] == found["factor_vae_num_active"] == 0
    np.testing.assert_array_equal(found["factor_vae_votes"], np.zeros((3, 3)))


def test_beta_vae_equals_the_loop_of_its_definition():
    recorder = _Recorder(_some)
    found = beta_vae(recorder, (9, 8, 7), num_train=300, num_eval=200, batch_size=12)
    train, evaluation = recorder.batches((300, 12, 2), (200, 12, 2))

    def features_and_labels(points):
        features, labels = [], []
        for pairs in points:
            (shared,) = [f for f in range(3) if (pairs[:, 0, f] == pairs[:, 1, f]).all()]
            features.append(np.mean([abs(_some(pair)[0] - _some(pair)[1]) for pair in pairs], axis=0))
            labels.append(shared)
        return np.array(features), np.array(labels)

    classifier = LogisticRegression(solver="newton-cholesky", max_iter=1000).fit(*features_and_labels(train))
    assert found["beta_vae_train"] == pytest.approx(classifier.score(*features_and_labels(train)), abs=0.01)
    assert found["beta_vae"] == pytest.approx(classifier.score(*features_and_labels(evaluation)), abs=0.01)
    assert 0.4 < found["beta_vae"] < 0.95


def test_beta_vae_of_collapsed_codes_is_chance():
    found = beta_vae(lambda factors: np.full((len(factors), 3), 0.1), SIZES, **FEW)
    assert found["beta_vae"] == pytest.approx(1 / 3, abs=4 * np.sqrt(2 / 9 / 400))


@sampled
@pytest.mark.parametrize(
    ("encode", "sizes", "options", "message"),
    [
        (lambda factors: factors * np.nan, SIZES, {}, "codes must be finite, got nan in row 0, latent 0"),
        (lambda factors: factors[1:] * 1.0, SIZES, {}, "codes and factors must have the same N"),
        (lambda factors: factors[:, 0] * 1.0, SIZES, {}, r"codes must be a non-empty \[N, D\] array"),
        (_perfect, (5, 1, 1), {}, r"two factors or more must have more than one value, got sizes \(5, 1, 1\)"),
        (_perfect, (5, 0), {}, r"factor_sizes must be positive integers, got \(5, 0\)"),
        (_perfect, (5, 2.5), {}, "factor_sizes must be positive integers"),
        (_perfect, SIZES, {"num_train": 0}, "num_train must be an integer >= "),
        (_perfect, SIZES, {"num_eval": 1.5}, r"num_eval must be an integer >= 1, got 1\.5"),
        (_perfect, SIZES, {"batch_size": 0}, "batch_size must be an integer >= "),
    ],
)
def test_sampled_metrics_check_their_inputs(name, encode, sizes, options, message):
    with pytest.raises(ValueError, match=message) as error:
        SAMPLED[name](encode, sizes, **options)
    assert "\n" not in str(error.value)


def test_sampled_metrics_have_limits_of_their_own():
    with pytest.raises(ValueError, match=r"^batch_size must be an integer >= 2, got 1$"):
        factor_vae(_perfect, SIZES, batch_size=1)
    with pytest.raises(ValueError, match=r"^variance_threshold must be >= 0, got -1$"):
        factor_vae(_perfect, SIZES, variance_threshold=-1)
    outcomes = []
    for seed in range(20):
        try:
            outcomes.append(beta_vae(_perfect, (2, 2), num_train=2, num_eval=1, seed=seed)["beta_vae"])
        except ValueError as error:
            outcomes.append(str(error))
    refused = [f"all 2 training points share factor {f}: raise num_train" for f in (0, 1)]
    assert min(map(outcomes.count, refused)) > 0
    assert {*refused} < {*outcomes} <= {*refused, 0.0, 1.0}


# IRS


def test_irs_of_perfect_codes_is_one():
    factors = _grid(4, 10, 3)
    found = irs(factors[:, [2, 0, 1]] * [-2.0, 0.3, 7.0] + 1, factors)
    assert found["irs"] == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found["irs_per_latent"], 1, atol=1e-12)
    np.testing.assert_array_equal(found["irs_factor"], [2, 0, 1])
    assert found["irs_num_active"] == 3


def test_irs_within_a_bin_has_a_closed_form():
    # Twenty values in ten bins: half a step from the mean of a bin, 9.5 steps from the mean of all.
    factors = _grid(20, 3)
    assert irs(factors[:, :1] * 1.0, factors)["irs"] == pytest.approx(1 - 0.5 / 9.5)
    assert irs(factors[:, :1] * 1.0, factors, num_bins=20)["irs"] == pytest.approx(1)


def test_irs_of_rotated_codes_is_one_half():
    # a + b with a, b in -2 .. 2 ranges to 4; with a held it ranges to 2.
    factors = _grid(5, 5)
    rotated = factors @ np.array([[1.0, 1.0], [1.0, -1.0]])
    found = irs(rotated, factors, difference_quantile=1)
    np.testing.assert_allclose(found["irs_per_latent"], 0.5, atol=1e-12)
    assert found["irs"] == pytest.approx(0.5)


def test_irs_of_uniform_noise_is_what_the_quantile_leaves():
    factors = _grid(8, 9, 100, 4)
    found = irs(_noise(factors), factors[:, [0, 1, 3]])
    assert found["irs"] == pytest.approx(0.01, abs=0.003)
    assert irs(_noise(factors), factors[:, [0, 1, 3]], difference_quantile=0.5)["irs"] == pytest.approx(0.5, abs=0.02)


def test_irs_weights_latents_by_their_reach():
    # A perfect latent that reaches 3 * 2 = 6 and a rotated one (score 1/2) that reaches 4.
    factors = _grid(5, 5)
    codes = np.stack([3.0 * factors[:, 0], factors.sum(axis=1)], axis=1)
    found = irs(codes, factors, difference_quantile=1)
    np.testing.assert_allclose(found["irs_per_latent"], [1, 0.5], atol=1e-12)
    assert found["irs"] == pytest.approx((6 * 1 + 4 * 0.5) / 10)


def test_irs_equals_the_loop_of_its_definition():
    factors = _grid(5, 6, 7)
    codes = _some(factors)
    found = irs(codes, factors, difference_quantile=0.9)
    for d, code in enumerate(codes.T):
        robust = []
        for factor in factors.T:
            moved = [
                np.quantile(abs(code[factor == v] - code[factor == v].mean()), 0.9) for v in range(factor.max() + 1)
            ]
            robust.append(1 - np.mean(moved) / max(abs(code - code.mean())))
        assert found["irs_per_latent"][d] == pytest.approx(max(robust))
        assert found["irs_factor"][d] == robust.index(max(robust))


@pytest.mark.filterwarnings("error")
def test_irs_leaves_constant_latents_out():
    factors = _grid(5, 6, 7)
    codes = _some(factors)
    plain, more = irs(codes, factors), irs(np.insert(codes, [1, 4], 0.1, axis=1), factors)
    assert more["irs"] == plain["irs"]
    np.testing.assert_array_equal(more["irs_per_latent"], np.insert(plain["irs_per_latent"], [1, 4], 0))
    np.testing.assert_array_equal(more["irs_factor"], np.insert(plain["irs_factor"], [1, 4], -1))
    assert more["irs_num_active"] == 4
    none = irs(np.full((len(factors), 2), 0.1), factors)
    assert none["irs"] == none["irs_num_active"] == 0
    np.testing.assert_array_equal(none["irs_factor"], [-1, -1])


def test_irs_checks_its_inputs():
    factors = _grid(4, 3)
    codes = factors * 1.0
    cases = [
        (codes * np.nan, factors, {}, "codes must be finite"),
        (codes[1:], factors, {}, "codes and factors must have the same N"),
        (codes, factors * [1, 0], {}, "factor 1 is constant in the sample"),
        (codes, factors, {"difference_quantile": 1.5}, r"difference_quantile must be in \[0, 1\], got 1\.5"),
        (codes, factors, {"num_bins": 0}, "num_bins must be an integer >= 1"),
    ]
    for codes_, factors_, options, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            irs(codes_, factors_, **options)
        assert "\n" not in str(error.value)


# UDR


def _runs(num_samples=4000):
    """Three runs that have nothing to do with each other, five independent latents each."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(num_samples, 5)) for _ in range(3)]


@pytest.mark.parametrize(("correlation", "expected"), [("spearman", 1), ("lasso", 0.9)])
def test_udr_of_equal_runs_up_to_order_and_sign(correlation, expected):
    # A grid has correlations of exactly 0; the Lasso takes alpha = 0.1 off the coefficient 1.
    codes = _grid(5, 6, 7) * 1.0
    found = udr([codes, codes[:, [2, 0, 1]] * [-1, 3, -0.5], -codes], correlation=correlation)
    np.testing.assert_allclose(found["udr"], expected, atol=1e-3 if correlation == "lasso" else 1e-12)
    np.testing.assert_array_equal(np.diag(found["udr_pairs"]), 0)
    np.testing.assert_array_equal(found["udr_num_active"], [3, 3, 3])


@pytest.mark.parametrize("correlation", ["spearman", "lasso"])
def test_udr_of_unrelated_runs_is_low_and_the_odd_one_out_is_last(correlation):
    first, second, third = _runs()
    assert udr([first, second, third], correlation=correlation)["udr"].max() < 0.05
    scores = udr([first, -first[:, ::-1], first, second], correlation=correlation)["udr"]
    assert scores[:3].min() > 0.8
    assert scores[3] < 0.05


def test_udr_of_a_rotated_run_is_lower():
    # Uncorrelated latents of equal variance, so each of a run has correlation 1 / sqrt 2 with two of the other:
    # max^2 / sum = 0.5 / sqrt 2.
    codes = _runs(20_000)[0][:, :2]
    rotated = codes @ np.array([[1.0, 1.0], [1.0, -1.0]])
    pearson_of_ranks = 6 / np.pi * np.arcsin(np.sqrt(0.5) / 2)  # of a bivariate normal
    assert udr([codes, rotated])["udr"] == pytest.approx([pearson_of_ranks / 2] * 2, abs=0.02)


def test_udr_spearman_equals_the_literal_definition():
    rng = np.random.default_rng(1)
    base = rng.normal(size=(300, 3))
    runs = [np.round(base @ rng.normal(size=(3, latents)) + 0.3 * rng.normal(size=(300, latents)), 1)
            for latents in (2, 4, 3)]
    found = udr(runs)
    for i, first in enumerate(runs):
        for j, second in enumerate(runs):
            if i == j:
                continue
            matrix = np.array([[abs(stats.spearmanr(a, b).statistic) for b in second.T] for a in first.T])
            columns = np.mean(matrix.max(axis=0) ** 2 / matrix.sum(axis=0))
            rows = np.mean(matrix.max(axis=1) ** 2 / matrix.sum(axis=1))
            assert found["udr_pairs"][i, j] == pytest.approx((columns + rows) / 2)
    np.testing.assert_allclose(found["udr_pairs"], found["udr_pairs"].T)
    expected = [np.median(np.delete(found["udr_pairs"][:, i], i)) for i in range(3)]
    np.testing.assert_allclose(found["udr"], expected)


def test_udr_lasso_equals_the_literal_definition():
    rng = np.random.default_rng(3)
    base = rng.normal(size=(500, 4))
    runs = [base @ rng.normal(size=(4, latents)) + 0.2 * rng.normal(size=(500, latents)) for latents in (3, 6, 5)]
    found = udr(runs, correlation="lasso")
    scaled = [(codes - codes.mean(axis=0)) / codes.std(axis=0) for codes in runs]
    unused = 0
    for i, first in enumerate(scaled):
        for j, second in enumerate(scaled):
            if i == j:
                continue
            matrix = np.array([np.abs(Lasso(alpha=0.1).fit(first, target).coef_) for target in second.T]).T
            columns = np.mean([max(values) ** 2 / sum(values) if any(values) else 0 for values in matrix.T])
            rows = np.mean([max(values) ** 2 / sum(values) if any(values) else 0 for values in matrix])
            assert found["udr_pairs"][i, j] == pytest.approx((columns + rows) / 2)
            unused += np.count_nonzero(~matrix.any(axis=1))
    assert unused  # rows of zeros, which count 0
    expected = [np.median(np.delete(found["udr_pairs"][:, i], i)) for i in range(3)]
    np.testing.assert_allclose(found["udr"], expected)
    assert np.abs(found["udr_pairs"] - found["udr_pairs"].T).max() > 0.01  # the direction matters


def test_udr_spearman_sees_order_only():
    first, second, _ = _runs(500)
    runs = [first, first + second, second + first**3]
    plain = udr(runs)
    np.testing.assert_allclose(udr([np.exp(run) for run in runs])["udr_pairs"], plain["udr_pairs"])
    assert np.ptp(plain["udr"]) > 0.05


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("correlation", ["spearman", "lasso"])
def test_udr_leaves_uninformative_latents_out(correlation):
    codes, noise, _ = _runs()
    shrunk = 0.05 * noise  # variance 0.0025 and, at sigma = 1, half of that as KL
    run = np.concatenate([codes[:, :3], shrunk], axis=1)
    kl = np.array([1.0] * 3 + [0.005] * 5)
    constant = np.insert(codes[:, :3], 1, 0.1, axis=1)
    plain = udr([codes[:, :3], codes], correlation=correlation)["udr_pairs"]
    np.testing.assert_allclose(udr([run, codes], correlation=correlation)["udr_pairs"], plain)
    found = udr([run, codes], [kl, np.ones(5)], correlation=correlation)
    np.testing.assert_allclose(found["udr_pairs"], plain)
    np.testing.assert_array_equal(found["udr_num_active"], [3, 5])
    kept = udr([run, codes], [kl + 0.006, np.ones(5)], correlation=correlation)
    assert kept["udr_num_active"][0] == 8
    assert kept["udr"][0] < found["udr"][0] - 0.05
    found = udr([constant, codes], [np.ones(4), np.ones(5)], correlation=correlation)
    np.testing.assert_allclose(found["udr_pairs"], plain)
    none = udr([codes, codes, np.full((4000, 2), 0.1)], correlation=correlation)
    assert none["udr"][2] == none["udr_num_active"][2] == 0
    assert none["udr_pairs"][0, 1] > 0.8


def test_udr_of_one_latent():
    codes = _runs(200)[0][:, :1]
    assert udr([codes, -codes])["udr"] == pytest.approx([1, 1])
    assert udr([codes, -codes], correlation="lasso")["udr"] == pytest.approx([0.9, 0.9])


def test_udr_checks_its_inputs():
    codes = _grid(4, 3) * 1.0
    cases = [
        (([codes],), {}, "two runs or more, got 1"),
        (([codes, codes[1:]],), {}, "same N, got 12 in run 0 and 11 in run 1"),
        (([codes, codes * np.nan],), {}, "codes of run 1 must be finite real numbers"),
        (([codes, codes[:, 0]],), {}, r"codes of run 1 must be a non-empty \[N, D\] array, got shape \(12,\)"),
        (([codes, codes], [np.ones(2)]), {}, "one array a run, got 1 for 2 runs"),
        (([codes, codes], [np.ones(2), np.ones(3)]), {}, "KL of run 1 must be one number a latent"),
        (([codes, codes], [np.ones(2), np.array([1, np.nan])]), {}, "KL of run 1 must be finite"),
        (([codes, codes],), {"correlation": "pearson"}, "unknown correlation 'pearson'; known: spearman, lasso"),
        (([codes, codes],), {"kl_threshold": -1}, "kl_threshold must be >= 0, got -1"),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message) as error:
            udr(*arguments, **options)
        assert "\n" not in str(error.value)


# Gaussian total correlation


def _with_covariance(covariance, num_samples=500):
    """Codes whose sample covariance is exactly the given one."""
    noise = np.random.default_rng(0).normal(size=(num_samples, len(covariance)))
    noise -= noise.mean(axis=0)
    white = noise @ np.linalg.inv(np.linalg.cholesky(np.cov(noise.T))).T
    return white @ np.linalg.cholesky(covariance).T + 3


def test_total_correlation_of_two_latents_has_a_closed_form():
    for rho in (0.0, 0.3, -0.9):
        found = gaussian_total_correlation(_with_covariance(np.array([[1, rho], [rho, 1]])))
        assert found["gaussian_total_correlation"] == pytest.approx(-0.5 * np.log(1 - rho**2), abs=1e-12)
        wasserstein = 4 - 2 * (np.sqrt(1 + rho) + np.sqrt(1 - rho))
        assert found["gaussian_wasserstein_correlation"] == pytest.approx(wasserstein, abs=1e-12)
        assert found["gaussian_wasserstein_correlation_norm"] == pytest.approx(wasserstein / 2, abs=1e-12)
        assert found["gaussian_num_active"] == 2


def test_total_correlation_equals_the_definitions_by_matrices():
    mixing = np.random.default_rng(1).normal(size=(4, 4))
    covariance = mixing @ mixing.T * 3
    found = gaussian_total_correlation(_with_covariance(covariance))
    marginal = np.diag(np.diag(covariance))
    kl = 0.5 * (np.trace(np.linalg.inv(marginal) @ covariance) - 4)
    kl += 0.5 * np.log(np.linalg.det(marginal) / np.linalg.det(covariance))
    assert found["gaussian_total_correlation"] == pytest.approx(kl)
    root = linalg.sqrtm(np.sqrt(marginal) @ covariance @ np.sqrt(marginal)).real
    wasserstein = np.trace(covariance + marginal - 2 * root)
    assert found["gaussian_wasserstein_correlation"] == pytest.approx(wasserstein)
    assert found["gaussian_wasserstein_correlation_norm"] == pytest.approx(wasserstein / np.trace(covariance))
    assert kl > 0.5


def test_total_correlation_of_independent_codes_is_near_zero():
    # The estimate has the mean D (D - 1) / (4 N): half a chi-square of D (D - 1) / 2 freedoms over N.
    found = gaussian_total_correlation(np.random.default_rng(0).normal(size=(10_000, 6)))
    assert 0 < found["gaussian_total_correlation"] < 4 * 30 / 4 / 10_000
    assert found["gaussian_wasserstein_correlation_norm"] < 1e-3


@pytest.mark.filterwarnings("error")
def test_total_correlation_of_duplicated_codes_is_large_and_finite():
    codes = np.random.default_rng(0).normal(size=(1000, 3))
    found = gaussian_total_correlation(np.concatenate([codes, -2 * codes], axis=1))
    assert 3 * 15 < found["gaussian_total_correlation"] < 3 * 19
    # Variances v and 4v of one direction: the matrix within the root is v^2 [[1, 4], [4, 16]], its root's trace
    # sqrt(17) v.
    assert found["gaussian_wasserstein_correlation_norm"] == pytest.approx(2 - 2 * np.sqrt(17) / 5, abs=0.01)


def test_total_correlation_ignores_order_sign_and_scale_as_it_should():
    codes = _some(_grid(5, 6, 7))
    plain = gaussian_total_correlation(codes)
    moved = gaussian_total_correlation(codes[:, [2, 0, 3, 1]] * [-1, 1, -1, 1])
    assert moved == pytest.approx(plain)
    scaled = gaussian_total_correlation(codes * [10, 0.3, 1, 1e-3])
    assert scaled["gaussian_total_correlation"] == pytest.approx(plain["gaussian_total_correlation"])
    assert scaled["gaussian_wasserstein_correlation"] != pytest.approx(plain["gaussian_wasserstein_correlation"])
    assert plain["gaussian_total_correlation"] > 0.05


@pytest.mark.filterwarnings("error")
def test_total_correlation_leaves_constant_latents_out():
    codes = _some(_grid(5, 6, 7))
    assert gaussian_total_correlation(np.insert(codes, [0, 2], 0.1, axis=1)) == gaussian_total_correlation(codes)
    for few, active in ((np.full((9, 3), 0.1), 0), (np.arange(9.0)[:, None], 1), (np.ones((1, 4)), 0)):
        assert list(gaussian_total_correlation(few).values()) == [0, 0, 0, active]


def test_total_correlation_checks_its_inputs():
    for codes, message in (
        (np.ones(3), r"codes must be a non-empty \[N, D\] array, got shape \(3,\)"),
        (np.ones((0, 3)), r"got shape \(0, 3\)"),
        (np.array([[1, np.nan]]), "codes must be finite real numbers"),
        (np.ones((2, 2), complex), "codes must be finite real numbers"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            gaussian_total_correlation(codes)
        assert "\n" not in str(error.value)


# Active latents


def test_active_mixed_and_passive_latents_are_told_apart():
    # Half of the images each: sigma^2 and mu of the two halves.
    sigma2 = [(0.01, 0.05), (1, 1), (0.02, 1), (0.95, 1.08), (0.5, 0.5), (1, 1), (1.5, 1.5), (0.1, 0.1)]
    mu = [(-1, 1), (0, 0), (2, 0), (0.1, -0.1), (-0.5, 0.5), (-2, 2), (0, 0), (0, 0)]
    mean, logvar = np.repeat(np.array(mu).T, 3, axis=0), np.log(np.repeat(np.array(sigma2).T, 3, axis=0))
    found = active_latents(mean, logvar, active_variance=0.1 + 1e-9)
    kinds = ["active", "passive", "mixed", "passive", "mixed", "mixed", "mixed", "active"]
    for kind in ("active", "mixed", "passive"):
        np.testing.assert_array_equal(found[kind], [kind == k for k in kinds])
    np.testing.assert_allclose(found["variance"], np.mean(sigma2, axis=1))
    np.testing.assert_allclose(found["variance_of_mean"], np.var(mu, axis=1))


def test_thresholds_of_active_latents_are_what_they_say():
    mean = np.array([[-0.5, 0.0], [0.5, 0.0]])
    logvar = np.log([[0.8, 0.3]] * 2)
    assert active_latents(mean, logvar)["mixed"].tolist() == [True, True]
    assert active_latents(mean, logvar, active_variance=0.31)["active"].tolist() == [False, True]
    assert active_latents(mean, logvar, passive_tolerance=0.21)["passive"].tolist() == [False, False]
    loose = active_latents(mean, logvar, passive_tolerance=0.21, passive_mean_variance=0.26)
    assert loose["passive"].tolist() == [True, False]


def test_one_exclusive_kind_for_every_latent():
    rng = np.random.default_rng(0)
    for latents in (1, 200):
        scale = rng.uniform(0, 1, size=latents)
        found = active_latents(rng.normal(size=(50, latents)) * scale, np.log(rng.uniform(0, 1.4, latents))
                               + 0.1 * rng.normal(size=(50, latents)))
        total = found["active"].astype(int) + found["mixed"] + found["passive"]
        np.testing.assert_array_equal(total, np.ones(latents))
    assert min(found["active"].sum(), found["mixed"].sum(), found["passive"].sum()) > 0


def test_active_latents_checks_its_inputs():
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
        with pytest.raises(ValueError, match=message) as error:
            active_latents(*arguments, **options)
        assert "\n" not in str(error.value)

"""The page of the paper's claims: comparisons against closed forms, verdicts on made-up results, missing files."""

import csv
import importlib.util
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
from scipy import stats

from deft_jax.studies import tried_settings
from deft_jax.studies.config import parse_study

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "experiments" / "claims"
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]  # scripts beside the page, no part of the package

import claims  # noqa: E402
import comparisons  # noqa: E402
import pairs  # noqa: E402
import rules  # noqa: E402
import score_rules  # noqa: E402

SEEDS = [str(seed) for seed in range(6)]


def config_of(name, *choice):
    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / "studies" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, parse_study(module.get_config(*choice).to_dict() | {"scale": "small"})


# ---- comparisons ----


def test_holm_is_bonferroni_for_the_smallest_and_nothing_for_the_largest():
    assert comparisons.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert comparisons.holm([0.2]) == [0.2]
    assert comparisons.holm([]) == []
    assert comparisons.holm([0.9, 0.8]) == [1.0, 1.0]


def test_holm_keeps_the_order_and_lies_between_the_value_and_bonferroni():
    p = np.random.default_rng(0).uniform(size=20)
    adjusted = np.array(comparisons.holm(p))
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(20 * p, 1) + 1e-12).all()


def test_an_interval_of_a_mean_is_that_of_the_t_distribution():
    result = comparisons.mean_interval([1.0, 2.0, 3.0])
    half = stats.t.ppf(0.975, 2) / np.sqrt(3)
    assert (result["low"], result["high"]) == pytest.approx((2 - half, 2 + half))
    assert comparisons.mean_interval([1.0])["low"] is None


def test_a_paired_comparison_removes_what_seeds_share():
    seed_effect = np.array([0.0, 5.0, 10.0, 20.0])
    noise = np.array([0.1, -0.1, 0.1, -0.1])
    result = comparisons.paired(seed_effect + 1 + noise, seed_effect)
    assert result["difference"] == pytest.approx(1.0)
    assert 0.5 < result["low"] < 1 < result["high"] < 1.5
    assert result["p"] == pytest.approx(stats.ttest_rel(seed_effect + 1 + noise, seed_effect).pvalue)
    assert comparisons.welch(seed_effect + 1 + noise, seed_effect)["p"] > 0.5


def test_differences_without_spread_have_the_value_as_interval():
    same = comparisons.paired([1.0, 2.0], [1.0, 2.0])
    assert (same["difference"], same["low"], same["high"], same["p"]) == (0.0, 0.0, 0.0, 1.0)
    assert comparisons.paired([2.0, 3.0], [1.0, 2.0])["p"] == 0.0
    assert comparisons.paired([2.0], [1.0])["p"] == comparisons.above([2.0], 1.0) == 1.0
    assert (comparisons.above([0.2, 0.2], 0.1), comparisons.above([0.1, 0.1], 0.1)) == (0.0, 1.0)


def test_variance_and_rank_comparisons():
    steady, wild = np.linspace(-1, 1, 10), np.linspace(-10, 10, 10)
    assert comparisons.equal_variance(steady, wild)["ratio"] == pytest.approx(0.1)
    assert comparisons.equal_variance(steady, wild)["p"] < 0.001
    assert comparisons.equal_variance(steady, steady + 5)["p"] == pytest.approx(1.0)
    assert comparisons.superiority([3, 4], [1, 2])["probability"] == 1.0
    assert comparisons.superiority([1, 2], [1, 2])["probability"] == 0.5
    assert comparisons.superiority([np.inf, 4], [0.0, 2])["probability"] == 1.0
    curve = comparisons.rank_correlation([1, 2, 3, 4, 6], [1, 8, 27, 60, 65])
    assert curve["rho"] == pytest.approx(1.0)
    assert comparisons.rank_correlation([1, 1, 1, 1], [1, 2, 3, 4])["rho"] == 0.0
    two = comparisons.rank_correlation([1, 2], [3, 4])
    assert (two["rho"], two["low"], two["high"]) == pytest.approx((1.0, -1.0, 1.0))
    mixed = comparisons.rank_correlation([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5])
    assert mixed["low"] < mixed["rho"] < mixed["high"] <= 1


def test_pairs_of_one_draw_differ_where_draws_hide_it():
    draws = np.geomspace(1, 1000, 20)
    assert comparisons.superiority(1.5 * draws, draws)["p"] > 0.2
    assert comparisons.by_draw(1.5 * draws * np.linspace(0.9, 1.1, 20), draws) < 0.001
    assert comparisons.by_draw(draws, draws) == 1.0


@pytest.mark.parametrize(
    ("met", "verdict"),
    [([True, True], "holds"), ([True, False], "partly"), ([False], "does not hold here"), ([], "does not hold here")],
)
def test_a_verdict_counts_conditions(met, verdict):
    assert rules.grade(met) == verdict


# ---- claims on made-up results ----


def trial_rows(betas):
    return [{"factor": factor, "ifp": str(beta), "censored": ""} for factor, of in betas.items() for beta in of]


def test_freezing_points_that_differ_and_that_do_not():
    draws = np.random.default_rng(0).uniform(0.8, 1.2, 20)
    instruments = [
        {"factor": "posX", "spectrum bound": "90", "whole set": "80"},
        {"factor": "posY", "spectrum bound": "90", "whole set": "80"},
        {"factor": "scale", "spectrum bound": "9", "whole set": "<1"},
    ]
    apart = rules.freezing(
        trial_rows({"posX": 100 * draws, "posY": 100 * draws[::-1], "scale": 10 * draws}), instruments
    )
    assert set(apart.conditions) == {"posX and scale differ", "posY and scale differ"}
    assert apart.verdict == "holds"
    alike = rules.freezing(trial_rows({"posX": draws, "posY": draws[::-1], "scale": np.roll(draws, 3)}), instruments)
    assert alike.verdict == "does not hold here"
    half = rules.freezing(trial_rows({"shape": draws, "scale": np.roll(draws, 3), "posX": 100 * draws}), [])
    assert half.verdict == "partly"


def diffusion_rows(levels):
    noise = np.linspace(-0.01, 0.01, len(SEEDS))
    return [{"run": run, "seed": seed, "foreign": "0.5", "reconstruction": "30", "mig": "0.1",
             "diffusion": str(level + 5 * noise[place] + noise[(place - index) % 6] * (1 + index / 10))}
            for index, (run, level) in enumerate(levels.items()) for place, seed in enumerate(SEEDS)]  # fmt: skip


def test_diffusion_of_approaches_and_of_deft():
    approaches = dict.fromkeys(rules.APPROACHES, 0.5)
    rows = diffusion_rows(approaches | {rules.DEFT: 0.2, "gamma_1": 0.5, f"rotated/{rules.DEFT}": 0.1})
    assert rules.approaches_diffuse(rows).verdict == "holds"
    assert rules.deft_diffuses_less(rows).verdict == "holds"
    some = diffusion_rows(approaches | {rules.DEFT: 0.5, "dynamic_vae": 0.9, "beta_vae": 0.05})
    assert rules.approaches_diffuse(some).verdict == "partly"
    less = rules.deft_diffuses_less(some)
    assert less.conditions["less than dynamic_vae"]
    assert not less.conditions["less than beta_vae"]
    none = diffusion_rows(dict.fromkeys(rules.APPROACHES, 0.05) | {rules.DEFT: 0.5})
    assert rules.approaches_diffuse(none).verdict == rules.deft_diffuses_less(none).verdict == "does not hold here"


def test_a_study_of_diffusion_that_is_under_way_has_tables_and_no_verdict():
    rows = diffusion_rows({"annealing": 0.5, rules.DEFT: 0.2})
    for finding in (rules.approaches_diffuse(rows), rules.deft_diffuses_less(rows)):
        assert finding.verdict is None
        assert [row[0] for row in finding.tables[0].rows] == ["annealing"]
    assert rules.deft_diffuses_less(diffusion_rows({"annealing": 0.5})).verdict is None


def test_few_seeds_give_no_verdict():
    rows = diffusion_rows(dict.fromkeys(rules.APPROACHES, 0.5) | {rules.DEFT: 0.2})
    few = [row for row in rows if int(row["seed"]) < rules.LEAST_SEEDS - 1]
    assert rules.approaches_diffuse(few).verdict is None
    assert rules.deft_diffuses_less(few).verdict is None


def made_scores(levels, spreads, suffix=""):
    ten = np.linspace(-1, 1, 10)
    return {
        f"{data}/{method}{suffix}": {"mig": {str(seed): levels[method] + spreads[method] * x
                                             for seed, x in enumerate(np.roll(ten, index))}}
        for data in score_rules.SETS for index, method in enumerate(score_rules.METHODS)
    }  # fmt: skip


def test_high_and_steady_scores():
    high, low = {"deft": 0.6, "beta_tcvae": 0.2, "dynamic_vae": 0.2}, dict.fromkeys(score_rules.METHODS, 0.2)
    steady = {"deft": 0.01, "beta_tcvae": 0.1, "dynamic_vae": 0.1}
    assert score_rules.high_and_steady(made_scores(high, steady)).verdict == "holds"
    assert score_rules.high_and_steady(made_scores(low, steady)).verdict == "partly"
    assert score_rules.high_and_steady(made_scores(low, dict.fromkeys(steady, 0.1))).verdict == "does not hold here"
    rotated = made_scores(high, steady, "_rotated")
    assert score_rules.high_and_steady(rotated).verdict is None
    assert score_rules.high_and_steady(rotated, "_rotated").verdict == "holds"


def test_the_setting_of_the_best_mean_is_chosen():
    scores = {"dsprites/deft/a": {"mig": {"0": 0.1, "1": 0.2}}, "dsprites/deft/b": {"mig": {"0": 0.0, "1": 0.4}},
              "dsprites/beta_tcvae/c": {"mig": {"0": 0.1}}, "dsprites/deft/diverged": {}}  # fmt: skip
    assert score_rules.choose(scores) == {"dsprites": {"deft": "b", "beta_tcvae": "c"}}


def correlated_rows(correlated, independent):
    noise = np.linspace(-0.01, 0.01, len(SEEDS))
    return [
        {"run": run, "seed": seed, "mig": "0.2", "foreign": "0.5", "leak": "0.1",
         "correlated_pairs": str(correlated[run] + noise[(place - index) % 6]),
         "independent_pairs": str(independent[run] + noise[(place - 2 * index) % 6])}
        for index, run in enumerate(correlated) for place, seed in enumerate(SEEDS)
    ]  # fmt: skip


def test_total_correlation_under_correlated_factors():
    names = ("deft", *score_rules.TC_METHODS)
    failing = dict(zip(names, (0.5, 0.1, 0.1), strict=True))
    alike = dict.fromkeys(names, 0.5)
    assert score_rules.total_correlation_fails(correlated_rows(failing, alike)).verdict == "holds"
    everywhere = score_rules.total_correlation_fails(correlated_rows(failing, failing))
    assert everywhere.verdict == "partly"
    assert [met for text, met in everywhere.conditions.items() if "further" in text] == [False, False]
    assert score_rules.total_correlation_fails(correlated_rows(alike, alike)).verdict == "does not hold here"
    unfinished = {"deft": 0.5, "beta_vae": 0.1}
    assert score_rules.total_correlation_fails(correlated_rows(unfinished, unfinished)).verdict is None


def udr_rows(sign, level):
    quality = np.linspace(0.1, 0.3, 12)
    return [
        {"method": method, "setting": "abc"[index // 4], "seed": str(index % 4), "udr": str(sign[method] * value),
         "udr_lasso": str(value), "mig": str(level[method] + value), "disentanglement": str(value)}
        for method in score_rules.METHODS for index, value in enumerate(quality)
    ]  # fmt: skip


def test_unsupervised_choice():
    up, down = dict.fromkeys(score_rules.METHODS, 1), dict.fromkeys(score_rules.METHODS, -1)
    equal, behind = dict.fromkeys(score_rules.METHODS, 0.0), {"deft": 0.0, "beta_tcvae": 1.0, "dynamic_vae": 1.0}
    assert score_rules.competitive_without_labels(udr_rows(up, equal)).verdict == "holds"
    assert score_rules.competitive_without_labels(udr_rows(up, behind)).verdict == "partly"
    assert score_rules.competitive_without_labels(udr_rows(down, behind)).verdict == "does not hold here"
    assert score_rules.competitive_without_labels(udr_rows(up, equal)[:12]).verdict is None


# ---- pairs of factors of the set `correlated` ----


def independent_factors():
    """[N, 4]: all values of deviation, posX and posY in steps of 4, and an orientation that follows posX and posY."""
    three = np.stack(np.meshgrid(*[np.arange(0, 32, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return np.column_stack([three, (three[:, 1] + three[:, 2]) // 2])


def test_pairs_of_a_perfect_code_do_not_leak_and_those_of_a_mixed_code_do():
    factors = independent_factors()
    perfect = pairs.pair_scores(factors[:, :3].astype(float), factors)
    assert perfect["independent_pairs"] == pytest.approx(1.0)
    assert perfect["leak_independent"] == pytest.approx(0.0, abs=1e-9)
    mixed = factors[:, :3] + 0.1 * factors[:, [1, 2, 0]]
    assert pairs.pair_scores(mixed, factors)["leak_independent"] > 0.1


def test_a_latent_that_holds_one_of_two_dependent_factors_does_not_leak():
    factors = independent_factors()
    orientation, position = factors[:, 3] // 4, factors[:, 1] // 4
    assert pairs.conditional(orientation, position, orientation) == pytest.approx(0.0, abs=1e-9)
    assert pairs.conditional(position, position, orientation) == pytest.approx(1.0)
    assert pairs.conditional(position, orientation, position) == pytest.approx(0.0, abs=1e-9)
    assert pairs.conditional(orientation, position, position) == 0.0


# ---- studies and files ----


def test_names_are_replaced_as_whole_words():
    assert claims.named("beta_vae, rotated/deft; deft_x and beta_stages") == (
        "beta-VAE, rotated/DEFT; deft_x and beta in stages without groups"
    )



def test_seeds_that_choose_settings_are_not_those_that_are_reported():
    chosen, _ = config_of("claims")
    tried, _ = config_of("claims_settings")
    unsupervised, _ = config_of("unsupervised")
    assert not set(chosen.SEEDS) & (set(tried.SEEDS) | set(unsupervised.SEEDS) | set(range(16)))


def test_all_methods_have_as_many_settings_and_the_study_has_one_of_each():
    module, study = config_of("claims")
    assert set(study.runs) == {f"{data}/{method}" for data in tried_settings.SETS for method in tried_settings.METHODS}
    for data, chosen in module.CHOSEN.items():
        names = [name.partition("/")[0] for name in tried_settings.settings(data)]
        assert {method: names.count(method) for method in tried_settings.METHODS} == dict.fromkeys(chosen, 3)
    for run in study.runs.values():
        assert not run.stages.rotation_every
    _, rotated = config_of("claims", "rotated")
    for name, run in rotated.runs.items():
        assert name.endswith("_rotated")
        assert run.stages.rotation_every
    assert {f"{name}_rotated" for name in study.runs} == set(rotated.runs)


def test_settings_differ_and_those_of_the_literature_are_among_them():
    for data in tried_settings.SETS:
        configs = tried_settings.settings(data)
        assert len({json.dumps(config.to_dict(), sort_keys=True) for config in configs.values()}) == 9
        assert {f"{method}/{setting}" for method, setting in tried_settings.LITERATURE.items()} <= set(configs)


def test_dynamic_vae_reaches_its_targets_within_a_run():
    _, study = config_of("claims_settings")
    for name, run in study.runs.items():
        if "/dynamic_vae/" in name:
            options = run.objective.options
            rises = run.total_steps // options["period"]
            assert 0.5 + options["increment"] * rises > options["kl_target"]


def test_runs_of_the_study_without_labels_are_those_of_the_settings():
    tried, unsupervised = config_of("claims_settings")[1], config_of("unsupervised")[1]
    assert {name: tried.runs[name] for name in unsupervised.runs} == dict(unsupervised.runs)
    assert (tried.metrics, tried.num_samples) == (unsupervised.metrics, unsupervised.num_samples)


def test_the_settings_of_the_study_are_the_best_of_those_that_were_tried():
    scores = claims.study_scores(FOLDER / "study_settings.json")
    if not scores:
        pytest.skip("settings are not measured yet")
    assert claims.chosen_settings() == score_rules.choose(claims.of_seeds(scores, claims.CHOICE_SEEDS))


def test_committed_verdicts_are_those_of_the_result_files():
    assert json.loads((FOLDER / "claims.json").read_text()) == json.loads(json.dumps(claims.summary()))


@pytest.fixture
def copy(tmp_path):
    """The folder of experiments without results of the claims."""
    ignored = shutil.ignore_patterns("*.png", "__pycache__", "study_*", "trials.csv", "correlated.csv", "udr.csv",
                                     "runs.csv")  # fmt: skip
    return shutil.copytree(FOLDER.parent, tmp_path / "experiments", ignore=ignored)


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_without_results_every_claim_is_not_measured_and_the_page_is_built(copy):
    entries = claims.summary(copy / "claims")
    assert [entry["key"] for entry in entries] == list(claims.CLAIMS) == list(claims.STUDIES)
    assert {entry["verdict"] for entry in entries} == {None}
    assert page_of(copy, entries).count("Not measured yet.") == len(entries)


def test_with_all_results_every_claim_has_a_verdict_on_the_page(copy):
    folder = copy / "claims"
    draws = np.random.default_rng(0).uniform(0.8, 1.2, 20)
    write(folder / "trials.csv", trial_rows({"posX": 100 * draws, "scale": 10 * draws, "shape": draws}))
    write(copy / "diffusion" / "runs.csv", diffusion_rows(dict.fromkeys(rules.APPROACHES, 0.5) | {rules.DEFT: 0.2}))
    levels, spreads = {"deft": 0.6, "beta_tcvae": 0.2, "dynamic_vae": 0.2}, dict.fromkeys(score_rules.METHODS, 0.1)
    for name, suffix in (("claims", ""), ("claims_rotated", "_rotated")):
        runs = {run: {"scores": scores} for run, scores in made_scores(levels, spreads, suffix).items()}
        study = {"scale": "small", "seeds": list(range(10)), "runs": runs}
        study["provenance"] = {"machine": "M", "versions": "V"}
        (folder / f"study_{name}.json").write_text(json.dumps(study))
    names = ("deft", *score_rules.TC_METHODS)
    write(folder / "correlated.csv", correlated_rows(dict.fromkeys(names, 0.5), dict.fromkeys(names, 0.5)))
    write(folder / "udr.csv", udr_rows(dict.fromkeys(score_rules.METHODS, 1), dict.fromkeys(score_rules.METHODS, 0.0)))
    entries = claims.summary(folder)
    assert [entry["verdict"] for entry in entries] == [
        "holds", "holds", "holds", "partly", "partly", "does not hold here", "holds"
    ]  # fmt: skip
    page = page_of(copy, entries)
    assert "Not measured yet." not in page
    assert "**Answer:** Claims that hold: i, ii, iii, vi; partly: iv, iv with rotation; not here: v; " in page


def page_of(copy, entries):
    (copy / "claims" / "claims.json").write_text(json.dumps(entries))
    spec = importlib.util.spec_from_file_location("build_experiments", FOLDER.parent / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return build.render("claims", copy)

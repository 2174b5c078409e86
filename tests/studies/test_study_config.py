"""A study is validated as a whole, its scale is a function of it, and it expands to runs times seeds."""

import json

import pytest
import tiny
from ml_collections import ConfigDict

from deft_jax.runtime.validation import ConfigErrors
from deft_jax.studies import runner, scales
from deft_jax.studies.config import parse_study


def study_of(runs=None, **changes):
    """A study as a user describes it: a plain mapping."""
    runs = {"squares/beta_vae": tiny.config()} if runs is None else runs
    return {"runs": runs, "seeds": (0,), "metrics": ("mig",), "num_samples": 64} | changes


def halved(study):
    """A scale: half the steps, twice the width, a batch of 6."""
    scales.fill_in(study, seeds=(3, 4), metrics={"mig": {"num_bins": 5}}, num_samples=100)
    for run in study.runs.values():
        scales.scale_steps(run, 0.5)
        scales.scale_widths(run, encoder=2)
        run.batch_size = 6
    return study


def raises(study):
    return study.no_such_field


def returns_nothing(study):
    del study


HALVED = {"scale": "half", "scales": {"half": "test_study_config:halved"}}


def test_a_study_expands_to_runs_times_seeds():
    study = parse_study(study_of({"a/x": tiny.config(), "a/y": tiny.config(batch_size=4)}, seeds=(0, 7)))
    runs = study.expand_runs()
    assert list(runs) == ["a/x/seed_0", "a/x/seed_7", "a/y/seed_0", "a/y/seed_7"]
    assert [(run.seed, run.batch_size) for run in runs.values()] == [(0, 8), (7, 8), (0, 4), (7, 4)]
    assert parse_study(study) is study


def test_a_scale_is_a_function_of_the_study():
    runs = {"one": tiny.config(stages={"rule": "steps", "betas": (8.0, 2.0), "steps": [4, 6]}, total_steps=10)}
    runs["two"] = tiny.config(objective={"name": "cascade_vae_c", "period": 9})
    study = parse_study(study_of(runs, **HALVED))
    one, two = study.runs["one"], study.runs["two"]
    assert (one.total_steps, one.stages.steps, one.model.width, one.batch_size) == (5, (2, 3), 4, 6)
    assert dict(one.objective.options) == {}
    assert two.objective.options["period"] == 4
    assert runs["one"]["total_steps"] == 10, "what the user gave is not changed"
    assert parse_study(study_of(runs, scale="test_study_config:halved")).runs == study.runs


def test_a_scale_fills_in_only_what_the_study_leaves_open():
    study = parse_study(study_of(seeds=None, metrics=None, **HALVED))
    assert (study.seeds, study.metrics, study.num_samples) == ((3, 4), {"mig": {"num_bins": 5}}, 64)
    assert parse_study(study_of(seeds=(9,), metrics=None, **HALVED)).seeds == (9,)


@pytest.mark.parametrize(
    ("value", "factor", "scaled"),
    [(9, 0.5, 4), (3, 0.01, 1), (0.25, 2, 0.5), ((4, 6), 0.5, (2, 3)), (None, 2, None), ("word", 2, "word")],
)
def test_scaling_a_field_keeps_its_type(value, factor, scaled):
    section = ConfigDict({"field": value})
    scales.scale(section, "field", factor)
    scales.scale(section, "absent", factor)
    assert section.to_dict() == {"field": scaled}
    assert type(section.field) is type(scaled)


def test_set_changes_the_chosen_runs_after_the_scale():
    runs = {"one": tiny.config(), "two": tiny.config(), "other": tiny.config()}
    fields = ("model.width=5", "optimizer.decay=cosine", "model.groups=(3, 1)")
    study = parse_study(study_of(runs, set=fields, only=("one", "two"), **HALVED))
    assert list(study.runs) == ["one", "two"]
    for run in study.runs.values():
        assert (run.model.width, run.optimizer.decay, run.model.groups) == (5, "cosine", (3, 1))
        assert run.batch_size == 6


def test_the_saved_study_holds_the_runs_as_they_are_trained():
    saved = parse_study(study_of(set=("model.width=5",), **HALVED)).to_mapping()
    run = saved["runs"]["squares/beta_vae"]
    assert (run["total_steps"], run["model"]["width"], saved["scale"], saved["metrics"]) == (4, 5, "half", {"mig": {}})
    assert json.loads(json.dumps(saved)) == saved


def test_packs_hold_consecutive_seeds_of_one_run():
    described = study_of({"a/x": tiny.config(), "a/y": tiny.config()}, seeds=(0, 1, 2, 5, 6))
    packs = runner.packs(parse_study(described).expand_runs(), 2)
    assert [[int(name[-1]) for name in names] for names in packs] == [[0, 1], [2], [5, 6]] * 2
    assert {name.rpartition("/")[0] for name in packs[0]} == {"a/x"}


def test_seeds_are_packed_by_default_where_there_are_accelerators():
    cases = [(None, None), ("tcp://host:1", None), ("tcp://host:1", {"GPU": 1})]
    assert [runner._has_accelerator(*case) for case in cases] == [False, False, True]


@pytest.mark.parametrize(("changes", "fault"), [
    ({"scale": "huge"} | {"scales": HALVED["scales"]}, "scale must be one of half, 'module:function', got 'huge'"),
    ({"scale": "no_such_module:small"}, "scale: cannot find the scale 'no_such_module:small'"),
    ({"scale": "half", "scales": {"half": "*0.5"}}, r"scales\.half must be 'module:function', got '\*0.5'"),
    ({"scale": "test_study_config:raises"}, "raises AttributeError: .*no_such_field"),
    ({"scale": "test_study_config:returns_nothing"}, "must return the study as a ConfigDict, got None"),
    ({"seeds": ()}, "seeds must hold at least one seed"),
    ({"seeds": (1, 1)}, "seeds must .* each seed once"),
    ({"seeds": None}, "lacks the field 'seeds'"),
    ({"sedes": (1,)}, "has no field 'sedes'"),
    ({"runs": {}}, "runs must hold at least one run"),
    ({"runs": {"a": tiny.config(num_seeds=2)}}, r"runs\.a\.num_seeds must be None, got 2"),
    ({"only": ("squares/gan",)}, "only names 'squares/gan', .*; it has squares/beta_vae"),
    ({"set": ("model.depth=3",)}, r"set\[0\] sets model\.depth, a field that runs\.squares/beta_vae does not have"),
    ({"set": ("model.width",)}, r"set\[0\] must be 'section\.name=value', got 'model\.width'"),
    ({"set": ("model.width=*2",)}, r"runs\.squares/beta_vae\.model\.width.* must be .*, got '\*2'"),
    ({"set": ("num_seeds=2",)}, r"set\[0\] must not set num_seeds"),
    ({"metrics": ("mgi",)}, r"metrics\.mgi: unknown metric 'mgi'"),
    ({"metrics": ("udr",)}, r"metrics\.udr: compares several runs"),
    ({"metrics": {"mig": {"bins": 3}}}, r"metrics\.mig has no field 'bins'"),
    ({"num_samples": 19}, "num_samples must be at least 20 to compute metrics, got 19"),
    ({"pack": 0}, "pack must be at least 1"),
    ({"runs": {"a": tiny.config(objective={"name": "gan"})}}, r"runs\.a\.objective\.name: unknown .* 'gan'"),
    ({"runs": {"a": tiny.config(data={"name": "listed_squares", "labelled": False})}}, r"runs\.a: .*'mig'"),
])
def test_a_faulty_study_is_refused_before_anything_is_written(changes, fault, tmp_path):
    with pytest.raises(ConfigErrors, match=fault):
        runner.run(study_of() | changes, tmp_path / "study", jobs=1)
    assert not (tmp_path / "study").exists()


def test_all_faults_of_a_study_are_reported_at_once():
    runs = {"one": tiny.config(batch_size=0), "two": tiny.config(model={"depth": 3})}
    with pytest.raises(ConfigErrors) as caught:
        parse_study(study_of(runs, seeds=(-1,), metrics=("mgi",), pack=0.5, only=("one", "two", "three"), scale="huge"))
    paths = ("scale ", "only ", "runs.one.batch_size ", "runs.two.model ", "seeds[0] ", "pack ", "metrics.mgi")
    for path in paths:
        assert sum(line.startswith(path) for line in caught.value.lines) == 1, path
    assert len(caught.value.lines) == len(paths)

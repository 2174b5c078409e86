"""Every file in configs/ starts: on its data set, or on a rendered one of as many channels if that needs files."""

import functools
import importlib.util
import inspect
import json
import pathlib

import jax
import numpy as np
import pytest
import tiny  # noqa: F401  the compilation cache
from absl import flags
from ml_collections import config_flags

from deft_jax import data
from deft_jax.objectives import registry
from deft_jax.runtime import config_file
from deft_jax.studies.config import parse_study
from deft_jax.studies.data_sections import DATA
from deft_jax.training import build as training_build
from deft_jax.training.config import parse_training
from deft_jax.training.step import state_shapes, train_step

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
TRAININGS = sorted(path.stem for path in CONFIGS.glob("*.py") if not path.stem.startswith("ifp_"))
BASELINES = sorted(set(registry.OBJECTIVES) - {"deft"})
STUDIES = sorted(path.stem for path in (CONFIGS / "studies").glob("*.py"))
COLOURED = ("shapes3d", "cars3d", "mpi3d", "falcor3d", "isaac3d")
NEED_FILES = ("archive", "folder", "smallnorb", *COLOURED)


def module_of(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def get_config(path, *choice):
    return module_of(path).get_config(*choice)


def load(path, *choice):
    return get_config(path, *choice).to_dict()


def parsed(config, *arguments):
    """The configuration with fields set as on the command line."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["train", *arguments])
    values(["train", *arguments])
    return values["config"].value.to_dict()


def rendered(config):
    """The configuration with a rendered set of as many channels in place of one that needs files."""
    name = config["data"]["name"]
    if name in NEED_FILES:
        colour = name in COLOURED or config["data"].get("channels") == 3
        config["data"] = {"name": "color_dsprites" if colour else "dsprites"}
    return config


def small(config):
    """The configuration on the smallest model and batch."""
    config["model"] |= {"width": 1, "hidden": 4, "decoder_width": 1, "decoder_hidden": 4}
    if config["objective"]["name"] == "factor_vae":
        config["objective"] |= {"width": 8, "depth": 1}
    return config | {"batch_size": 4}


@pytest.mark.parametrize("name", TRAININGS)
def test_a_config_opens_with_its_command_and_makes_an_experiment_with_a_step(name):
    path = CONFIGS / f"{name}.py"
    assert f"python -m deft_jax.train --config configs/{name}.py" in path.read_text()
    config = rendered(load(path))
    built = training_build.build(config)
    assert built.stages.total_steps == config["total_steps"]
    assert built.model.num_latents == config["model"]["latents"]
    built = training_build.build(small(config))
    step = functools.partial(train_step, built, 0, built.source.arrays)
    _, metrics = jax.eval_shape(step, state_shapes(built))  # traced, and not compiled
    assert metrics["loss"].shape == metrics["beta"].shape == ()


def test_there_is_a_config_for_each_baseline_and_for_deft_on_each_set():
    assert set(BASELINES) <= set(TRAININGS)
    missing = set(DATA) - {"archive", "folder", "celeba"} - {name.removesuffix("_deft") for name in TRAININGS}
    for name in ("mpi3d_deft", "high_resolution_deft"):
        sets = module_of(CONFIGS / f"{name}.py").SETS
        for choice in sets:
            section = load(CONFIGS / f"{name}.py", choice)["data"]
            assert DATA[choice].items() <= section.items()
        missing -= set(sets)
    assert not missing


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_takes_every_set_after_the_colon(name):
    for choice, options in DATA.items():
        config = load(CONFIGS / f"{name}.py", choice)
        assert {field: value for field, value in config["data"].items() if value is not None} == options
        assert config["objective"]["name"] == name
    training_build.build(rendered(config))
    with pytest.raises(ValueError, match="unknown data set 'mnist' after the colon; known: dsprites, "):
        load(CONFIGS / f"{name}.py", "mnist")


VALUES = {bool: ("false", False), int: ("7", 7), str: ("word", "word"), tuple: ("('a', 'b')", ("a", "b"))}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_option_of_every_set_is_a_field_of_every_config(path):
    config, types = get_config(path), data.option_types()
    assert set(types) <= set(config.data)
    arguments = [f"--config.data.{option}={VALUES[kind][0]}" for option, kind in types.items()]
    section = parsed(config.lock(), *arguments, "--config.data.name=new")["data"]
    assert section == {"name": "new"} | {option: VALUES[kind][1] for option, kind in types.items()}


def test_options_that_are_not_set_are_those_of_the_function():
    for name, function in data.SOURCES.items():
        module, _, function = function.partition(":")
        options = inspect.signature(getattr(importlib.import_module(module), function)).parameters
        assert set(options) <= set(data.option_types()), name
    unset = dict.fromkeys(data.option_types())
    whole = data.get("xy_squares", **unset)
    assert whole.factor_sizes == data.get("xy_squares").factor_sizes
    with pytest.raises(ValueError, match="data lacks the field 'path'"):
        data.get("archive", **unset)
    with pytest.raises(ValueError, match="data has no field 'spacing'"):
        data.get("dsprites", **unset | {"spacing": 4})


def test_a_workdir_whose_config_lists_no_unset_options_is_of_the_same_run(tmp_path):
    config = load(CONFIGS / "quickstart.py")
    (tmp_path / "config.json").write_text(json.dumps(config | {"data": {"name": "dsprites"}}))
    config_file.check_config(tmp_path, config)
    with pytest.raises(ValueError, match=r"data\.storage"):
        config_file.check_config(tmp_path, config | {"data": config["data"] | {"storage": "packed"}})


@pytest.mark.parametrize("config", ["quickstart", "dsprites_deft", "beta_vae", "noisy_dsprites_deft"])
def test_any_config_takes_an_archive_of_the_user(config, tmp_path):
    np.savez(tmp_path / "set.npz", np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8))
    options = ("name=archive", f"path={tmp_path / 'set.npz'}", "images=arr_0", "factors=none", "likelihood=gaussian")
    arguments = (f"--config.data.{option}" for option in options)
    values = parsed(get_config(CONFIGS / f"{config}.py").lock(), *arguments)
    built = training_build.build(json.loads(json.dumps(values)))
    assert (built.source.num_images, built.source.image_shape) == (30, (32, 32, 3))
    assert built.source.likelihood == "gaussian"


@pytest.mark.parametrize("name", STUDIES)
def test_every_run_of_every_study_is_valid_at_every_scale(name):
    path = CONFIGS / "studies" / f"{name}.py"
    assert f"python -m deft_jax.sweep --config configs/studies/{name}.py" in path.read_text()
    for scale in load(path)["scales"]:
        study = parse_study(load(path) | {"scale": scale})
        assert study.expand_runs()
    training_build.build(rendered(next(iter(study.runs.values())).to_mapping()))


def test_the_scales_of_a_study_have_the_steps_batches_and_seeds_of_its_docs():
    path = CONFIGS / "studies" / "dsprites.py"
    sizes = {}
    for scale in load(path)["scales"]:
        study = parse_study(load(path) | {"scale": scale})
        run = study.runs["deft"]
        sizes[scale] = (run.total_steps, run.batch_size, run.model.width, run.model.decoder_width, len(study.seeds))
    assert sizes == {
        "full": (70_000, 256, 8, 32, 10),
        "large": (28_000, 64, 8, 16, 3),
        "medium": (42_000, 16, 3, 8, 3),
        "small": (14_000, 16, 3, 8, 3),
    }
    short = parse_study(load(CONFIGS / "studies" / "baselines.py"))
    assert {(run.total_steps, run.batch_size) for run in short.runs.values()} == {(2_100, 32)}
    ramped, rotated = short.runs["dsprites/annealed_vae"], parse_study(load(path)).runs["deft_annealed_rotated"]
    assert (ramped.objective.options["ramp_steps"], rotated.stages.rotation_every) == (900, 3_000)


@pytest.mark.parametrize("name", ["dsprites", "smallnorb", "correlated", "color", "noisy", "scream"])
def test_the_runs_of_a_comparison_start_alike(name):
    runs = load(CONFIGS / "studies" / f"{name}.py")["runs"].values()
    for field in ("head_init_scale", "decoder_width", "decoder_hidden", "dtype"):
        assert len({run["model"][field] for run in runs}) == 1
    assert len({(run["batch_size"], run["total_steps"], json.dumps(run["data"])) for run in runs}) == 1


def test_dsprites_annealed_is_the_rotated_run_of_the_study_of_stages():
    config = parse_training(load(CONFIGS / "dsprites_annealed.py")).to_mapping()
    changes = {"scale": "large", "seeds": (0,), "only": ("whole_set",), "set": ("stages.rotation_every=1200",)}
    study = parse_study(load(CONFIGS / "studies" / "stages.py") | changes)
    run = study.expand_runs()["whole_set/seed_0"].to_mapping()
    assert run.keys() == config.keys()
    assert {field for field in run if run[field] != config[field]} == {"log_every", "evaluation", "checkpoints"}


def test_dsprites_sized_is_the_sized_run_of_the_study_of_rotations_on_a_smaller_model():
    sized = load(CONFIGS / "dsprites_sized.py")
    run = load(CONFIGS / "studies" / "rotation.py")["runs"]["deft_sized_rotated"]
    assert {**sized["stages"], "rotation_every": 0} == {**run["stages"], "rotation_every": 0}
    fields = ("latents", "groups", "width", "hidden")
    assert [sized["model"][field] for field in fields] == [run["model"][field] for field in fields]
    assert sized["optimizer"]["gamma"] == run["optimizer"]["gamma"] == 1

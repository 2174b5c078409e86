"""A run does not depend on the settings of JAX and NumPy in the session of its caller."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import deft_jax
from deft_jax import data
from deft_jax.annealing import measure
from deft_jax.evaluation import encoder, figures
from deft_jax.runtime.jax_settings import PINNED, pinned
from deft_jax.studies import scoring
from deft_jax.training import session as training_session
from deft_jax.training.step import init_state

FACTORS = np.array([[0, 0, 0], [1, 3, 2], [0, 1, 3]], np.int32)
OTHERS = {  # another value of each pinned setting
    "jax_enable_x64": True,
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_legacy_prng_key": "error",
    "jax_debug_key_reuse": True,
    "jax_default_matmul_precision": "bfloat16",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_disable_jit": True,
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_transfer_guard": "disallow",
    "jax_no_tracing": True,
    "jax_no_execution": True,
}
OTHER_NUMBERS = {name: OTHERS[name] for name in ("jax_enable_x64", "jax_default_prng_impl")}


@contextlib.contextmanager
def session(settings):
    """Within it, JAX is set as a caller might have set it, for all threads."""
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    try:
        yield
        assert {name: getattr(jax.config, name) for name in settings} == settings, "the caller's settings are gone"
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(figures, "figures", lambda **_: {})
    monkeypatch.setattr(figures, "history_figures", lambda *_, **__: {})


def contents(workdir):
    """The parameters, codes, images and results of a run."""
    model = deft_jax.load(workdir)
    return {
        "params": tiny.fingerprint(model.params),
        "posterior": tiny.fingerprint(model.encode_factors(FACTORS)),
        "images": model.decode(np.zeros((2, 4))).tobytes(),
        "results": json.loads((workdir / "results.json").read_text()),
    }


def test_every_pinned_setting_is_tested():
    assert {f"jax_{name}" for name in PINNED} == set(OTHERS)


@pytest.fixture(scope="module")
def expected(trained_once):
    return contents(trained_once)


def test_run_under_other_settings_is_the_same_run(expected, no_figures, tmp_path):
    with session(OTHERS):
        training_session.run(tiny.config(), tmp_path / "run", jax.devices()[:1])
        assert contents(tmp_path / "run") == expected
    assert contents(tmp_path / "run") == expected


def test_finished_run_is_not_changed_under_other_settings(trained_once, expected, no_figures, tmp_path):
    workdir = shutil.copytree(trained_once, tmp_path / "run")
    with session(OTHER_NUMBERS):
        training_session.run(tiny.config(), workdir, jax.devices()[:1])
    assert contents(workdir) == expected
    assert not list(workdir.glob("checkpoints/damaged_*"))


def test_scores_are_the_same_of_samples_and_of_samplers(trained_once, tmp_path):
    chosen = {"names": ["mig", "factor_vae"], "num_samples": 100, "variants": ("mean", "sampled")}
    scores = [scoring.evaluate(shutil.copytree(trained_once, tmp_path / "a"), **chosen)["scores"]]
    with session(OTHER_NUMBERS):
        scores.append(scoring.evaluate(shutil.copytree(trained_once, tmp_path / "b"), **chosen)["scores"])
    first, second = (tiny.fingerprint(each) for each in scores)
    assert first == second


def test_posterior_cache_draws_the_noise_of_images_with_the_generator_of_the_run():
    """It encodes in a pool of threads, where the settings of this thread do not hold."""
    built = tiny.experiment()
    source = built.source

    def noisy(arrays, factors, key):
        return source.render(arrays, factors, key) * jax.random.uniform(key, source.image_shape)

    built = dataclasses.replace(built, source=dataclasses.replace(source, render=noisy))
    params = init_state(built).params

    def posteriors():
        with pinned():
            return encoder.PosteriorCache(built.source, built.encode, params, 1)(FACTORS)

    expected = posteriors()
    with session(OTHER_NUMBERS):
        assert tiny.fingerprint(posteriors()) == tiny.fingerprint(expected)


def test_settings_of_a_context_of_the_caller_are_pinned_too(trained_once):
    model = deft_jax.load(trained_once)
    images = np.zeros((2, 16, 16, 1))
    expected = tiny.fingerprint(model.encode(images))
    with jax.enable_x64(True), jax.disable_jit():
        assert tiny.fingerprint(deft_jax.load(trained_once).encode(images)) == expected
        assert jnp.zeros(1).dtype == np.float64


def test_data_sets_have_32_bits_in_a_session_of_64():
    with session({"jax_enable_x64": True}):
        sources = data.get("translation"), data.get("xy_squares")
    for leaf in jax.tree.leaves([source.arrays for source in sources]):
        assert jnp.asarray(leaf).dtype.itemsize <= 4


def test_annealing_test_is_pinned():
    """Settings are checked before the configuration."""
    with session({"jax_random_seed_offset": 7}), pytest.raises(ValueError, match="JAX_RANDOM_SEED_OFFSET must be 0"):
        measure.run({}, "nowhere")


def test_error_state_of_numpy_is_pinned():
    with np.errstate(all="raise"):
        with pinned():
            assert np.exp(np.float32(-200)) == 0
            with pytest.warns(RuntimeWarning):
                assert np.isinf(np.float32(1) / np.float32(0))
        with pytest.raises(FloatingPointError):
            np.exp(np.float32(-200))


def test_pinned_is_a_decorator_that_keeps_the_function_and_is_reentrant():
    @pinned()
    def depth(count: int) -> int:
        """How often it was entered."""
        return 1 + depth(count - 1) if count else int(jnp.zeros(0).dtype.itemsize == 8)

    assert depth.__name__ == "depth"
    assert depth.__doc__.startswith("How often")
    with session({"jax_enable_x64": True}):
        assert depth(3) == 3
        seen = []
        with pinned():  # of this thread only
            thread = threading.Thread(target=lambda: seen.append(jnp.zeros(0).dtype))
            thread.start()
            thread.join()
        assert seen == [np.float64]


CODE = """
import json, pathlib, sys
import jax, tiny
import test_jax_settings as here
from deft_jax.training import session
tiny.draw_nothing()
workdir = pathlib.Path(sys.argv[1])
session.run(tiny.config(), workdir, jax.devices()[:1])
print(here.digest(workdir))
"""


def digest(workdir):
    """`contents` in one line, for another process."""
    return "digest " + hashlib.sha256(repr(sorted(contents(workdir).items())).encode()).hexdigest()


def test_environment_variables_change_no_result(trained_once, tmp_path):
    environment = tiny.ENVIRONMENT | {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg"}
    printed = tiny.run_python(CODE, tmp_path / "run", environment=environment)
    assert printed.splitlines()[-1] == digest(trained_once)


@pytest.mark.parametrize(("variable", "value", "allowed"), [
    ("JAX_PLATFORMS", "quantum", "cpu"),
    ("JAX_RANDOM_SEED_OFFSET", "3", "must be 0"),
    ("JAX_ENABLE_X64", "maybe", "truth value"),
])
def test_setting_that_cannot_be_pinned_is_refused_in_one_line(variable, value, allowed, tmp_path):
    environment = os.environ | {"PYTHONPATH": tiny.PLAIN["PYTHONPATH"], variable: value}
    words = ["-m", "deft_jax.train", "--config", "configs/beta_vae.py", "--workdir", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert variable in line
    assert value in line
    assert allowed in line
    assert not (tmp_path / "run").exists()

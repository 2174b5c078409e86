"""deft_jax.load gives a model as training left it, at any saved step, or refuses."""

import json

import jax
import numpy as np
import pytest
import tiny

import deft_jax
from deft_jax.evaluation import encoder
from deft_jax.evaluation import scores as evaluation_scores


def test_load_gives_the_model_as_training_left_it(workdir):
    model = deft_jax.load(workdir)
    assert (model.step, model.stage) == (tiny.config()["total_steps"], 1)
    assert model.config.to_mapping() == json.loads((workdir / "config.json").read_text())
    factors = encoder.draw_factors(model.source, 64, seed=0)
    scores = evaluation_scores.score(model.encode_factors(factors).mean, factors)
    assert scores["mig"] == pytest.approx(json.loads((workdir / "results.json").read_text())["mig"], abs=1e-6)
    images = np.asarray(model.source.render(model.source.arrays, factors, jax.random.key(0)))
    by_image, by_factors = model.encode(images), model.encode_factors(factors)
    np.testing.assert_allclose(by_image.mean, by_factors.mean, atol=1e-5)
    np.testing.assert_allclose(by_image.logvar, by_factors.logvar, atol=1e-5)
    decoded = model.decode(by_image.mean)
    assert decoded.shape == images.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    np.testing.assert_allclose(model.decode(by_image.mean[3:5]), decoded[3:5], atol=1e-5)


def test_load_of_an_earlier_step_has_its_stage_and_parameters(workdir):
    early, late = deft_jax.load(workdir, 4), deft_jax.load(workdir)
    assert (early.step, early.stage) == (4, 0)
    assert tiny.fingerprint(early.params) != tiny.fingerprint(late.params)
    factors = encoder.draw_factors(early.source, 5, seed=0)
    assert not np.any(early.encode_factors(factors).mean[:, 2:]), "the second group is not open yet"
    assert max(record["step"] for record in early.records) == 4

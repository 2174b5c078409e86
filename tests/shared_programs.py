"""Trainings of one configuration share their compiled programs in a process, and draw no figures.

Tracing and compiling is most of what a tiny training takes, figures a third of it.
"""

import contextlib
import dataclasses
import json

import jax
import pytest
import tiny

from deft_jax import data, objectives
from deft_jax.evaluation import encoder as evaluation_encoder
from deft_jax.evaluation import figures, pictures
from deft_jax.training import build as training_build
from deft_jax.training import session
from deft_jax.training.config import RESUMABLE_CHANGES, parse_training
from deft_jax.training.runner import Runner

_SHARED = {name: f"tiny:{name}" for name in ("squares", "listed_squares")}  # sets that depend on no file
_OBJECTIVES = dict(objectives.OBJECTIVES)
_ORIGINALS = {
    (training_build, "build"): training_build.build,
    (session, "Runner"): session.Runner,
    (evaluation_encoder, "Encoder"): evaluation_encoder.Encoder,
    (figures, "figures"): figures.figures,
    (figures, "history_figures"): figures.history_figures,
    (pictures, "grids"): pictures.grids,
    (pictures, "first_images"): pictures.first_images,
}
_NOTHING = {
    (figures, "figures"): lambda **_: {},
    (figures, "history_figures"): lambda *_, **__: {},
    (pictures, "grids"): lambda *_: {},
    (pictures, "first_images"): lambda *_: (),
}
_EXPERIMENTS, _RUNNERS, _ENCODERS = {}, {}, {}


def _build(config, source=None):
    """The experiment of a configuration: the same object for all that differ only in what may change on resuming.

    Those that differ in their seed also share their parts, and with them all programs.
    """
    original_build = _ORIGINALS[training_build, "build"]
    config = parse_training(config)
    name, objective = config.data.name, config.objective.name
    if source is not None or data.SOURCES.get(name) != _SHARED.get(name, ...):
        return original_build(config, source)
    if objectives.OBJECTIVES.get(objective) != _OBJECTIVES.get(objective, ...):
        return original_build(config)
    values = config.to_mapping()
    fixed = [name for name in values if name not in (*RESUMABLE_CHANGES, "seed")]
    key = json.dumps({name: values[name] for name in fixed}, sort_keys=True)
    if key not in _EXPERIMENTS:
        is_smallest = config == parse_training(tiny.config())
        _EXPERIMENTS[key] = tiny.experiment() if is_smallest else original_build(config)
    if _EXPERIMENTS[key].seed == config.seed:
        return _EXPERIMENTS[key]
    return dataclasses.replace(_EXPERIMENTS[key], seed=config.seed)


def _parts(experiment):
    """What programs are compiled from: all but the seed. The optimiser is made by a build, and is its own."""
    return experiment.source, experiment.model, experiment.objective, experiment.optimizer, experiment.batch_size


def runner(experiment, devices=None, replicas=None):
    """The same runner on one device, with its compiled programs, for all experiments that differ in their seed only."""
    key = (*map(id, _parts(experiment)), replicas)
    if key not in _RUNNERS:
        _RUNNERS[key] = Runner(experiment, jax.devices()[:1], replicas)
    return _RUNNERS[key]


class _Encoder(evaluation_encoder.Encoder):
    """An encoder with the compiled programs of the first one for the same experiment."""

    def __init__(self, source, encode, seed=0):
        super().__init__(source, encode, seed)
        experiment = getattr(encode, "__self__", None)
        if getattr(experiment, "source", None) is source:
            self._encode = _ENCODERS.setdefault((*map(id, _parts(experiment)), seed), self)._encode


@contextlib.contextmanager
def shared():
    """Within it, trainings share programs and draw no figures."""
    replacements = {
        (training_build, "build"): _build,
        (session, "Runner"): runner,
        (evaluation_encoder, "Encoder"): _Encoder,
    } | _NOTHING
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), replacement in replacements.items():
            patch.setattr(module, name, replacement)
        yield


@contextlib.contextmanager
def drawn():
    """Within it, trainings draw figures, also where `shared` says that they do not."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in _NOTHING:
            patch.setattr(module, name, _ORIGINALS[module, name])
        yield

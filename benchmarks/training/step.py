"""The training step of the configs, in every stage: beside PyTorch, and beside the floor of its arithmetic.

    python -m benchmarks.training.step [--repeats 5] [--seconds 0.5]

Ours draws its batch inside the step; PyTorch's step is given one batch that lies ready in memory. Both start from the
same parameters.
"""

import importlib.util
import math
import pathlib

import jax
import numpy as np

from benchmarks import suite
from benchmarks.models import flops
from deft_jax.evaluation import encoder as evaluation_encoder
from deft_jax.training import build as training_build
from deft_jax.training.runner import Runner
from deft_jax.training.step import state_shapes

CONFIGS = ("dsprites_deft", "beta_vae", "beta_tcvae", "factor_vae")


def load(name, **changes):
    """The configuration of a file in configs/, with some of its fields changed; 'model__width' is that of a section."""
    path = pathlib.Path(__file__).parents[2] / "configs" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config().to_dict()
    for field, value in changes.items():
        section, _, last = field.rpartition("__")
        (config[section] if section else config)[last] = value
    return config


def start(built):
    """A state to time from, with weights drawn here."""
    rng = np.random.default_rng(0)
    shapes = state_shapes(built)

    def draw(leaf):
        fan_in = math.prod(leaf.shape[:-1])
        return (rng.standard_normal(leaf.shape) / fan_in**0.5 * (leaf.ndim > 1)).astype(leaf.dtype)

    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    return zeros.replace(params=jax.tree.map(draw, shapes.params))


def ours(runner, stage, states):
    """The steps of a Runner in `stage`; states: one, or a list of one a replica. A unit is a step of one of them."""
    device_states = [runner.put(states)]
    runner.compile(stage, device_states[0])

    def run(count):
        device_states[0], metrics = runner.run(stage, device_states[0], count)
        jax.block_until_ready(metrics)

    return suite.Timed(run, weight=1 / (runner.replicas or 1))


def torch_training(config, built, stage, params):
    """(PyTorch's training of an experiment in `stage` with these parameters, its device)."""
    import torch

    from benchmarks.models import torch_models

    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    if on_gpu:
        torch.set_float32_matmul_precision("high")  # TF32, as JAX's default on such devices
    model, objective, rates = built.model, config["objective"], config["optimizer"]
    encoder, decoder = model.encoder, model.decoder
    vae = torch_models.VAE(
        decoder.image_shape, encoder.sizes, encoder.widths, encoder.hidden, decoder.width, decoder.hidden
    )
    kind = "beta_vae" if objective["name"] == "deft" else objective["name"]
    critic = torch_models.Discriminator(model.num_latents) if kind == "factor_vae" else None
    torch_models.copy_parameters(params, vae, critic)
    learning_rate = rates["learning_rate"]
    training = torch_models.Training(
        vae.to(device),
        kind,
        beta=float(built.stages.beta(built.stages.starts[stage])),
        stage=stage,
        rates=[rates["gamma"] * learning_rate] * stage + [learning_rate, rates["decoder_learning_rate"]],
        likelihood=built.source.likelihood,
        num_images=built.source.num_images,
        gamma=objective.get("gamma", 0.0),
        critic=None if critic is None else critic.to(device),
    )
    return training, device


def torch_columns(options, config, built, stage, params):
    """(eager, compiled): Timed, or why not."""
    torch, reason = suite.torch_or_reason()
    if torch is None:
        return reason, reason
    drawn = evaluation_encoder.draw_factors(built.source, built.batch_size, 0)
    images = np.asarray(jax.jit(built.source.render)(built.source.arrays, drawn, jax.random.key(0)))

    def timed(compile_it):
        training, device = torch_training(config, built, stage, params)
        x = torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), device=device)
        if compile_it:
            training.compile()
            failed = suite.compiled_or_reason(lambda: training.step(x), options.compile_limit)
            if failed:
                return failed

        def run(count):
            for _ in range(count):
                training.step(x)
            if device.type == "cuda":
                torch.cuda.synchronize()

        return suite.Timed(run)

    return timed(False), timed(True)


def operations(config, built, stage):
    """Floating-point operations of the layers in a step."""
    is_factor = config["objective"]["name"] == "factor_vae"
    critic_layers = flops.critic(built.model.num_latents) if is_factor else ()
    return flops.train_step(built.model, stage, built.batch_size, critic_layers)


def _case(name, batch_size, stages, options):
    """Rows of the chosen stages of a config."""
    config = load(name, batch_size=batch_size)
    built = training_build.build(config)
    runner, state = Runner(built), start(built)
    rows = []
    for stage in range(len(built.stages)) if stages is None else stages:
        suite.report(f"{name}, stage {stage}, batch {batch_size}")
        eager, compiled = torch_columns(options, config, built, stage, state.params)
        at = f", stage {stage}" if len(built.stages) > 1 else ""
        rows.append(
            suite.Row(
                f"{name}{at}, batch {batch_size}", "step", "PyTorch",
                ours(runner, stage, state), eager, compiled, operations(config, built, stage),
            )
        )  # fmt: skip
    return rows


def _turn():
    """The row of a turn of the quickstart's first group (deft_jax/training/latent_rotation.py)."""
    suite.report("quickstart, a rotation")
    built = training_build.build(load("quickstart"))
    runner = Runner(built)
    device_states = [runner.put(start(built))]

    def run(count):
        for _ in range(count):
            device_states[0], _ = runner.rotate(0, device_states[0])

    return suite.Row("quickstart, a turn of its first group", "turn", "", suite.Timed(run))


def rows(options, notes):
    """Rows of all configs, stages and batches; only the last stage in the quick form, in batches of 64."""
    notes.append("our step draws its batch; PyTorch's is given one that lies ready in memory")
    rows = [*_case("quickstart", 16, (1,) if options.quick else None, options), _turn()]
    for batch_size in (64,) if options.quick else (64, 256):
        for name in CONFIGS:
            stages = (3,) if options.quick and name == "dsprites_deft" else None
            rows += _case(name, batch_size, stages, options)
    return rows


if __name__ == "__main__":
    suite.main("training.step", rows)

"""The benchmarks compare equals, in turn, and their table states what was measured."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deft_jax.models import likelihoods, networks
from deft_jax.models.posterior import reparameterise
from deft_jax.objectives import registry

ROOT = pathlib.Path(__file__).parents[1]
sys.path.append(str(ROOT))  # the benchmarks are no part of the package

from benchmarks import suite  # noqa: E402
from benchmarks.models import flops  # noqa: E402

SHAPE, BATCH, WIDTHS = (16, 16, 2), 6, {"width": (2, 3), "hidden": (8, 9), "decoder_width": 4, "decoder_hidden": 10}
SIZES, NUM_IMAGES, BETA = (2, 1), 1000, 4.0
KINDS = {"beta_vae": {}, "beta_tcvae": {}, "factor_vae": {"gamma": 3.0, "width": 12}}


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def ours():
    """(model, its parameters with none of them zero, images, noise)."""
    model = networks.build(SHAPE, latents=sum(SIZES), groups=SIZES, **WIDTHS, head_init_scale=1.0)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: (0.3 * rng.standard_normal(leaf.shape)).astype(np.float32), shapes)
    images = rng.random((BATCH, *SHAPE)).astype(np.float32)
    return model, params, images, rng.standard_normal((BATCH, sum(SIZES))).astype(np.float32)


def theirs(params, critic=None):
    """The PyTorch model of the same parameters, which are copied to the critic too."""
    from benchmarks.models import torch_models

    vae = torch_models.VAE(SHAPE, SIZES, WIDTHS["width"], WIDTHS["hidden"], WIDTHS["decoder_width"],
                           WIDTHS["decoder_hidden"])  # fmt: skip
    torch_models.copy_parameters(params, vae, critic)
    return vae


def channels_first(images):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def critic_params():
    """Parameters of a critic of 12 units, {'Dense_0': {'kernel', 'bias'}, ...}."""
    shapes = jax.eval_shape(networks.Discriminator(12).init, jax.random.key(0), jnp.zeros((1, sum(SIZES))))["params"]
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: (0.3 * rng.standard_normal(leaf.shape)).astype(np.float32), shapes)


@pytest.fixture(scope="module")
def expected(ours, critic_params):
    """What deft_jax computes: posteriors of both stages, outputs, the losses by kind. One program, for time's sake."""
    model, params, images, noise = ours

    def compute(params, images, noise):
        posteriors = [model.encode(params, images, stage) for stage in range(len(SIZES))]
        z = reparameterise(posteriors[1], noise)
        outputs = model.decode(params, z)
        reconstruction = likelihoods.reconstruction_loss("bernoulli", images, outputs)
        losses = {}
        for kind, options in KINDS.items():
            given = {"latents": model.num_latents, "num_images": NUM_IMAGES}
            objective = registry.get(kind, lambda step: BETA, **given, **options)
            terms, _ = objective.apply(critic_params, (), 0, posteriors[1], z, jax.random.key(0))
            # Which codes FactorVAE's critic is shown permuted is a draw of each library's own: its loss is left out.
            losses[kind] = jnp.mean(reconstruction + terms["regulariser"])
        return posteriors, z, outputs, losses

    return jax.tree.map(np.asarray, jax.jit(compute)(params, images, noise))


def test_the_torch_model_is_ours(torch, ours, expected):
    _, params, images, _ = ours
    posteriors, z, outputs, _ = expected
    vae = theirs(params)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == sum(p.numel() for p in vae.parameters())
    with torch.no_grad():
        for stage, posterior in enumerate(posteriors):
            posterior_torch = vae.encode(torch.tensor(channels_first(images)), stage)
            for mine, other in zip(posterior, posterior_torch, strict=True):
                np.testing.assert_allclose(mine, other.numpy(), atol=1e-4)
        decoded = vae.decoder(torch.tensor(z)).numpy()
    np.testing.assert_allclose(outputs, decoded.transpose(0, 2, 3, 1), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_torch_losses_are_ours(torch, ours, critic_params, expected, kind):
    from benchmarks.models import torch_models

    _, params, images, noise = ours
    critic = torch_models.Discriminator(sum(SIZES), width=12) if kind == "factor_vae" else None
    vae = theirs(params | {"objective": critic_params}, critic)
    training = torch_models.Training(vae, kind, beta=BETA, stage=1, rates=[1e-3] * 3, num_images=NUM_IMAGES, gamma=3.0,
                                     critic=critic)  # fmt: skip
    order = torch.arange(BATCH)[:, None].expand(-1, sum(SIZES))  # leaves the codes as they are
    total = training.loss_of(torch.tensor(channels_first(images)), torch.tensor(noise), order)
    if critic is not None:
        logits = critic(torch.tensor(expected[1]))
        softplus = torch.nn.functional.softplus
        own = (softplus(-logits) + softplus(logits)).mean() / 2
        weights = list(critic.parameters())
        pairs = zip(torch.autograd.grad(total, weights), torch.autograd.grad(own, weights), strict=True)
        assert all(torch.allclose(one, other, atol=1e-5) for one, other in pairs), "the model's loss trains the critic"
        total = total - own
    np.testing.assert_allclose(total.item(), expected[3][kind], rtol=1e-5)


def test_an_update_moves_earlier_groups_at_their_own_rate_and_closed_ones_not_at_all(torch, ours):
    from benchmarks.models import torch_models

    _, params, images, _ = ours
    for stage, rates in ((0, [1e-2, 1e-2]), (1, [1e-3, 1e-2, 1e-2])):
        vae = theirs(params)
        before = [[p.detach().clone() for p in encoder.parameters()] for encoder in vae.encoders]
        torch_models.Training(vae, "beta_vae", beta=4.0, stage=stage, rates=rates).step(
            torch.tensor(channels_first(images))
        )
        moved = [
            max((p - old).abs().max().item() for p, old in zip(encoder.parameters(), olds, strict=True))
            for encoder, olds in zip(vae.encoders, before, strict=True)
        ]
        # Adam's first update is the learning rate, whatever the gradient.
        assert moved == pytest.approx([*rates[: stage + 1], 0.0, 0.0][:2], rel=1e-3)


@pytest.mark.parametrize("kind", ["beta_vae", "factor_vae"])
def test_operations_are_those_that_torch_counts(torch, ours, kind):
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.models import torch_models

    model, params, images, _ = ours
    vae = theirs(params)
    critic = torch_models.Discriminator(model.num_latents, width=12) if kind == "factor_vae" else None
    layers = flops.critic(model.num_latents, width=12) if critic is not None else ()
    for stage in range(len(SIZES)):
        training = torch_models.Training(vae, kind, beta=1.0, stage=stage, rates=[1e-3] * (stage + 2), critic=critic)
        with FlopCounterMode(display=False) as counter:
            training.step(torch.tensor(channels_first(images)))
        counted = counter.get_total_flops()
        if critic is not None:  # which scores the codes twice, where the floor has it once
            counted -= BATCH * sum(layers)
        assert flops.train_step(model, stage, BATCH, layers) == counted


def test_columns_are_timed_in_turn_and_shared_ones_once():
    calls = []

    def timed(name, **options):
        return suite.Timed(lambda count: calls.append((name, count)), **options)

    shared = timed("shared")
    rows = [
        suite.Row("one", "step", "", timed("a"), shared, "no compiler"),
        suite.Row("two", "step", "", (timed("b"), timed("c")), shared),
        suite.Row("three", "step", "", timed("slow", once=True)),
    ]
    assert suite.measure(rows, suite.Options(repeats=2, seconds=1e-5)) == {}
    assert [name for name, _ in calls[-8:]] == ["a", "shared", "b", "c"] * 2
    assert [name for name, _ in calls].count("slow") == 1
    assert len(shared.seconds) == 2


def test_a_line_of_the_table_and_its_record():
    def done(seconds, weight=1.0):
        timed = suite.Timed(lambda count: None, weight)
        timed.seconds, timed.count = seconds, 3
        return timed

    parts = (done([0.2], 0.5), done([0.5, 0.3, 0.4], 0.25))
    row = suite.Row("case", "step", "PyTorch", done([0.1, 0.05, 9.0]), parts, "no compiler", flops=1e9)
    cells = [cell.strip() for cell in suite.line("group", row, 2e10, []).strip("| ").split("|")]
    assert cells[:3] == ["group", "case", "step"]
    assert cells[-2:] == ["50.0", "2.00"]  # ms by the floor, and times the floor
    record = json.loads(json.dumps(suite.record("group", row, 2e10)))
    assert record["ours"] == {"median": 0.1, "parts": [{"weight": 1.0, "times": 3, "seconds": [0.1, 0.05, 9.0]}]}
    assert record["compiled"] == {"reason": "no compiler"}
    assert record["floor"] == 0.05


def test_a_run_prints_a_line_per_row_and_writes_its_timings(tmp_path, capsys):
    def rows(options, notes):
        return [suite.Row("case", "step", "", suite.Timed(lambda count: None), "reason")]

    suite.run({"first": rows, "second": rows}, suite.Options(1, 1e-5), tmp_path / "out.json")
    printed = capsys.readouterr().out
    assert printed.count("\n| first |") == printed.count("\n| second |") == 1
    assert [row["group"] for row in json.loads((tmp_path / "out.json").read_text())["rows"]] == ["first", "second"]


def test_what_does_not_compile_leaves_a_reason():
    def fails():
        raise RuntimeError("no C++ compiler")

    assert "no C++ compiler" in suite.compiled_or_reason(fails, 5)
    assert suite.compiled_or_reason(lambda: None, 5) is None


def test_the_command_line():
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}

    def run(*words):
        command = [sys.executable, "-m", "benchmarks", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    refused = run("--only", "training.step,nothing")
    assert refused.returncode == 2
    assert "nothing" in refused.stderr
    assert all(name in refused.stderr for name in suite.GROUPS)

"""The training step: one pure function from state to (state, metrics).

A batch is a function of (key, step): factors are drawn and images rendered inside the compiled step. Every random
number comes from the key of the run folded with the step and the example's index in the whole batch (draws.py), so
the numbers do not depend on how many devices share the batch.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import flatten_util

from deft_jax.data.source import render_each
from deft_jax.models.likelihoods import reconstruction_loss
from deft_jax.models.posterior import Posterior, kl_per_latent
from deft_jax.training import latent_rotation, optimizer, supervision
from deft_jax.training.draws import Draws, draw_batch
from deft_jax.training.experiment import Experiment
from deft_jax.training.pairs import pair_factors
from deft_jax.training.state import TrainState
from deft_jax.training.supervision import Labelled

DEVICE_AXIS = "device"

Metrics = dict[str, Any]
_RESERVED = {"loss", "reconstruction", "supervised"}  # metrics of the step, whatever the objective
"""name -> array; see `train_step`."""


class _SameObjects(tuple[Any, ...]):
    """Equal only to a tuple of the same objects. Experiments that differ in their seed thereby share a program."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameObjects) and tuple(map(id, self)) == tuple(map(id, other))

    def __hash__(self) -> int:
        return hash(tuple(map(id, self)))


def init_state(experiment: Experiment) -> TrainState:
    """The state before the first step, a function of the seed."""
    return _initial(jax.default_backend())(_initialised(experiment), jax.random.key(experiment.seed))


def state_shapes(experiment: Experiment) -> TrainState:
    """Shapes and types of what `init_state` returns; nothing is computed."""
    return _initial(jax.default_backend()).eval_shape(_initialised(experiment), jax.random.key(0))


def _initialised(experiment: Experiment) -> _SameObjects:
    """The parts of an experiment that have initial values."""
    return _SameObjects((experiment.model, experiment.objective, experiment.optimizer))


@functools.cache
def _initial(backend: str) -> Any:
    # Many small draws that run once: on a CPU, full optimisation takes four times as long and changes no bit.
    options = {"xla_backend_optimization_level": "1"} if backend == "cpu" else None
    return jax.jit(_init_state, static_argnums=0, compiler_options=options)


def _init_state(parts: _SameObjects, key: jax.Array) -> TrainState:
    model, objective, optimizer = parts
    key_model, key_objective, key_run = jax.random.split(key, 3)
    objective_params, objective_state = objective.init(key_objective)
    params = model.init(key_model) | {"objective": objective_params}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        stage=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(key_run),
        params=params,
        opt_state=optimizer(0).init(params),
        objective_state=objective_state,
    )


def train_step(
    experiment: Experiment, stage: int, arrays: Any, state: TrainState, shards: int = 1
) -> tuple[TrainState, Metrics]:
    """One update, a pure function.

    Args:
      experiment: static.
      stage: static; groups after it are not computed.
      arrays: of the source.
      state: before the update.
      shards: devices that share the batch; above 1 the function runs inside a pmap over the axis 'device'. Each device
        encodes and decodes its images; posteriors and codes are gathered, unless the objective treats each example
        alone, so it sees the whole batch on every device and its estimates are those of one device.

    Returns:
      The state after the update, and metrics, means over the whole batch: 'loss', 'reconstruction' and 'kl' in nats per
      image (reconstruction summed over pixels, kl over latents), 'kl_per_latent' [D] in nats, 'beta', the other terms
      of the objective, and 'supervised' in nats per labelled image, if there are any.
    """
    source, model, objective = experiment.source, experiment.model, experiment.objective
    device = jax.lax.axis_index(DEVICE_AXIS) if shards > 1 else 0
    share = experiment.batch_size // shards
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    objective_key = jax.random.fold_in(key, experiment.batch_size)
    examples = device * share + jnp.arange(share)
    labelled = experiment.labelled
    if labelled is not None:
        labelled_share = labelled.batch_size // shards
        labelled_examples = device * labelled_share + jnp.arange(labelled_share)
        labelled_images, targets_BxK = _labelled_batch(experiment, labelled, arrays, key, labelled_examples)
    part_size = experiment.part_size if objective.per_example and labelled is None else None

    def gather(*arrays_BxD: jax.Array) -> list[jax.Array]:
        if shards == 1 or objective.per_example:
            return list(arrays_BxD)
        gathered = jax.lax.all_gather(jnp.concatenate(arrays_BxD, axis=1), DEVICE_AXIS, tiled=True)
        return jnp.split(gathered, len(arrays_BxD), axis=1)

    def loss_fn(params: Any, examples: jax.Array) -> tuple[jax.Array, tuple[Metrics, Any]]:
        draws = _draw(experiment, key, examples)
        images = render_each(source, arrays, draws.factors, draws.image_keys)
        local_posterior = model.encode(params, images, stage)
        z_SxBxD = objective.spaces(params["objective"], local_posterior, draws.noise)
        outputs = model.decode(params, z_SxBxD.reshape(-1, model.num_latents))
        repeated = jnp.tile(images, (len(z_SxBxD), 1, 1, 1))
        reconstruction = jnp.mean(reconstruction_loss(source.likelihood, repeated, outputs))

        *mean_and_logvar, z_BxD = gather(*local_posterior, z_SxBxD[0])
        posterior = Posterior(*mean_and_logvar)
        terms, objective_state = objective.apply(
            params["objective"], state.objective_state, state.step, posterior, z_BxD, objective_key
        )
        loss = reconstruction + jnp.mean(terms.pop("regulariser"))
        if objective.decoder_terms is not None:
            terms |= _decoder_terms(experiment, params, state.step, posterior, z_SxBxD[0], key, examples)
            loss += terms.pop("regulariser")
        if reserved := _RESERVED & set(terms):
            raise ValueError(f"an objective must not name a term {', '.join(sorted(reserved))}")
        kl_D = jnp.mean(kl_per_latent(posterior), axis=0)
        metrics = {"reconstruction": reconstruction, "kl": jnp.sum(kl_D), "kl_per_latent": kl_D} | terms
        if labelled is not None:
            metrics["supervised"] = supervision.cross_entropy(
                model.encode(params, labelled_images, stage).mean, targets_BxK
            )
            loss += labelled.weight * metrics["supervised"]
        metrics = {"loss": loss} | metrics
        return loss + terms.get("objective_loss", 0.0), (metrics, objective_state)

    # Finite differences of the decoder would drown in the rounding of a GPU's or TPU's default.
    with jax.default_matmul_precision(None if objective.decoder_terms is None else "highest"):
        grads, (metrics, objective_state) = _mean_over_parts(
            lambda part: jax.grad(loss_fn, has_aux=True)(state.params, part), examples, part_size
        )
    if shards > 1:
        flat, unravel = flatten_util.ravel_pytree((grads, metrics))
        grads, metrics = unravel(jax.lax.pmean(flat, DEVICE_AXIS))  # one message instead of one for each array
    updates, opt_state = experiment.optimizer(stage).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(
        step=state.step + 1, params=params, opt_state=opt_state, objective_state=objective_state
    ), metrics


def _mean_over_parts(function: Callable[[jax.Array], Any], examples_B: jax.Array, part_size: int | None) -> Any:
    """The mean of what `function` returns for parts of the examples, one after another; of all at once by default."""
    size = len(examples_B) if part_size is None else part_length(len(examples_B), part_size)
    if size == len(examples_B):
        return function(examples_B)
    parts_PxB = examples_B.reshape(-1, size)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(function, parts_PxB[0]))

    def add(total: Any, part_B: jax.Array) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, function(part_B)), None

    total, _ = jax.lax.scan(add, zeros, parts_PxB)
    return jax.tree.map(lambda leaf: leaf / len(parts_PxB), total)


def part_length(num_examples: int, part_size: int) -> int:
    """The size of equal parts of a batch, at most part_size; the whole batch where parts were below half of that.

    Example:
      >>> [part_length(num_examples, 32) for num_examples in (16, 64, 100, 62)]
      [16, 32, 25, 31]
      >>> part_length(37, 32)
      37
    """
    size = max(size for size in range(1, part_size + 1) if num_examples % size == 0)
    return size if 2 * size > part_size else num_examples


def _draw(experiment: Experiment, key: jax.Array, examples_B: jax.Array) -> Draws:
    """What a step draws for these examples of its batch, with factors in pairs where the objective takes pairs."""
    sizes, pairs = experiment.source.factor_sizes, experiment.objective.pairs
    draws = draw_batch(key, examples_B, sizes, experiment.model.num_latents)
    if pairs is None:
        return draws
    pairs_key = jax.random.fold_in(key, experiment.batch_size + 2)
    return draws._replace(factors=pair_factors(pairs_key, draws.factors, examples_B, sizes, *pairs))


def _labelled_batch(
    experiment: Experiment, labelled: Labelled, arrays: Any, key: jax.Array, examples_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Images [B, H, W, C] and targets [B, K] of these examples of the labelled batch of a step."""
    key = jax.random.fold_in(key, experiment.batch_size + 3)
    factors, targets_BxK, image_keys = supervision.labelled_batch(key, labelled, examples_B)
    return render_each(experiment.source, arrays, factors, image_keys), targets_BxK


def _decoder_terms(
    experiment: Experiment,
    params: Any,
    step: jax.Array,
    posterior: Posterior,
    z_BxD: jax.Array,
    key: jax.Array,
    examples_B: jax.Array,
) -> Metrics:
    """The terms of the objective that see the decoder, from the codes of these examples of the batch."""
    assert experiment.objective.decoder_terms is not None
    key = jax.random.fold_in(key, experiment.batch_size + 4)
    keys_B = jax.vmap(jax.random.fold_in, (None, 0))(key, examples_B)
    decode = functools.partial(experiment.model.decode_hidden, params)

    def batch_mean(values_B: jax.Array) -> jax.Array:
        mean = jnp.mean(values_B, axis=0)
        return mean if len(examples_B) == experiment.batch_size else jax.lax.pmean(mean, DEVICE_AXIS)

    return experiment.objective.decoder_terms(params["objective"], step, posterior, z_BxD, keys_B, decode, batch_mean)


def run_steps(
    experiment: Experiment, stage: int, arrays: Any, state: TrainState, steps: int | jax.Array, shards: int = 1
) -> tuple[TrainState, Metrics]:
    """`steps` updates in one dispatch.

    The number of steps is traced: one compiled program serves every distance between two log lines, and a run that is
    interrupted and resumed performs the same arithmetic as one that is not.

    Returns:
      The state, and the metrics averaged over the steps, except 'beta', which is that of the last step.
    """

    # Tracing a step takes a second. jit keeps the trace for the second use, and inline leaves no call in the program.
    @functools.partial(jax.jit, inline=True)
    def one_step(arrays: Any, state: TrainState) -> tuple[TrainState, Metrics]:
        return train_step(experiment, stage, arrays, state, shards)

    zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), jax.eval_shape(one_step, arrays, state)[1])

    def body(_: Any, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
        state, sums = carry
        state, metrics = one_step(arrays, state)
        return state, jax.tree.map(jnp.add, sums, metrics) | {"beta": metrics["beta"]}

    state, sums = jax.lax.fori_loop(0, steps, body, (state, zeros))
    return state, jax.tree.map(lambda total: total / steps, sums) | {"beta": sums["beta"]}


_CODES = (64, 64)  # chunks, images per chunk: the sample that axes are estimated from


def rotate_latents(
    experiment: Experiment, stage: int, arrays: Any, state: TrainState
) -> tuple[TrainState, jax.Array]:
    """Rotates the latents of the stage's group onto independent axes, a pure function.

    The axes are those of latent_rotation.independent_axes for the posterior means of 4,096 images, drawn from the key
    of the run and the step. The head of the group's encoder, the first layer of the decoder and their moments in the
    optimiser rotate together (Model.rotate_latents, optimizer.rotate_moments).

    Returns:
      The state, and the largest angle between a latent's axis and its rotated axis, in degrees [].
    """
    source, model = experiment.source, experiment.model
    first, size = sum(model.sizes[:stage]), model.sizes[stage]
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    key = jax.random.fold_in(key, experiment.batch_size + 1)

    def codes(examples_B: jax.Array) -> jax.Array:
        draws = draw_batch(key, examples_B, source.factor_sizes, 0)
        images = render_each(source, arrays, draws.factors, draws.image_keys)
        return model.encode(state.params, images, stage).mean[:, first : first + size]

    examples = jnp.arange(math.prod(_CODES)).reshape(_CODES)
    rotation = latent_rotation.independent_axes(jax.lax.map(codes, examples).reshape(-1, size))

    def rotate(tree: Any, power: int = 1) -> Any:
        return model.rotate_latents(tree, stage, rotation**power)

    opt_state = optimizer.rotate_moments(state.opt_state, state.params, rotate)
    state = state.replace(params=rotate(state.params), opt_state=opt_state)
    return state, jnp.degrees(jnp.arccos(jnp.clip(jnp.min(jnp.diag(rotation)), -1.0, 1.0)))

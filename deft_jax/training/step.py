"""The training step: one pure function from state to (state, metrics).

A batch is a function of (key, step): factors are drawn and images rendered inside the compiled step. Every random
number comes from the key of the run folded with the step and the example's index in the whole batch, so the
numbers do not depend on how many devices share the batch.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from deft_jax.data import factors
from deft_jax.data.source import Source
from deft_jax.models.likelihoods import reconstruction_loss
from deft_jax.models.posterior import kl_per_latent
from deft_jax.training import latent_rotation, optimizer
from deft_jax.training.experiment import Experiment
from deft_jax.training.state import TrainState

DEVICE_AXIS = "device"


def init_state(experiment: Experiment) -> TrainState:
    """The state before the first step, a function of the seed alone."""
    return _initial(jax.default_backend())(experiment)


def state_shapes(experiment: Experiment) -> TrainState:
    """What `init_state` returns, as shapes and types: nothing is computed."""
    return jax.eval_shape(functools.partial(_init_state, experiment))


@functools.cache
def _initial(backend):
    # Many small draws, made once: on a CPU, to optimise them fully takes four times as long and changes no bit.
    quickly = {"xla_backend_optimization_level": "1"} if backend == "cpu" else None
    return jax.jit(_init_state, static_argnums=0, compiler_options=quickly)


def _init_state(experiment):
    key = jax.random.key(experiment.seed)
    key_model, key_objective, key_run = jax.random.split(key, 3)
    objective_params, objective_state = experiment.objective.init(key_objective)
    params = experiment.model.init(key_model) | {"objective": objective_params}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        stage=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(key_run),
        params=params,
        opt_state=experiment.optimizer(0).init(params),
        objective_state=objective_state,
    )


def train_step(experiment: Experiment, stage: int, arrays, state: TrainState, shards: int = 1):
    """One update: (state, arrays) -> (state, metrics), pure.

    stage: static; groups after it are not computed. arrays: the source's.
    shards: devices that share the batch; above 1 the function runs inside a pmap over the axis 'device'. Images are
      encoded and decoded by the device that has them; posteriors and codes are gathered for the objective, which sees
      the whole batch on every device and so estimates the same as on one.

    metrics, means over the whole batch: 'loss', 'reconstruction' and 'kl' in nats an image (reconstruction summed over
    pixels, kl over latents), 'kl_per_latent' [D] in nats, 'beta', and what else the objective tells.
    """
    source, model, objective = experiment.source, experiment.model, experiment.objective
    share = experiment.batch_size // shards
    first = jax.lax.axis_index(DEVICE_AXIS) * share if shards > 1 else 0
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    keys_B = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(share))
    objective_key = jax.random.fold_in(key, experiment.batch_size)
    keys_3xB = jax.vmap(lambda k: jax.random.split(k, 3), out_axes=1)(keys_B)

    images = _draw_images(source, arrays, keys_3xB[0], keys_3xB[1])
    noise_BxD = jax.vmap(lambda k: jax.random.normal(k, (model.num_latents,)))(keys_3xB[2])

    def whole(tree):
        return jax.lax.all_gather(tree, DEVICE_AXIS, tiled=True) if shards > 1 else tree

    def loss_fn(params):
        own = model.encode(params, images, stage)
        z_SxBxD = objective.spaces(params["objective"], own, noise_BxD)
        outputs = model.decode(params, z_SxBxD.reshape(-1, model.num_latents))
        repeated = jnp.tile(images, (len(z_SxBxD), 1, 1, 1))
        reconstruction = jnp.mean(reconstruction_loss(source.likelihood, repeated, outputs))

        posterior, z_BxD = whole((own, z_SxBxD[0]))
        terms, objective_state = objective.apply(
            params["objective"], state.objective_state, state.step, posterior, z_BxD, objective_key
        )
        kl_D = jnp.mean(kl_per_latent(posterior), axis=0)
        loss = reconstruction + jnp.mean(terms.pop("regulariser"))
        metrics = {"loss": loss, "reconstruction": reconstruction, "kl": jnp.sum(kl_D), "kl_per_latent": kl_D} | terms
        return loss + terms.get("objective_loss", 0.0), (metrics, objective_state)

    grads, (metrics, objective_state) = jax.grad(loss_fn, has_aux=True)(state.params)
    if shards > 1:
        grads, metrics = jax.lax.pmean((grads, metrics), DEVICE_AXIS)
    updates, opt_state = experiment.optimizer(stage).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(
        step=state.step + 1, params=params, opt_state=opt_state, objective_state=objective_state
    ), metrics


def _draw_images(source: Source, arrays, factor_keys_B, image_keys_B):
    """Images of factors drawn uniformly: [B, H, W, C], each of its own two keys."""
    factors_BxF = jax.vmap(factors.sample, (0, None))(factor_keys_B, source.factor_sizes)
    # One example a call, for a source's own randomness (noise, colours) to come from the example's key.
    return jax.vmap(lambda f, k: source.render(arrays, f[None], k)[0])(factors_BxF, image_keys_B)


def run_steps(experiment: Experiment, stage: int, arrays, state: TrainState, steps, shards: int = 1):
    """`steps` updates in one dispatch: -> (state, metrics averaged over them, but 'beta' as it was in the last).

    The number of steps is traced, so one compiled program serves every distance between two log lines, and a run
    that stops and resumes anywhere goes through the very same arithmetic as one that does not.
    """
    one_step = lambda state: train_step(experiment, stage, arrays, state, shards)  # noqa: E731
    zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), jax.eval_shape(one_step, state)[1])

    def body(_, carry):
        state, sums = carry
        state, metrics = one_step(state)
        return state, jax.tree.map(jnp.add, sums, metrics) | {"beta": metrics["beta"]}

    state, sums = jax.lax.fori_loop(0, steps, body, (state, zeros))
    return state, jax.tree.map(lambda total: total / steps, sums) | {"beta": sums["beta"]}


_CODES = (64, 64)  # chunks, images in each: what axes are found from


def rotate_latents(experiment: Experiment, stage: int, arrays, state: TrainState):
    """-> (the state with the latents of the stage's group turned onto independent axes, degrees []): pure.

    The axes are those of axes.independent_axes for the posterior means of 4,096 images, drawn from the key of the run
    and the step. The head of the group's encoder, the first layer of the decoder and their moments in the optimiser
    rotate together (Model.rotate_latents, optimizer.rotate_moments). degrees: by which the latent that moved most has
    turned.
    """
    source, model = experiment.source, experiment.model
    first, size = sum(model.sizes[:stage]), model.sizes[stage]
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    keys = jax.random.split(jax.random.fold_in(key, experiment.batch_size + 1), _CODES)

    def codes(keys_B):
        images = _draw_images(source, arrays, *jax.vmap(lambda k: jax.random.split(k, 2), out_axes=1)(keys_B))
        return model.encode(state.params, images, stage).mean[:, first : first + size]

    rotation = latent_rotation.independent_axes(jax.lax.map(codes, keys).reshape(-1, size))

    def turn(tree, power: int = 1):
        return model.rotate_latents(tree, stage, rotation**power)

    state = state.replace(params=turn(state.params), opt_state=optimizer.rotate_moments(state.opt_state, turn))
    return state, jnp.degrees(jnp.arccos(jnp.clip(jnp.min(jnp.diag(rotation)), -1.0, 1.0)))

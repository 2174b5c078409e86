"""The training step: one pure function, and the loop that runs it on one device or on all of them.

A batch is a function of (key, step): factors are drawn and images rendered inside the compiled step. Every random
number comes from the key of the run folded with the step and the example's index in the whole batch, so the
numbers do not depend on how many devices share the batch.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from deft_jax import factors
from deft_jax.gaussian import kl_per_latent
from deft_jax.models import Model
from deft_jax.objectives import Objective, reconstruction_loss
from deft_jax.schedules import Stages
from deft_jax.source import Source
from deft_jax.state import Posterior, TrainState

_AXIS = "device"


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
    """What a step is compiled from: all that is fixed during a run.

    optimizer: stage -> optax transformation; the state has the same structure for every stage.
    """

    source: Source
    model: Model
    objective: Objective
    stages: Stages
    optimizer: Callable[[int], optax.GradientTransformation]
    batch_size: int
    seed: int

    def encode(self, params, images, stage: int) -> Posterior:
        """The representation of images [B, H, W, C] with the groups up to `stage` open: what is scored and shown."""
        return self.objective.represent(params["objective"], self.model.encode(params, images, stage))


@functools.partial(jax.jit, static_argnums=0)
def init_state(experiment: Experiment) -> TrainState:
    """The state before the first step, a function of the seed alone."""
    key = jax.random.key(experiment.seed)
    key_model, key_objective, key_run = jax.random.split(key, 3)
    objective_params, memory = experiment.objective.init(key_objective)
    params = experiment.model.init(key_model) | {"objective": objective_params}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        stage=jnp.zeros((), jnp.int32),
        key=jax.random.key_data(key_run),
        params=params,
        opt_state=experiment.optimizer(0).init(params),
        memory=memory,
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
    first = jax.lax.axis_index(_AXIS) * share if shards > 1 else 0
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    keys_B = jax.vmap(jax.random.fold_in, (None, 0))(key, first + jnp.arange(share))
    objective_key = jax.random.fold_in(key, experiment.batch_size)
    keys_3xB = jax.vmap(lambda k: jax.random.split(k, 3), out_axes=1)(keys_B)

    factors_BxF = jax.vmap(factors.sample, (0, None))(keys_3xB[0], source.factor_sizes)
    # One example a call, for a source's own randomness (noise, colours) to come from the example's key.
    images = jax.vmap(lambda f, k: source.render(arrays, f[None], k)[0])(factors_BxF, keys_3xB[1])
    noise_BxD = jax.vmap(lambda k: jax.random.normal(k, (model.num_latents,)))(keys_3xB[2])

    def whole(tree):
        return jax.lax.all_gather(tree, _AXIS, tiled=True) if shards > 1 else tree

    def loss_fn(params):
        own = model.encode(params, images, stage)
        z_SxBxD = objective.spaces(params["objective"], own, noise_BxD)
        outputs = model.decode(params, z_SxBxD.reshape(-1, model.num_latents))
        repeated = jnp.tile(images, (len(z_SxBxD), 1, 1, 1))
        reconstruction = jnp.mean(reconstruction_loss(source.likelihood, repeated, outputs))

        posterior, z_BxD = whole((own, z_SxBxD[0]))
        terms, memory = objective.apply(params["objective"], state.memory, state.step, posterior, z_BxD, objective_key)
        kl_D = jnp.mean(kl_per_latent(posterior), axis=0)
        loss = reconstruction + jnp.mean(terms.pop("regulariser"))
        metrics = {"loss": loss, "reconstruction": reconstruction, "kl": jnp.sum(kl_D), "kl_per_latent": kl_D} | terms
        return loss + terms.get("objective_loss", 0.0), (metrics, memory)

    grads, (metrics, memory) = jax.grad(loss_fn, has_aux=True)(state.params)
    if shards > 1:
        grads, metrics = jax.lax.pmean((grads, metrics), _AXIS)
    updates, opt_state = experiment.optimizer(stage).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return state.replace(step=state.step + 1, params=params, opt_state=opt_state, memory=memory), metrics


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


@jax.jit
def all_finite(tree):
    """Whether every number of every leaf is finite: bool []."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


class Runner:
    """Runs an experiment's steps: jit on one device, pmap over several.

    The state and the source's arrays stay on the devices between calls; on several devices each holds a copy under
    a leading device axis. Buffers of the state are donated, so a state passed to `run` is spent.
    """

    def __init__(self, experiment: Experiment, devices=None):
        """Raises ValueError where the batch does not divide by the number of devices."""
        self.experiment = experiment
        self.devices = list(devices or jax.local_devices())
        self._shards = len(self.devices)
        if experiment.batch_size % self._shards:
            raise ValueError(
                f"batch_size = {experiment.batch_size} does not divide over {self._shards} devices; "
                f"use a multiple of {self._shards}"
            )
        self._arrays = self._place(experiment.source.arrays, may_alias=True)
        self._programs = {}

    def put(self, state):
        """A state on the host or on one device, copied to the devices; the one passed in stays as it is."""
        return self._place(state, may_alias=False)

    def _place(self, tree, may_alias: bool):
        """`tree` on the devices; only what is never donated may share memory with its origin."""
        if self._shards == 1:
            return jax.device_put(tree, self.devices[0], may_alias=may_alias)
        mesh = jax.sharding.Mesh(np.asarray(self.devices), (_AXIS,))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(_AXIS))

        def replicate(leaf):
            leaf = np.asarray(leaf)[None]
            copies = [jax.device_put(leaf, device) for device in self.devices]
            return jax.make_array_from_single_device_arrays((self._shards, *leaf.shape[1:]), sharding, copies)

        return jax.tree.map(replicate, tree)

    def one(self, tree):
        """The copy of the first device, without the device axis."""
        if self._shards == 1:
            return tree
        return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data[0], tree)

    def compile(self, stage: int, state) -> None:
        """Compiles the program of `stage`, unless that is done; `state` (on the devices) gives the shapes."""
        if stage in self._programs:
            return

        def run(arrays, state, steps):
            return run_steps(self.experiment, stage, arrays, state, steps, self._shards)

        if self._shards == 1:
            program = jax.jit(run, donate_argnums=1)
        else:
            in_axes = (0, 0, None)
            program = jax.pmap(run, axis_name=_AXIS, in_axes=in_axes, donate_argnums=1, devices=self.devices)
        self._programs[stage] = program.lower(self._arrays, state, np.int32(1)).compile()

    def run(self, stage: int, state, steps: int):
        """`steps` updates in `stage`: -> (state on the devices, metrics as of `run_steps`)."""
        self.compile(stage, state)
        state, metrics = self._programs[stage](self._arrays, state, np.int32(steps))
        return state, self.one(metrics)

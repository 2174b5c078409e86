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

from deft_jax import axes, factors, optim
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

    images = _draw_images(source, arrays, keys_3xB[0], keys_3xB[1])
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


def turn_group(experiment: Experiment, stage: int, arrays, state: TrainState):
    """-> (the state with the latents of the stage's group turned onto independent axes, degrees []): pure.

    The axes are those of axes.independent_axes for the posterior means of 4,096 images, drawn from the key of the run
    and the step. The head of the group's encoder, the first layer of the decoder and their moments in the optimiser
    turn together (models.Model.turned, optim.turned). degrees: by which the latent that moved most has turned.
    """
    source, model = experiment.source, experiment.model
    first, size = sum(model.sizes[:stage]), model.sizes[stage]
    key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step)
    keys = jax.random.split(jax.random.fold_in(key, experiment.batch_size + 1), _CODES)

    def codes(keys_B):
        images = _draw_images(source, arrays, *jax.vmap(lambda k: jax.random.split(k, 2), out_axes=1)(keys_B))
        return model.encode(state.params, images, stage).mean[:, first : first + size]

    rotation = axes.independent_axes(jax.lax.map(codes, keys).reshape(-1, size))

    def turn(tree, power: int = 1):
        return model.turned(tree, stage, rotation**power)

    state = state.replace(params=turn(state.params), opt_state=optim.turned(state.opt_state, turn))
    return state, jnp.degrees(jnp.arccos(jnp.clip(jnp.min(jnp.diag(rotation)), -1.0, 1.0)))


@jax.jit
def all_finite(tree):
    """Whether every number of every leaf is finite: bool []."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


@functools.partial(jax.jit, static_argnums=1)
def _finite_by_replica(tree, axes: int):
    """Whether all numbers are finite, by the leading axes: bool [...]."""
    parts = [jnp.all(jnp.isfinite(leaf), axis=tuple(range(axes, leaf.ndim))) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(parts), axis=0)


class Runner:
    """Runs an experiment's steps: jit on one device, pmap over several; one state, or several replicas by vmap.

    Where several processes train together, each calls all methods alike; the devices are those of all of them.

    One state: each batch is shared by the devices, each of which holds a copy of the state under a leading device axis.
    Replicas: states of other seeds, [replicas, ...] on one device and [devices, replicas / devices, ...] on several;
    each has the whole of its own batch.

    The state and the source's arrays stay on the devices between calls. Buffers of the state are donated, so a state
    passed to `run` is spent.
    """

    def __init__(self, experiment: Experiment, devices=None, replicas: int | None = None):
        """devices: all that there are unless given. replicas: how many, on as many of the devices as divide their
        number; None: one state.

        Raises ValueError where the batch of one state does not divide by the number of devices, or for replicas on
        devices of several processes.
        """
        if replicas is not None and jax.process_count() > 1:
            raise ValueError("num_seeds needs one process; on several hosts, share a study with deft_jax.sweep")
        self.experiment, self.replicas = experiment, replicas
        self.devices = list(devices or jax.devices())
        if replicas is not None:
            self.devices = self.devices[: max(k for k in range(1, len(self.devices) + 1) if replicas % k == 0)]
        self._pmapped = len(self.devices) > 1
        self._shards = len(self.devices) if replicas is None else 1
        if experiment.batch_size % self._shards:
            raise ValueError(
                f"batch_size = {experiment.batch_size} does not divide over {self._shards} devices; "
                f"use a multiple of {self._shards}"
            )
        self._arrays = self._everywhere(experiment.source.arrays, may_alias=True)
        self._programs, self._turns = {}, {}

    def put(self, state):
        """A state on the host or on one device, or a list of one a replica, copied to the devices."""
        if self.replicas is None:
            return self._everywhere(state, may_alias=False)
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *state)
        if not self._pmapped:
            return jax.device_put(stacked, self.devices[0], may_alias=False)
        shape, sharding = (len(self.devices), self.replicas // len(self.devices)), self._sharding()
        return jax.tree.map(lambda leaf: jax.device_put(leaf.reshape(*shape, *leaf.shape[1:]), sharding), stacked)

    def _sharding(self):
        mesh = jax.sharding.Mesh(np.asarray(self.devices), (_AXIS,))
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(_AXIS))

    def _everywhere(self, tree, may_alias: bool):
        """A copy on each device; only what is never donated may share memory with its origin."""
        if not self._pmapped:
            return jax.device_put(tree, self.devices[0], may_alias=may_alias)
        sharding = self._sharding()

        def replicate(leaf):
            leaf = np.asarray(leaf)[None]
            here = [device for device in self.devices if device.process_index == jax.process_index()]
            copies = [jax.device_put(leaf, device) for device in here]
            return jax.make_array_from_single_device_arrays((len(self.devices), *leaf.shape[1:]), sharding, copies)

        return jax.tree.map(replicate, tree)

    def one(self, tree):
        """The copy of the first device, without the device axis; not for replicas."""
        if not self._pmapped:
            return tree
        return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data[0], tree)

    def split(self, tree) -> list:
        """The tree of each replica, in their order; of one state, a list of that one."""
        if self.replicas is None:
            return [self.one(tree)]

        def take(index):
            def of(leaf):
                if not self._pmapped:
                    return leaf[index]
                device, place = divmod(index, self.replicas // len(self.devices))
                shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start)
                return shards[device].data[0, place]

            return jax.tree.map(of, tree)

        return [take(index) for index in range(self.replicas)]

    def finite(self, state) -> np.ndarray:
        """Whether the parameters of each replica are finite: bool [replicas], [1] of one state."""
        if self.replicas is None:
            return np.asarray(all_finite(self.one(state).params)).reshape(1)
        return np.asarray(_finite_by_replica(state.params, 1 + self._pmapped)).reshape(-1)

    def at_stage(self, state, stage: int):
        """The state on the devices with its stage set."""
        held = state.stage
        shards = [
            jax.device_put(np.full(shard.data.shape, stage, np.int32), shard.device, may_alias=False)
            for shard in held.addressable_shards
        ]
        return state.replace(stage=jax.make_array_from_single_device_arrays(held.shape, held.sharding, shards))

    def compile(self, stage: int, state) -> None:
        """Compiles the program of `stage`, unless that is done; `state` (on the devices) gives the shapes."""
        if stage in self._programs:
            return

        def run(arrays, state, steps):
            return run_steps(self.experiment, stage, arrays, state, steps, self._shards)

        self._programs[stage] = self._program(run, 1).lower(self._arrays, state, np.int32(1)).compile()

    def _program(self, function, shared: int = 0):
        """A function of (arrays, state, so many arguments that all share), jitted or pmapped, over replicas if any."""
        if self.replicas is not None:
            function = jax.vmap(function, in_axes=(None, 0, *[None] * shared))
        if not self._pmapped:
            return jax.jit(function, donate_argnums=1)
        in_axes = (0, 0, *[None] * shared)
        return jax.pmap(function, axis_name=_AXIS, in_axes=in_axes, donate_argnums=1, devices=self.devices)

    def run(self, stage: int, state, steps: int):
        """`steps` updates in `stage`: -> (state, metrics as of `run_steps`, [replicas, ...] if there are several)."""
        self.compile(stage, state)
        state, metrics = self._programs[stage](self._arrays, state, np.int32(steps))
        if self.replicas is None:
            return state, self.one(metrics)
        if not self._pmapped:
            return state, metrics
        return state, jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), metrics)

    def turn(self, stage: int, state):
        """-> (the state after `turn_group`, degrees [replicas], [1] of one state)."""
        if stage not in self._turns:
            self._turns[stage] = self._program(functools.partial(turn_group, self.experiment, stage))
        state, degrees = self._turns[stage](self._arrays, state)
        if self.replicas is None:
            degrees = self.one(degrees)
        return state, np.asarray(degrees).reshape(-1)

    def split_metrics(self, metrics) -> list:
        """What `run` tells of each replica, in their order; of one state, a list of that one."""
        if self.replicas is None:
            return [metrics]
        on_host = jax.tree.map(np.asarray, metrics)
        return [{name: values[index] for name, values in on_host.items()} for index in range(self.replicas)]

"""Runs compiled steps on one device or on all of them, for one state or several replicas."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax.training.experiment import Experiment
from deft_jax.training.step import DEVICE_AXIS, rotate_latents, run_steps


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
        self._arrays = self._replicate(experiment.source.arrays, may_alias=True)
        self._programs, self._rotations = {}, {}

    def put(self, state):
        """A state on the host or on one device, or a list of one a replica, copied to the devices."""
        if self.replicas is None:
            return self._replicate(state, may_alias=False)
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *state)
        if not self._pmapped:
            return jax.device_put(stacked, self.devices[0], may_alias=False)
        shape, sharding = (len(self.devices), self.replicas // len(self.devices)), self._sharding()
        return jax.tree.map(lambda leaf: jax.device_put(leaf.reshape(*shape, *leaf.shape[1:]), sharding), stacked)

    def _sharding(self):
        mesh = jax.sharding.Mesh(np.asarray(self.devices), (DEVICE_AXIS,))
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(DEVICE_AXIS))

    def _replicate(self, tree, may_alias: bool):
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

    def unreplicate(self, tree):
        """The copy of the first device, without the device axis; not for replicas."""
        if not self._pmapped:
            return tree
        return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data[0], tree)

    def split(self, tree) -> list:
        """The tree of each replica, in their order; of one state, a list of that one."""
        if self.replicas is None:
            return [self.unreplicate(tree)]

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
            return np.asarray(all_finite(self.unreplicate(state).params)).reshape(1)
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
        return jax.pmap(function, axis_name=DEVICE_AXIS, in_axes=in_axes, donate_argnums=1, devices=self.devices)

    def run(self, stage: int, state, steps: int):
        """`steps` updates in `stage`: -> (state, metrics as of `run_steps`, [replicas, ...] if there are several)."""
        self.compile(stage, state)
        state, metrics = self._programs[stage](self._arrays, state, np.int32(steps))
        if self.replicas is None:
            return state, self.unreplicate(metrics)
        if not self._pmapped:
            return state, metrics
        return state, jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), metrics)

    def rotate(self, stage: int, state):
        """-> (the state after `turn_group`, degrees [replicas], [1] of one state)."""
        if stage not in self._rotations:
            self._rotations[stage] = self._program(functools.partial(rotate_latents, self.experiment, stage))
        state, degrees = self._rotations[stage](self._arrays, state)
        if self.replicas is None:
            degrees = self.unreplicate(degrees)
        return state, np.asarray(degrees).reshape(-1)

    def split_metrics(self, metrics) -> list:
        """What `run` tells of each replica, in their order; of one state, a list of that one."""
        if self.replicas is None:
            return [metrics]
        on_host = jax.tree.map(np.asarray, metrics)
        return [{name: values[index] for name, values in on_host.items()} for index in range(self.replicas)]

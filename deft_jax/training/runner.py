"""Runs compiled steps on one device or on all of them, for one state or several replicas."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deft_jax.training.experiment import Experiment
from deft_jax.training.state import TrainState
from deft_jax.training.step import DEVICE_AXIS, Metrics, rotate_latents, run_steps


@jax.jit
def all_finite(tree: Any) -> jax.Array:
    """Whether every number of every leaf is finite: bool []."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


@functools.partial(jax.jit, static_argnums=1)
def _finite_by_replica(tree: Any, axes: int) -> jax.Array:
    """Whether all numbers of each entry of the leading axes are finite: bool [...]."""
    parts = [jnp.all(jnp.isfinite(leaf), axis=tuple(range(axes, leaf.ndim))) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(parts), axis=0)


def check_batch_size(batch_size: int, num_devices: int, field: str = "batch_size", in_pairs: bool = False) -> None:
    """Raises ValueError unless so many devices can share a batch equally, without a pair on two of them.

    Args:
      batch_size: images per step.
      num_devices: that share a batch.
      field: of the configuration, for the message.
      in_pairs: whether examples 2 i and 2 i + 1 belong together.
    """
    multiple = num_devices * (2 if in_pairs else 1)
    if batch_size % multiple:
        raise ValueError(
            f"{field} = {batch_size} does not divide over {num_devices} device{'s' * (num_devices > 1)}"
            f"{' in pairs' * in_pairs}; use a multiple of {multiple}"
        )


def check_shares(experiment: Experiment, num_devices: int) -> None:
    """Raises ValueError unless so many devices can share the batches of an experiment equally."""
    check_batch_size(experiment.batch_size, num_devices, in_pairs=experiment.objective.pairs is not None)
    if experiment.labelled is not None:
        check_batch_size(experiment.labelled.batch_size, num_devices, "supervision.batch_size")


def program(
    function: Callable[..., Any], devices: Sequence[jax.Device], *, shared: int, has_replicas: bool = False
) -> Any:
    """A function of (arrays, state, `shared` further arguments) for devices: jitted for one, pmapped for several.

    Args:
      function: returns the new state first; the buffers of the old one are donated.
      devices: with several, arrays and state have a leading device axis, further arguments have not.
      shared: number of further arguments.
      has_replicas: whether the state has a leading axis of replicas on each device. A CPU, whose caches hold the
        activations of one replica, takes them one after another; other devices all at once, by vmap.
    """
    if has_replicas and devices[0].platform == "cpu":
        function = _one_after_another(function)
    elif has_replicas:
        function = jax.vmap(function, in_axes=(None, 0, *[None] * shared))
    if len(devices) == 1:
        return jax.jit(function, donate_argnums=1)
    in_axes = (0, 0, *[None] * shared)
    return jax.pmap(function, axis_name=DEVICE_AXIS, in_axes=in_axes, donate_argnums=1, devices=devices)


def _one_after_another(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of (arrays, states [replicas, ...], further arguments) from one of a single state."""

    def of_replicas(arrays: Any, states: Any, *rest: Any) -> Any:
        return jax.lax.map(lambda state: function(arrays, state, *rest), states)

    return of_replicas


class Runner:
    """Runs an experiment's steps: jit on one device, pmap over several; one state, or several replicas.

    One state: the devices share each batch, and each has a copy of the state under a leading device axis.
    Replicas: states of different seeds, [replicas, ...] on one device and [devices, replicas / devices, ...] on
    several; each replica has a batch of the full size.

    If several processes train together, they call all methods at the same points; the devices are those of all of them.

    The state and the source's arrays stay on the devices between calls. Buffers of the state are donated, so a state
    passed to `run` must not be used again.
    """

    def __init__(
        self, experiment: Experiment, devices: Sequence[jax.Device] | None = None, replicas: int | None = None
    ):
        """
        Args:
          experiment: what is run.
          devices: Default: None, all.
          replicas: number of replicas; the largest number of devices that divides it is used. Default: None, one state.

        Raises:
          ValueError: the batch size of one state is no multiple of the number of devices, or there are replicas and
            several processes.
        """
        if replicas is not None and jax.process_count() > 1:
            raise ValueError("num_seeds needs one process; on several hosts, share a study with deft_jax.sweep")
        self.experiment, self.replicas = experiment, replicas
        self.devices = list(devices or jax.devices())
        if replicas is not None:
            self.devices = self.devices[: max(k for k in range(1, len(self.devices) + 1) if replicas % k == 0)]
        self._pmapped = len(self.devices) > 1
        self._shards = len(self.devices) if replicas is None else 1
        check_shares(experiment, self._shards)
        self._arrays = self._replicate(experiment.source.arrays, may_alias=True)
        self._programs: dict[int, Callable[..., Any]] = {}
        self._rotations: dict[int, Callable[..., Any]] = {}

    def put(self, state: TrainState | Sequence[TrainState]) -> TrainState:
        """Copies a state, or a list of one state per replica, to the devices."""
        if isinstance(state, TrainState) or self.replicas is None:
            return self._replicate(state, may_alias=False)
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *state)
        if not self._pmapped:
            return jax.device_put(stacked, self.devices[0], may_alias=False)
        shape, sharding = (len(self.devices), self.replicas // len(self.devices)), self._sharding()
        return jax.tree.map(lambda leaf: jax.device_put(leaf.reshape(*shape, *leaf.shape[1:]), sharding), stacked)

    def _sharding(self) -> jax.sharding.NamedSharding:
        mesh = jax.sharding.Mesh(np.asarray(self.devices), (DEVICE_AXIS,))
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(DEVICE_AXIS))

    def _replicate(self, tree: Any, may_alias: bool) -> Any:
        """A copy on each device. may_alias: whether it may share memory with `tree`, for what is never donated."""
        if not self._pmapped:
            return jax.device_put(tree, self.devices[0], may_alias=may_alias)
        sharding = self._sharding()

        def replicate(leaf: Any) -> jax.Array:
            leaf = np.asarray(leaf)[None]
            local = [device for device in self.devices if device.process_index == jax.process_index()]
            copies = [jax.device_put(leaf, device) for device in local]
            return jax.make_array_from_single_device_arrays((len(self.devices), *leaf.shape[1:]), sharding, copies)

        return jax.tree.map(replicate, tree)

    def unreplicate(self, tree: Any) -> Any:
        """The first device's copy, without the device axis; not for replicas."""
        if not self._pmapped:
            return tree
        return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data[0], tree)

    def split(self, tree: Any) -> list[Any]:
        """The tree of each replica, in their order; for one state, a list of that one."""
        if self.replicas is None:
            return [self.unreplicate(tree)]
        per_device = self.replicas // len(self.devices)

        def take(index: int) -> Any:
            def of(leaf: jax.Array) -> jax.Array:
                if not self._pmapped:
                    return leaf[index]
                device, place = divmod(index, per_device)
                shards = sorted(leaf.addressable_shards, key=lambda shard: shard.index[0].start)
                return shards[device].data[0, place]

            return jax.tree.map(of, tree)

        return [take(index) for index in range(self.replicas)]

    def finite(self, state: TrainState) -> np.ndarray:
        """Whether the parameters of each replica are finite: bool [replicas], [1] for one state."""
        if self.replicas is None:
            return np.asarray(all_finite(self.unreplicate(state).params)).reshape(1)
        return np.asarray(_finite_by_replica(state.params, 1 + self._pmapped)).reshape(-1)

    def at_stage(self, state: TrainState, stage: int) -> TrainState:
        """The state on the devices with its stage set."""
        old = state.stage
        shards = [
            jax.device_put(np.full(shard.data.shape, stage, np.int32), shard.device, may_alias=False)
            for shard in old.addressable_shards
        ]
        return state.replace(stage=jax.make_array_from_single_device_arrays(old.shape, old.sharding, shards))

    def compile(self, stage: int, state: TrainState) -> None:
        """Compiles the program of `stage` at the first call; `state` (on the devices) gives the shapes."""
        if stage in self._programs:
            return

        def run(arrays: Any, state: TrainState, steps: jax.Array) -> tuple[TrainState, Metrics]:
            return run_steps(self.experiment, stage, arrays, state, steps, self._shards)

        self._programs[stage] = self._program(run, 1).lower(self._arrays, state, np.int32(1)).compile()

    def _program(self, function: Callable[..., Any], shared: int = 0) -> Any:
        return program(function, self.devices, shared=shared, has_replicas=self.replicas is not None)

    def run(self, stage: int, state: TrainState, steps: int) -> tuple[TrainState, Metrics]:
        """Performs `steps` updates in `stage`.

        Returns:
          The state, and the metrics of `run_steps`, [replicas, ...] if there are replicas.
        """
        self.compile(stage, state)
        state, metrics = self._programs[stage](self._arrays, state, np.int32(steps))
        if self.replicas is None:
            return state, self.unreplicate(metrics)
        if not self._pmapped:
            return state, metrics
        return state, jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), metrics)

    def rotate(self, stage: int, state: TrainState) -> tuple[TrainState, np.ndarray]:
        """The state after step.rotate_latents, and its degrees [replicas], [1] for one state."""
        if stage not in self._rotations:
            self._rotations[stage] = self._program(functools.partial(rotate_latents, self.experiment, stage))
        state, degrees = self._rotations[stage](self._arrays, state)
        if self.replicas is None:
            degrees = self.unreplicate(degrees)
        return state, np.asarray(degrees).reshape(-1)

    def split_metrics(self, metrics: Metrics) -> list[Metrics]:
        """The metrics of each replica, in their order; for one state, a list of that one."""
        if self.replicas is None:
            return [metrics]
        on_host = jax.tree.map(np.asarray, metrics)
        return [{name: values[index] for name, values in on_host.items()} for index in range(self.replicas)]

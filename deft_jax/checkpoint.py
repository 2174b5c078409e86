"""Checkpoints of a run: orbax, written in the background, the last few kept."""

import pathlib

import jax
import numpy as np
import orbax.checkpoint as ocp

from deft_jax.state import TrainState


class Checkpoints:
    """The checkpoints in one directory, one a step. A save is atomic: half-written ones are never seen again."""

    def __init__(self, directory: str | pathlib.Path, keep: int):
        """directory: created if absent. keep: how many of the newest stay, at least 1."""
        if keep < 1:
            raise ValueError(f"checkpoints.keep must be at least 1, got {keep}")
        # Of several processes that train together one writes, and the others are not asked to take part.
        directory = pathlib.Path(directory).absolute()
        alone = {}
        if jax.process_count() > 1:
            own = jax.process_index()
            alone["create"] = False
            alone["multiprocessing_options"] = ocp.options.MultiprocessingOptions(
                primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
            )
            directory.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True, **alone)
        self._manager = ocp.CheckpointManager(directory, options=options)

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """Steps of all checkpoints, in order."""
        return sorted(self._manager.all_steps())

    def save(self, state: TrainState) -> None:
        """Starts writing `state` (one device's copy) under its step; does nothing if that step is there."""
        step = int(state.step)
        if step == self.latest:
            return
        # A copy of its own: the buffers of the state are donated to the next step while orbax is still writing.
        copy = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
        self._manager.save(step, args=ocp.args.StandardSave(copy))

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """The checkpoint of `step`, the newest unless told, as numpy arrays in the structure of `like`.

        Raises ValueError where there is none, or where its shapes are not those of `like`.
        """
        step = self.latest if step is None else step
        if step is None or step not in self._manager.all_steps():
            raise ValueError(f"no checkpoint of step {step} in {self._manager.directory}; there are {self.steps}")
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        return self._manager.restore(step, args=ocp.args.StandardRestore(template))

    def drop_after(self, step: int) -> None:
        """Deletes the checkpoints of later steps: a run that goes on from `step` writes them anew."""
        for later in [saved for saved in self.steps if saved > step]:
            self._manager.delete(later)

    def close(self) -> None:
        """Waits for the writes under way."""
        self._manager.wait_until_finished()
        self._manager.close()

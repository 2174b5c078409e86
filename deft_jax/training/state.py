"""The training state: all that changes while a model trains."""

from typing import Any

import flax.struct
import jax


@flax.struct.dataclass
class TrainState:
    """All that changes while a model trains; a checkpoint is this pytree and nothing else.

    step: int32 [], updates done so far.
    stage: int32 [], index of the open stage; a compiled step has the same number as a static value.
    key: uint32 [2], the data of the key every random stream of the run is folded from.
    params: {'encoder': {'group_0': ..., ...}, 'decoder': ..., 'calibration': {'group_0': ..., ...}}.
    opt_state: optimiser state of `params`, one entry a label (see optimizer.py).
    objective_state: state of the objective's controller, () where it has none.
    """

    step: jax.Array
    stage: jax.Array
    key: jax.Array
    params: Any
    opt_state: Any
    objective_state: Any

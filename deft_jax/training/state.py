"""The training state: everything that changes while a model trains."""

from typing import Any

import flax.struct
import jax


class TrainState(flax.struct.PyTreeNode):
    """Everything that changes while a model trains; a checkpoint holds this pytree and nothing else.

    Attributes:
      step: int32 [], updates done so far.
      stage: int32 [], index of the open stage; a compiled step has the same number as a static value.
      key: uint32 [2], the data of the key that every random stream of the run is folded from.
      params: {'encoder': {'group_0': ..., ...}, 'decoder': ..., 'objective': ...}; the encoder also has 'scale_g' and
        'shift_g' where groups are calibrated.
      opt_state: optimiser state of `params`, one entry per label (see optimizer.py).
      objective_state: what the objective replaces in every step, () where it has none.
    """

    step: jax.Array
    stage: jax.Array
    key: jax.Array
    params: Any
    opt_state: Any
    objective_state: Any

"""One optimiser for all parameters: `optax.multi_transform` with a learning-rate schedule for each label.

learning_rates.py decides the learning rates. Groups have different learning rates and not scaled gradients, because
Adam divides a constant scale out again within a few thousand steps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import flatten_util

from deft_jax.training.learning_rates import LearningRate, learning_rates
from deft_jax.training.schedules import Schedule, Stages


def labels(params: Any) -> Any:
    """The label of each parameter: group_g, calibration_g, decoder or objective.

    Args:
      params: as in TrainState.

    Returns:
      A pytree of the same structure.

    Raises:
      ValueError: some parameters have no label; the message names them.
    """
    uncovered = []

    def label(path: tuple[Any, ...], leaf: Any) -> str:
        del leaf
        names = [str(entry.key) for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        if names[:1] == ["decoder"] or names[:1] == ["objective"]:
            return names[0]
        kind, _, group = names[1].rpartition("_") if names[:1] == ["encoder"] and len(names) > 1 else ("", "", "")
        if group.isdigit() and kind == "group":
            return f"group_{group}"
        if group.isdigit() and kind in ("scale", "shift"):
            return f"calibration_{group}"
        uncovered.append("/".join(names))
        return "uncovered"

    tree = jax.tree_util.tree_map_with_path(label, params)
    if uncovered:
        raise ValueError(f"no learning-rate schedule covers the parameters {', '.join(sorted(uncovered))}")
    return tree


def active_if(transform: optax.GradientTransformation, is_active: bool) -> optax.GradientTransformation:
    """`transform` if it is active; otherwise updates are zero and the state does not change.

    Adam's count and moments of a group thereby start with its stage. If they ran from step 0 on the zero gradients of
    a closed group, the bias correction would be over and the first updates several times too large.
    """
    if is_active:
        return transform

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return jax.tree.map(jnp.zeros_like, updates), state

    return optax.GradientTransformation(transform.init, update)


def flat(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same updates with all parameters in one vector: a few long loops instead of some for each parameter.

    Args:
      transform: one that treats every number alike, as Adam does.
    """
    of_vector = optax.flatten(transform)

    def init(params: Any) -> Any:
        return (of_vector if jax.tree.leaves(params) else transform).init(params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return (of_vector if jax.tree.leaves(updates) else transform).update(updates, state, params)

    return optax.GradientTransformation(init, update)


def deft_optimizer(
    *,
    stages: Stages,
    stage: int,
    num_groups: int,
    learning_rate: Schedule,
    decoder_learning_rate: Schedule,
    gamma: float,
    weight_decay: float = 0.0,
    objective_optimizer: optax.GradientTransformation | None = None,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """Adam (or AdamW) for every label with its learning-rate schedule, for one stage. Wu et al. 2022, section 4.2.

    The state has the same structure in every stage, so it passes from one stage's program to the next. The moments of
    a label are one vector.

    Args:
      stages, stage, num_groups, learning_rate, decoder_learning_rate: see learning_rates.learning_rates.
      gamma: factor on the learning rate of groups whose stage is over; 0 leaves their parameters and moments
        unchanged, bit for bit.
      weight_decay: of AdamW (Loshchilov and Hutter 2019), times the learning rate, for all parameters of open groups
        and the decoder. Default: 0, Adam.
      objective_optimizer: of the label 'objective'. Default: None, Adam as for the decoder, without weight decay.
      b1, b2, eps: of Adam. Kingma and Ba 2015.
    """

    def adam(rate: LearningRate) -> optax.GradientTransformation:
        if weight_decay:
            transform = optax.adamw(rate.schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
        else:
            transform = optax.adam(rate.schedule, b1=b1, b2=b2, eps=eps)
        return active_if(flat(transform), rate.active)

    rates = learning_rates(stages, stage, num_groups, learning_rate, decoder_learning_rate, gamma)
    of_objective = objective_optimizer or optax.adam(decoder_learning_rate, b1=b1, b2=b2, eps=eps)
    transforms = {label: adam(rate) for label, rate in rates.items()} | {"objective": of_objective}
    return optax.multi_transform(transforms, labels)


def rotate_moments(opt_state: Any, params: Any, rotate: Callable[[Any, int], Any]) -> Any:
    """The state of an optimiser after its parameters were rotated: Adam's moments rotate with them.

    Args:
      opt_state: of `deft_optimizer`.
      params: of the same; only the shapes matter.
      rotate: (tree of the form of the parameters, where entries may be missing; power of the rotation's entries) ->
        rotated tree. First moments rotate as parameters do, second moments as if the gradients of different latents
        were uncorrelated.
    """
    label_tree, adam = labels(params), optax.ScaleByAdamState

    def of_label(label: str, state: Any) -> Any:
        own = jax.tree.map(lambda leaf, of: leaf if of == label else optax.MaskedNode(), params, label_tree)
        if not jax.tree.leaves(own) or label == "objective":
            return state
        unravel = flatten_util.ravel_pytree(own)[1]

        def rotate_flat(vector: jax.Array, power: int) -> jax.Array:
            return flatten_util.ravel_pytree(rotate(unravel(vector), power))[0]

        def of(part: Any) -> Any:
            if not isinstance(part, adam):
                return part
            return part._replace(mu=rotate_flat(part.mu, 1), nu=rotate_flat(part.nu, 2))

        return jax.tree.map(of, state, is_leaf=lambda part: isinstance(part, adam))

    states = {label: of_label(label, state) for label, state in opt_state.inner_states.items()}
    return opt_state._replace(inner_states=states)

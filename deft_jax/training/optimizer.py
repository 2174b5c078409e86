"""One optimiser for all parameters: `optax.multi_transform` with a learning-rate schedule for each label.

| label          | parameters                          | learning rate                                    |
|----------------|-------------------------------------|--------------------------------------------------|
| group_g        | encoder of latent group g           | before stage g: 0; in it: lr; after it: gamma lr |
| calibration_g  | learned scale and shift of group g  | lr from stage g + 1 on                           |
| decoder        | decoder                             | a schedule of its own                            |
| objective      | parameters of the objective, if any | that of the decoder, or an optimiser of its own  |

A learning rate per group, and not a scaled gradient, because Adam divides a constant scale out again within a few
thousand steps.
"""

import jax
import jax.numpy as jnp
import optax

from deft_jax.training.schedules import Schedule, Stages, group_learning_rate


def labels(params):
    """The pytree of labels of `params`; raises ValueError that names the parameters no label covers."""
    uncovered = []

    def label(path, leaf):
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

    labelled = jax.tree_util.tree_map_with_path(label, params)
    if uncovered:
        raise ValueError(f"no learning-rate schedule covers the parameters {', '.join(sorted(uncovered))}")
    return labelled


def active_if(transform: optax.GradientTransformation, open_now: bool) -> optax.GradientTransformation:
    """`transform` while it is open; while it is not, updates are zero and its state stands still.

    So Adam's count and moments start with the stage that opens a group. Were they to run from step 0 on the zero
    gradients of a closed group, its bias correction would be over and the first updates several times too large.
    """
    if open_now:
        return transform

    def update(updates, state, params=None):
        del params
        return jax.tree.map(jnp.zeros_like, updates), state

    return optax.GradientTransformation(transform.init, update)


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
    """Adam (or AdamW) for every label with its own schedule (Wu et al. 2022, section 4.2), as it stands in `stage`.

    learning_rate, decoder_learning_rate: step of the run -> rate. gamma: factor on the rate of groups whose stage is
    over; 0 leaves their parameters and moments as they are, bit for bit. weight_decay: of AdamW (Loshchilov and Hutter
    2019), times the learning rate, for all parameters of open groups and the decoder; Adam if 0. objective_optimizer:
    of the label 'objective', Adam as for the decoder unless given.
    The state has the same structure in every stage, so it passes from one stage's program to the next.
    """

    def adam(rate: Schedule, start: int, open_now: bool):
        # The count of a label begins when it opens; its schedule is a function of the run's step.
        schedule = lambda count: rate(count + start)  # noqa: E731
        if weight_decay:
            made = optax.adamw(schedule, b1=b1, b2=b2, eps=eps, weight_decay=weight_decay)
        else:
            made = optax.adam(schedule, b1=b1, b2=b2, eps=eps)
        return active_if(made, open_now)

    of_objective = objective_optimizer or optax.adam(decoder_learning_rate, b1=b1, b2=b2, eps=eps)
    transforms = {"decoder": adam(decoder_learning_rate, 0, True), "objective": of_objective}
    for group in range(num_groups):
        start = stages.starts[group] if group < len(stages) else stages.total_steps
        rate = group_learning_rate(learning_rate, gamma, stages.starts, group)
        learns = stage == group or (stage > group and gamma > 0)
        transforms[f"group_{group}"] = adam(rate, start, learns)
        after = stages.end(group) if group < len(stages) else stages.total_steps
        transforms[f"calibration_{group}"] = adam(learning_rate, after, stage > group)
    return optax.multi_transform(transforms, labels)


def rotate_moments(opt_state, turn):
    """The state of an optimiser whose parameters are turned by a rotation R: Adam's moments turn with them.

    turn: (tree of the form of the parameters, power of R's entries) -> that tree, turned. First moments turn as
    parameters do, second moments as if the gradients of different latents were uncorrelated.
    """
    adam = optax.ScaleByAdamState

    def of(state):
        return state._replace(mu=turn(state.mu, 1), nu=turn(state.nu, 2)) if isinstance(state, adam) else state

    return jax.tree.map(of, opt_state, is_leaf=lambda state: isinstance(state, adam))

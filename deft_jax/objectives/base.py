"""Training objectives, side by side. Each is an Objective, pure functions that the training step calls.

init(key) -> (params, objective_state)
apply(params, objective_state, step, posterior, z, key) -> (terms, objective_state)

`params` are trained parameters of the objective's own (() if none), `objective_state` is the state of its controller
(() if none): both are part of the training state, so they checkpoint, resume and vmap with it.

`apply` sees the posterior and one sample z [B, D] of the whole batch, however many devices share it, and the same key
on each. `terms['regulariser']` [B] is added to each example's reconstruction loss (a term of the whole batch stands in
every entry); `terms['objective_loss']` [], if there, trains `params` and must reach nothing else; `terms['beta']` [] is
the pressure; every other entry is a scalar to log. The batch mean is taken in the training step, and nowhere else.
All terms are in nats, against a reconstruction loss summed over pixels.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from deft_jax.models.posterior import Posterior, kl_per_latent, reparameterise


def _one_space(params, posterior, noise_BxD):
    del params
    return reparameterise(posterior, noise_BxD)[None]


def _as_it_is(params, posterior):
    del params
    return posterior


class Objective(NamedTuple):
    """An objective as pure functions; see the head of this file for the first two.

    spaces: (params, posterior, noise_BxD) -> z_SxBxD, the codes to decode: S latent spaces, one unless told. The
      reconstruction loss is averaged over them, and `apply` is given those of the first.
    represent: (params, posterior) -> Posterior, the representation that is scored, traversed and shown.
    optimizer: of `params`; unless given, Adam at the learning rate of the decoder.
    traversal_range: traversals set a latent of the representation to values from -traversal_range to traversal_range.
    rotation_safe: whether it weighs all latents by one rule and knows none of them apart, so that they may be turned
      (see latent_rotation.py); not unless told.
    """

    init: Callable
    apply: Callable
    spaces: Callable = _one_space
    represent: Callable = _as_it_is
    optimizer: optax.GradientTransformation | None = None
    traversal_range: float = 2.0
    rotation_safe: bool = False


def no_params(key):
    """`init` of an objective that trains nothing and remembers nothing."""
    del key
    return (), ()


def kl(posterior: Posterior) -> jax.Array:
    """KL(q(z|x) || p(z)) of each example in nats: [B]."""
    return jnp.sum(kl_per_latent(posterior), axis=1)


def broadcast_over_batch(term: jax.Array, posterior: Posterior) -> jax.Array:
    """A term [] of the whole batch, standing in every entry: [B]."""
    return jnp.full(posterior.mean.shape[:1], term)


def measured_kl(posterior: Posterior) -> jax.Array:
    """The batch mean of the KL as a controller reads it: float32 [], a number to the gradient."""
    return jax.lax.stop_gradient(jnp.mean(kl(posterior))).astype(jnp.float32)


def check_not_negative(**values: float) -> None:
    """Raises ValueError that names the first option which is negative or not finite."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"objective.{name} must be finite and not negative, got {value}")


def check_at_least_one(**values: int) -> None:
    """Raises ValueError that names the first option which is below 1."""
    for name, value in values.items():
        if not value >= 1:
            raise ValueError(f"objective.{name} must be at least 1, got {value}")

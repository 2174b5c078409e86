"""Training objectives, side by side. Each is an Objective, pure functions that the training step calls.

init(key) -> (params, memory)
apply(params, memory, step, posterior, z, key) -> (terms, memory)

`params` are trained parameters of the objective's own (() if none), `memory` is the state of its controller
(() if none): both are part of the training state, so they checkpoint, resume and vmap with it.

`apply` sees the posterior and one sample z [B, D] of the whole batch, however many devices share it, and the same key
on each. `terms['regulariser']` [B] is added to each example's reconstruction loss (a term of the whole batch stands in
every entry); `terms['objective_loss']` [], if there, trains `params` and must reach nothing else; `terms['beta']` [] is
the pressure; every other entry is a scalar to log. The batch mean is taken in the training step, and nowhere else.
All terms are in nats, against a reconstruction loss summed over pixels.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from deft_jax import options
from deft_jax.gaussian import kl_per_latent, reparameterise
from deft_jax.schedules import Schedule


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
    """

    init: Callable
    apply: Callable
    spaces: Callable = _one_space
    represent: Callable = _as_it_is
    optimizer: optax.GradientTransformation | None = None


def pixel_losses(likelihood: str, images: jax.Array, outputs: jax.Array) -> jax.Array:
    """-log p(x|z) of each pixel in nats, unreduced: the shape of `images`, whose values lie in [0, 1].

    likelihood: 'bernoulli', outputs are logits; 'gaussian', outputs are means, and the loss is the plain squared
    error (x - output)^2, the usage of this field: a Gaussian of variance 1/2 without its constant.
    """
    if likelihood == "bernoulli":
        return jax.nn.softplus(outputs) - images * outputs
    if likelihood == "gaussian":
        return jnp.square(images - outputs)
    raise ValueError(f"unknown likelihood {likelihood!r}; known: bernoulli, gaussian")


def reconstruction_loss(likelihood: str, images: jax.Array, outputs: jax.Array) -> jax.Array:
    """-log p(x|z) of each example in nats, `pixel_losses` of [B, H, W, C] summed over pixels and channels: [B]."""
    return jnp.sum(pixel_losses(likelihood, images, outputs), axis=(1, 2, 3))


def beta_vae(beta: Schedule) -> Objective:
    """beta * sum_d KL(q(z_d|x) || p(z_d)) (Higgins et al. 2017, eq. 4), beta a function of the step.

    DEFT uses this very objective: what it adds is when beta falls and which group may learn (Wu et al. 2022).
    """

    def init(key):
        del key
        return (), ()

    def apply(params, memory, step, posterior, z, key):
        del params, z, key
        pressure = beta(step)
        regulariser_B = pressure * jnp.sum(kl_per_latent(posterior), axis=1)
        return {"regulariser": regulariser_B, "beta": pressure}, memory

    return Objective(init, apply)


OBJECTIVES = {"beta_vae": beta_vae}


def get(name: str, beta: Schedule, *, latents: int, num_images: int, **kwargs) -> Objective:
    """The objective called `name` under the pressure `beta`, for D = `latents` and a set of `num_images` images.

    Raises ValueError with the known names, or with the field that the objective does not have.
    """
    function = options.choose(OBJECTIVES, name, "objective")
    given = {"beta": beta, "latents": latents, "num_images": num_images}
    taken = inspect.signature(function).parameters
    return options.call(function, kwargs, "objective", **{key: given[key] for key in given if key in taken})

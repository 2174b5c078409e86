"""Objectives by name."""

import inspect
from collections.abc import Callable

from optax import Schedule

from deft_jax.objectives.base import Objective
from deft_jax.objectives.beta_vae import annealed_vae, beta_vae, cascade_vae_c
from deft_jax.objectives.controllers import control_vae, dynamic_vae
from deft_jax.objectives.devae import devae
from deft_jax.objectives.dip_vae import dip_vae_i, dip_vae_ii
from deft_jax.objectives.qlae import qlae
from deft_jax.objectives.total_correlation import beta_tcvae, factor_vae
from deft_jax.runtime import plugins, validation

OBJECTIVES = {
    "annealed_vae": annealed_vae,
    "beta_tcvae": beta_tcvae,
    "beta_vae": beta_vae,
    "cascade_vae_c": cascade_vae_c,
    "control_vae": control_vae,
    "deft": beta_vae,  # what DEFT adds stands in the stages and in the optimiser
    "devae": devae,
    "dip_vae_i": dip_vae_i,
    "dip_vae_ii": dip_vae_ii,
    "dynamic_vae": dynamic_vae,
    "factor_vae": factor_vae,
    "qlae": qlae,
}


def function_of(name: str) -> Callable[..., Objective]:
    """The function that makes the objective of this name. Raises ValueError with the known names."""
    return plugins.load_function(name, "objective") or plugins.choose(OBJECTIVES, name, "objective")


def get(name: str, beta: Schedule, *, latents: int, num_images: int, **kwargs) -> Objective:
    """The objective called `name` under the pressure `beta`, for D = `latents` and a set of `num_images` images.

    name: a key of OBJECTIVES, or 'module:function' of a function of your own which takes beta, and latents or
      num_images where it needs them, and returns an Objective.
    Raises ValueError with the known names, or with the field that the objective does not have.
    """
    function = function_of(name)
    given = {"beta": beta, "latents": latents, "num_images": num_images}
    taken = inspect.signature(function).parameters
    context = {key: given[key] for key in given if key in taken}
    return function(**context, **validation.options_of(function, kwargs, "objective", tuple(context)))

"""Objectives by name."""

import inspect
from collections.abc import Callable
from typing import Any

from deft_jax.objectives.base import Objective, Schedule
from deft_jax.objectives.beta_vae import annealed_vae, beta_vae, cascade_vae_c
from deft_jax.objectives.controllers import control_vae, dynamic_vae
from deft_jax.objectives.devae import devae
from deft_jax.objectives.dip_vae import dip_vae_i, dip_vae_ii
from deft_jax.objectives.qlae import qlae
from deft_jax.objectives.total_correlation import beta_tcvae, factor_vae
from deft_jax.objectives.tripod import tripod
from deft_jax.objectives.weak_supervision import ada_gvae, ada_ml_vae
from deft_jax.runtime import plugins, validation

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "ada_gvae": ada_gvae,
    "ada_ml_vae": ada_ml_vae,
    "annealed_vae": annealed_vae,
    "beta_tcvae": beta_tcvae,
    "beta_vae": beta_vae,
    "cascade_vae_c": cascade_vae_c,
    "control_vae": control_vae,
    "deft": beta_vae,  # DEFT differs in its stages and in its optimiser
    "devae": devae,
    "dip_vae_i": dip_vae_i,
    "dip_vae_ii": dip_vae_ii,
    "dynamic_vae": dynamic_vae,
    "factor_vae": factor_vae,
    "qlae": qlae,
    "tripod": tripod,
}


def function_of(name: str) -> Callable[..., Objective]:
    """The function that returns the objective of this name.

    Args:
      name: a key of OBJECTIVES, or 'module:function' for a user's function.

    Raises:
      ValueError: the name is unknown; the message lists the known ones.

    Example:
      >>> function_of("deft").__name__
      'beta_vae'
    """
    return plugins.load_function(name, "objective") or plugins.choose(OBJECTIVES, name, "objective")


def get(name: str, beta: Schedule, *, latents: int, num_images: int, **options: Any) -> Objective:
    """The objective of this name.

    Args:
      name: a key of OBJECTIVES, or 'module:function' for a user's function. It takes `beta`, and `latents` or
        `num_images` if it needs them, and returns an Objective.
      beta: step -> weight of the KL.
      latents: D, latents of the model.
      num_images: images of the data set.
      **options: the function's further arguments.

    Raises:
      ValueError: the name is unknown.
      ConfigErrors: one line for each option that is missing, unknown, of another type or out of bounds.

    Example:
      >>> objective = get("annealed_vae", lambda step: 1000.0, latents=10, num_images=737_280, capacity=25)
      >>> objective.rotation_safe
      True
    """
    function = function_of(name)
    context = {"beta": beta, "latents": latents, "num_images": num_images}
    parameters = inspect.signature(function).parameters
    given = {key: value for key, value in context.items() if key in parameters}
    return function(**given, **validation.options_of(function, options, "objective", tuple(given)))

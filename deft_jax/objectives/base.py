"""The interface of training objectives: `Objective`, a few pure functions that the training step calls.

An objective is a function of the schedule `beta` and of options that returns an Objective. One of your own is named in
a configuration as 'module:function' (docs/extending.md); those of the package are in the table of registry.py
(CONTRIBUTING.md has what else one needs). Options are annotated with the types of runtime/validation.py.

Examples, from the simplest: beta_vae.py (no state), controllers.py (a state that every step updates), devae.py (trained
parameters and further latent spaces), total_correlation.py (a second network with a separate loss and optimiser),
tripod.py (a term of the decoder).

Units: all terms are in nats, against a reconstruction loss summed over pixels.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax

from deft_jax.models.posterior import Posterior, kl_per_latent, reparameterise

PyTree: TypeAlias = Any
"""Arrays in nested dicts and tuples; () where there are none."""
Terms: TypeAlias = dict[str, jax.Array]
"""Terms of the loss and numbers to log, by name; see ApplyFn."""
Schedule: TypeAlias = Callable[[jax.Array | int], jax.Array]
"""step -> value, as optax.Schedule."""
Decode: TypeAlias = Callable[[jax.Array], Sequence[jax.Array]]
"""Codes [N, D] -> the hidden layers of the decoder, each [N, ...], in float32."""
BatchMean: TypeAlias = Callable[[jax.Array], jax.Array]
"""[b, ...] of the examples of this device -> [...], the mean over the whole batch."""


class InitFn(Protocol):
    """Creates the parameters and the state of an objective."""

    def __call__(self, key: jax.Array, /) -> tuple[PyTree, PyTree]:
        """Returns (params, objective_state).

        Both are part of the training state: they are checkpointed, restored and batched over seeds with it.

        Args:
          key: a random key.

        Returns:
          params: parameters that are trained, with `Objective.optimizer`; () if none.
          objective_state: arrays that `apply` replaces in every step of all stages; () if none. Their shapes and
            types stay the same, so a number is jnp.zeros((), jnp.float32), not a Python float.
        """


class ApplyFn(Protocol):
    """Computes the terms of the loss in one training step."""

    def __call__(
        self,
        params: PyTree,
        objective_state: PyTree,
        step: jax.Array,
        posterior: Posterior,
        z: jax.Array,
        key: jax.Array,
        /,
    ) -> tuple[Terms, PyTree]:
        """Returns (terms, objective_state).

        Args:
          params: from `init`, as trained so far.
          objective_state: from `init` in step 0, then from the previous step.
          step: int32 [], steps before this one.
          posterior: mean and logvar [B, D] of the whole batch, however many devices share it.
          z: [B, D], one sample of the posterior, in the first latent space.
          key: a random key of the step, the same on all devices.

        Returns:
          terms: 'regulariser' [B] is added to each example's reconstruction loss; a term of the whole batch is the same
            in every entry, since the training step averages over the batch. 'beta' [] is the weight of the KL.
            'objective_loss' [], if any, trains `params` and must have no gradient to anything else. Every other entry
            is logged, as the mean over the steps of a record. 'kl' and 'kl_per_latent' replace the KL of the posterior
            in the log; 'loss' and 'reconstruction' are refused.
          objective_state: the state for the next step.
        """


class SpacesFn(Protocol):
    """Computes the codes that are decoded."""

    def __call__(self, params: PyTree, posterior: Posterior, noise_BxD: jax.Array, /) -> jax.Array:
        """Returns z [S, B, D] in S latent spaces, from noise [B, D] drawn from N(0, 1)."""


class RepresentFn(Protocol):
    """Computes the representation that is scored."""

    def __call__(self, params: PyTree, posterior: Posterior, /) -> Posterior:
        """Returns the posterior [B, D] that is scored, traversed and drawn."""


class DecoderTermsFn(Protocol):
    """Computes terms of the loss that depend on the decoder beyond its outputs."""

    def __call__(
        self,
        params: PyTree,
        step: jax.Array,
        posterior: Posterior,
        z_BxD: jax.Array,
        keys_B: jax.Array,
        decode: Decode,
        batch_mean: BatchMean,
        /,
    ) -> Terms:
        """Returns the terms.

        Args:
          params: from `init`, as trained so far.
          step: int32 [], steps before this one.
          posterior: mean and logvar of the whole batch, however many devices share it.
          z_BxD: the codes that this device decodes, in the first latent space.
          keys_B: a random key for each of these examples.
          decode: the decoder at any codes.
          batch_mean: over all devices.

        Returns:
          Terms [] of the whole batch by name: 'regulariser' is added to the loss, the others are logged.
        """


def single_space(params: PyTree, posterior: Posterior, noise_BxD: jax.Array) -> jax.Array:
    """One latent space, a sample of the posterior: [1, B, D]."""
    del params
    return reparameterise(posterior, noise_BxD)[None]


def encoder_posterior(params: PyTree, posterior: Posterior) -> Posterior:
    """The posterior as the encoder returns it."""
    del params
    return posterior


class Pairs(NamedTuple):
    """Batches of pairs: examples 2 i and 2 i + 1 share all factors but some.

    Attributes:
      changed_factors: how many differ. Default: None, a number between 1 and all but one, drawn for each pair.
    """

    changed_factors: int | None = None


class Objective(NamedTuple):
    """A training objective as pure functions.

    Attributes:
      init: key -> (params, objective_state); see InitFn. `no_params` where there is neither.
      apply: (params, objective_state, step, posterior, z, key) -> (terms, objective_state); see ApplyFn.
      spaces: (params, posterior, noise) -> codes to decode, [S, B, D]. The reconstruction loss is the mean over the S
        latent spaces. Default: one space, a sample of the posterior.
      represent: (params, posterior) -> the Posterior that is scored, traversed and drawn. Default: that of the encoder.
      optimizer: of `params`. Default: None, Adam at the learning rate of the decoder.
      traversal_range: traversals set a latent to values from -traversal_range to traversal_range.
      rotation_safe: whether all latents are treated alike, so that they may be rotated (training/latent_rotation.py).
      per_example: whether `apply` treats each example alone: there is no state, the regulariser of an example follows
        from that example, and every other term is a mean over examples or the same for all. The step may then take a
        batch in parts, and the devices that share it need not gather posteriors.
      pairs: how the images of a batch are paired (training/pairs.py). Default: None, they are independent.
      decoder_terms: further terms of the loss, which see the hidden layers of the decoder; see DecoderTermsFn. Default:
        None, there are none.

    Example:
      A KL weight that grows by 1 in each step is a state:

      >>> def init(key):
      ...     return (), jnp.float32(0.0)
      >>> def apply(params, weight, step, posterior, z, key):
      ...     return {"regulariser": weight * kl(posterior), "beta": weight}, weight + 1.0
      >>> objective = Objective(init, apply)
      >>> posterior = Posterior(mean=jnp.array([[2.0]]), logvar=jnp.zeros((1, 1)))
      >>> params, state = objective.init(jax.random.key(0))
      >>> for step in range(3):
      ...     terms, state = objective.apply(params, state, step, posterior, posterior.mean, jax.random.key(step))
      ...     print(terms["regulariser"])
      [0.]
      [2.]
      [4.]
    """

    init: InitFn
    apply: ApplyFn
    spaces: SpacesFn = single_space
    represent: RepresentFn = encoder_posterior
    optimizer: optax.GradientTransformation | None = None
    traversal_range: float = 2.0
    rotation_safe: bool = False
    per_example: bool = False
    pairs: Pairs | None = None
    decoder_terms: DecoderTermsFn | None = None


def no_params(key: jax.Array) -> tuple[PyTree, PyTree]:
    """`init` of an objective without parameters and without state."""
    del key
    return (), ()


def kl(posterior: Posterior) -> jax.Array:
    """KL(q(z|x) || p(z)) of each example, in nats: [B]."""
    return jnp.sum(kl_per_latent(posterior), axis=1)


def broadcast_over_batch(term: jax.Array, posterior: Posterior) -> jax.Array:
    """A term [] of the whole batch as [B], so that its mean over the batch is the term."""
    return jnp.full(posterior.mean.shape[:1], term)


def measured_kl(posterior: Posterior) -> jax.Array:
    """The batch mean of the KL as a controller reads it: float32 [], without a gradient."""
    return jax.lax.stop_gradient(jnp.mean(kl(posterior))).astype(jnp.float32)

"""Trials of the annealing test: many small VAEs, each on the sweep of one factor, trained in one compiled program.

A trial fixes all factors but one at a random draw and trains a VAE (trial_model.py) on the images of that one factor
while beta falls. Wu et al. 2022, section 3. All trials of all factors are one `vmap`, spread over the devices by
`pmap`; they do not interact, so each equals the same trial in a program with no other one, to float tolerance.

A trial starts at the collapsed state itself: the bias of the decoder is the mean image.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from deft_jax.annealing.config import TrialsConfig
from deft_jax.annealing.trial_model import Decoder, Encoder
from deft_jax.annealing.trial_plan import Bucket, in_order
from deft_jax.data.source import Source
from deft_jax.models.likelihoods import pixel_losses
from deft_jax.models.posterior import Posterior, kl_per_latent, reparameterise
from deft_jax.training import schedules

_EXPONENT = 15.0  # of the published test, steep at first: (beta_max - beta_min) exp(-15 t / T) + beta_min
# Not those of optax, whose values differ in the last bits.
FALLS: dict[str, Callable[[float, float, int], schedules.Schedule]] = {
    "geometric": schedules.geometric_fall,
    "linear": schedules.linear_fall,
    "exponential": lambda start, end, steps: schedules.exponential_fall(start - end, end, _EXPONENT, steps),
}
"""trials.fall -> function of (beta_max, beta_min, steps)."""


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One fall of beta, from beta_max to config.beta_min, through all trials. Static in a compiled program.

    Attributes:
      config: the section 'trials'.
      beta_max: where beta starts; config.beta_max, or from the spectrum where that is None.
      speed: divides config.steps.

    Raises:
      ValueError: beta_max is not above config.beta_min, or steps are no multiple of config.points.
    """

    config: TrialsConfig
    beta_max: float
    speed: int = 1

    def __post_init__(self) -> None:
        if not self.config.beta_min < self.beta_max:
            raise ValueError(
                f"trials.beta_min must be below beta_max = {self.beta_max:g}, got {self.config.beta_min:g}"
            )
        if self.steps % self.config.points:
            raise ValueError(
                f"trials.steps must be a multiple of trials.points = {self.config.points} at every speed, "
                f"got {self.steps} at speed {self.speed}"
            )

    @property
    def steps(self) -> int:
        """Updates of each trial."""
        return self.config.steps // self.speed

    @property
    def steps_per_point(self) -> int:
        """Updates that an entry of the KL curve is the mean of."""
        return self.steps // self.config.points

    def beta(self, step: jax.Array | int) -> jax.Array:
        """beta at a step."""
        return FALLS[self.config.fall](self.beta_max, self.config.beta_min, self.steps)(step)

    @property
    def betas(self) -> np.ndarray:
        """beta in the middle of each entry of the KL curve: [points]."""
        return np.array(jax.vmap(self.beta)((jnp.arange(self.config.points) + 0.5) * self.steps_per_point), np.float64)

    def modules(self, num_pixels: int) -> tuple[Encoder, Decoder]:
        """The networks of a trial of this width."""
        return Encoder(self.config.latents, self.config.hidden), Decoder(num_pixels, self.config.hidden)

    def optimizer(self) -> optax.GradientTransformation:
        """Adam with a short memory of squares: gradients shrink as the VAE collapses and grow again as it freezes."""
        return optax.adam(self.config.learning_rate, b1=0.9, b2=0.99)


@flax.struct.dataclass
class TrialsState:
    """All that changes while trials train.

    Attributes:
      step: int32 [].
      params, opt_state: tuples with one entry per bucket, whose arrays have the trial as first axis.
      kl: as these, float32 [T, points]: the KL in nats, summed over latents, as the mean over the updates of an entry;
        0 for entries that training has not reached.
    """

    step: Any
    params: Any
    opt_state: Any
    kl: Any


def _lattice(key: jax.Array, count: int, dimensions: int) -> jax.Array:
    """`count` points of a randomly shifted lattice in the unit cube (Cranley and Patterson 1976): [count, dimensions].

    Each point is uniform, so means over the points are unbiased; together they fill the cube evenly (the first axis in
    equal steps, the others by powers of the generalised golden ratio), so the means vary little.
    """
    root = 2.0
    for _ in range(64):  # x^dimensions = x + 1, the golden ratio for two dimensions
        root = (1 + root) ** (1 / dimensions)
    steps = np.array([1 / count, *(root ** -np.arange(1, dimensions))])
    return (np.arange(count)[:, None] * steps + jax.random.uniform(key, (dimensions,))) % 1.0


def _init_trial(sweep: Sweep, likelihood: str, trial: Bucket) -> tuple[Any, Any]:
    """(params, opt_state) of one trial near the collapsed state."""
    encoder, decoder = sweep.modules(trial.mean.shape[0])
    key_encoder, key_decoder = jax.random.split(jax.random.wrap_key_data(jnp.asarray(trial.key)))
    params: dict[str, Any] = {
        "encoder": encoder.init(key_encoder, trial.mean[None])["params"],
        "decoder": decoder.init(key_decoder, jnp.zeros((1, sweep.config.latents)))["params"],
    }
    mean = jnp.where(trial.mask > 0, trial.mean, 0.5)
    bias = jnp.log(mean) - jnp.log1p(-mean) if likelihood == "bernoulli" else mean
    params["decoder"]["out"]["bias"] = bias
    return params, sweep.optimizer().init(params)


@functools.partial(jax.jit, static_argnums=(0, 1))
def init_state(sweep: Sweep, likelihood: str, buckets: Sequence[Bucket]) -> TrialsState:
    """The state before the first step: every trial near the collapsed state, each with different weights.

    Args:
      sweep: of all trials; static.
      likelihood: 'bernoulli' or 'gaussian'; static.
      buckets: of a plan.
    """
    trials = [jax.vmap(functools.partial(_init_trial, sweep, likelihood))(bucket) for bucket in buckets]
    params, opt_state = zip(*trials, strict=True)
    kl = tuple(jnp.zeros((bucket.row.shape[0], sweep.config.points)) for bucket in buckets)
    return TrialsState(jnp.zeros((), jnp.int32), params, opt_state, kl)


def _draw_batch(
    sweep: Sweep, source: Source, arrays: Any, trial: Bucket, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(pixels [B, P], noise [B, D]): pairs of the same image with opposite noise, so that what is odd in it cancels."""
    key_lattice, key_image = jax.random.split(key)
    points = _lattice(key_lattice, sweep.config.batch_size // 2, 1 + sweep.config.latents)
    value = jnp.minimum((points[:, 0] * trial.size).astype(jnp.int32), trial.size - 1)
    noise = jax.scipy.special.ndtri(jnp.clip(points[:, 1:], 1e-6, 1 - 1e-6))
    if trial.images is None:
        swept = jnp.where(jnp.arange(trial.base.shape[0]) == trial.factor, value[:, None], trial.base)
        images = source.render(arrays, swept, key_image)
        x = images.reshape(len(swept), -1)[:, trial.pixels] * trial.mask
    else:
        x = trial.images[value]
    return jnp.concatenate([x, x]), jnp.concatenate([noise, -noise])


def _update_trial(
    sweep: Sweep,
    source: Source,
    arrays: Any,
    step: jax.Array,
    beta: jax.Array,
    trial: Bucket,
    params: Any,
    opt_state: Any,
) -> tuple[Any, Any, jax.Array]:
    """One update of one trial: (params, opt_state, mean KL [])."""
    encoder, decoder = sweep.modules(trial.mean.shape[0])
    key = jax.random.fold_in(jax.random.wrap_key_data(jnp.asarray(trial.key)), step + 1)
    x, noise = _draw_batch(sweep, source, arrays, trial, key)

    def loss_fn(params: Any) -> tuple[jax.Array, jax.Array]:
        posterior = cast(Posterior, encoder.apply({"params": params["encoder"]}, x - trial.mean))
        outputs = cast(jax.Array, decoder.apply({"params": params["decoder"]}, reparameterise(posterior, noise)))
        reconstruction = jnp.sum(pixel_losses(source.likelihood, x, outputs) * trial.mask, axis=1)
        kl = jnp.sum(kl_per_latent(posterior), axis=1)
        return jnp.mean(reconstruction + beta * kl), jnp.mean(kl)

    grads, kl = jax.grad(loss_fn, has_aux=True)(params)
    updates, opt_state = sweep.optimizer().update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, kl


def run_steps(
    sweep: Sweep,
    source: Source,
    arrays: Any,
    buckets: Sequence[Bucket],
    state: TrialsState,
    steps: jax.Array | int,
) -> TrialsState:
    """Updates every trial `steps` times in one dispatch; the number is traced, so one program serves all.

    Args:
      sweep: of all trials.
      source: the data set.
      arrays: source.arrays, as an argument of the program.
      buckets: of a plan.
      state: after any number of steps.
      steps: number of updates.
    """

    def body(_: int, state: TrialsState) -> TrialsState:
        update = functools.partial(_update_trial, sweep, source, arrays, state.step, sweep.beta(state.step))
        trials = [jax.vmap(update)(*bucket) for bucket in zip(buckets, state.params, state.opt_state, strict=True)]
        params, opt_state, kl = zip(*trials, strict=True)
        entry = state.step // sweep.steps_per_point
        curves = tuple(
            curve.at[:, entry].add(new / sweep.steps_per_point) for curve, new in zip(state.kl, kl, strict=True)
        )
        return TrialsState(state.step + 1, params, opt_state, curves)

    return jax.lax.fori_loop(0, steps, body, state)


class TrialRunner:
    """Runs the steps of a plan: jit on one device, pmap over several, each with its share of every bucket.

    Where the number of devices does not divide that of a bucket's trials, its first one is repeated to fill up, and
    dropped from results.
    """

    def __init__(
        self,
        sweep: Sweep,
        source: Source,
        buckets: Sequence[Bucket],
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        """Places the plan on the devices.

        Args:
          sweep: of all trials.
          source: the data set.
          buckets: of a plan.
          devices: share the trials. Default: None, all local ones.
        """
        self.sweep, self.source, self.buckets = sweep, source, tuple(buckets)
        self.devices = list(devices or jax.local_devices())
        self._lengths = [len(bucket) for bucket in buckets]
        run = functools.partial(run_steps, sweep, source)
        self._program: Callable[..., TrialsState]
        if len(self.devices) == 1:
            self._program = jax.jit(run, donate_argnums=2)
        else:
            axes = TrialsState(None, 0, 0, 0)
            self._program = jax.pmap(
                run, in_axes=(None, 0, axes, None), out_axes=axes, donate_argnums=2, devices=self.devices
            )
        self._on_devices = self._share(self.buckets)

    def _share(self, per_bucket: tuple[Any, ...]) -> tuple[Any, ...]:
        """A tuple with one entry per bucket, each divided among the devices."""
        if len(self.devices) == 1:
            return jax.device_put(per_bucket, self.devices[0])
        count = len(self.devices)
        shared = []
        for length, tree in zip(self._lengths, per_bucket, strict=True):
            rows = np.arange(-(-length // count) * count)
            rows[length:] = 0
            shape = lambda leaf: np.asarray(leaf)[rows].reshape(count, -1, *leaf.shape[1:])  # noqa: B023, E731
            shared.append(jax.tree.map(shape, tree))
        return tuple(shared)

    def _gather(self, per_bucket: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inverse of `_share`, on the host."""
        per_bucket = jax.tree.map(np.asarray, per_bucket)
        if len(self.devices) == 1:
            return per_bucket
        return tuple(
            jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:length], tree)  # noqa: B023
            for length, tree in zip(self._lengths, per_bucket, strict=True)
        )

    def init(self) -> TrialsState:
        """The state before the first step, on the devices."""
        return self.put(init_state(self.sweep, self.source.likelihood, self.buckets))

    def put(self, state: TrialsState) -> TrialsState:
        """A state on the host, copied to the devices."""
        parts = (self._share(part) for part in (state.params, state.opt_state, state.kl))
        return TrialsState(np.asarray(state.step), *parts)

    def host(self, state: TrialsState) -> TrialsState:
        """A state on the devices, copied to the host."""
        parts = (self._gather(part) for part in (state.params, state.opt_state, state.kl))
        return TrialsState(np.array(state.step), *parts)

    def run(self, state: TrialsState, steps: int) -> TrialsState:
        """Updates every trial `steps` times; the buffers of `state` are donated."""
        # The step is passed from the host: as an output of the program it has another type and compiles it anew.
        state = dataclasses.replace(state, step=np.asarray(state.step))
        return self._program(self.source.arrays, self._on_devices, state, np.int32(steps))

    def curves(self, state: TrialsState) -> np.ndarray:
        """KL of all trials in the order of their rows: [trials, points]."""
        return in_order(self.buckets, self._gather(state.kl))

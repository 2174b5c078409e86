"""Trials of the annealing test: many small VAEs, each on the sweep of one factor, trained in one compiled program.

A trial fixes all factors but one at a random draw and trains a VAE on the images of that one factor while beta falls.
All trials of all factors are one `vmap`, spread over the devices by `pmap`; nothing passes between them, so a trial
is the same trial run alone, to float tolerance.

The VAE is small because a sweep has few images: on the pixels that vary, encoder and decoder are each a linear map
plus one hidden layer. The linear map matters: near the collapsed state a deep decoder is a product of several small
weights and takes long to leave it, which would be read as a lower freezing point. It starts at the collapsed state
itself, the decoder's bias being the mean image.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from deft_jax.annealing import spectrum
from deft_jax.data import factors
from deft_jax.data.source import Source
from deft_jax.models.likelihoods import pixel_losses
from deft_jax.models.posterior import Posterior, kl_per_latent, reparameterise
from deft_jax.runtime import plugins
from deft_jax.training import schedules

# name -> function of (beta_max, beta_min, steps). 'exponential' is the published test, steep at first:
# (beta_max - beta_min) exp(-15 t / T) + beta_min.
FALLS = {
    "geometric": schedules.geometric_fall,
    "linear": schedules.linear_fall,
    "exponential": lambda start, end, steps: schedules.exponential_fall(start - end, end, 15.0, steps),
}
_NOISY_SAMPLE = 1024  # images that stand for a sweep whose images hold more than their factors
_SMALL = nn.initializers.normal(0.01)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all trials of a program share.

    steps: updates from beta_max to beta_min, by the rule `fall`. latents: D. hidden: units of each hidden layer.
    batch_size: even. learning_rate: of Adam (b1 = 0.9, b2 = 0.99). points: entries of the KL curve, each a mean over
    steps / points updates. Raises ValueError in one line where a number is out of range.
    """

    beta_max: float
    beta_min: float
    steps: int
    fall: str = "geometric"
    latents: int = 1
    hidden: int = 32
    batch_size: int = 64
    learning_rate: float = 3e-3
    points: int = 200

    def __post_init__(self):
        plugins.choose(FALLS, self.fall, "trials.fall")
        for name in ("steps", "latents", "hidden", "points"):
            if getattr(self, name) < 1:
                raise ValueError(f"trials.{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(f"trials.batch_size must be even and at least 2, got {self.batch_size}")
        if not self.learning_rate > 0:
            raise ValueError(f"trials.learning_rate must be above 0, got {self.learning_rate}")
        if not 0 < self.beta_min < self.beta_max:
            betas = f"{self.beta_max:g} to {self.beta_min:g}"
            raise ValueError(f"beta must fall from beta_max to beta_min > 0, got {betas}")
        if self.steps % self.points:
            raise ValueError(f"trials.steps must be a multiple of the {self.points} points, got {self.steps}")

    def beta(self, step):
        """beta at a step."""
        return FALLS[self.fall](self.beta_max, self.beta_min, self.steps)(step)

    @property
    def betas(self) -> np.ndarray:
        """beta in the middle of each entry of the KL curve: [points]."""
        every = self.steps // self.points
        return np.array(jax.vmap(self.beta)((jnp.arange(self.points) + 0.5) * every), np.float64)


@flax.struct.dataclass
class Bucket:
    """Trials of one padded width P; every array has the trial as its first axis.

    row: int32 [T], place in the whole list. factor: int32 [T], which factor is swept. base: int32 [T, F], the draw
    that the others keep. size: int32 [T], its values. pixels: int32 [T, P] and mask: float32 [T, P], those that vary,
    padded. mean: float32 [T, P], the mean image on them. bound: float32 [T], the freezing point from the spectrum.
    key: uint32 [T, 2]. images: float32 [T, S, P], the sweep itself, padded; None where an image holds more than its
    factors and is drawn anew in every step.
    """

    row: Any
    factor: Any
    base: Any
    size: Any
    pixels: Any
    mask: Any
    mean: Any
    bound: Any
    key: Any
    images: Any

    def __len__(self) -> int:
        return len(self.row)


def _width(pixels: int) -> int:
    """The width that a trial of so many varying pixels is padded to: of its own pixels alone, and one of a few."""
    return next((width for width in (256, 512, 1024, 1536, 2048) if pixels <= width), -(-pixels // 2048) * 2048)


def plan(source: Source, factor_names: Sequence[str], num_trials: int, seed: int) -> tuple[Bucket, ...]:
    """`num_trials` trials of each factor, in buckets of one width: trial t of every factor keeps the same draw.

    The shared draw makes factors comparable trial by trial. Rows are numbered factor by factor. Raises ValueError in
    one line where a factor is unknown or has one value, where num_trials is below 1, or where a sweep does not change
    the image.
    """
    if num_trials < 1:
        raise ValueError(f"trials.num_trials must be at least 1, got {num_trials}")
    if not source.is_grid:
        raise ValueError("trials sweep one factor, and this set does not hold every combination of its factors")
    known = source.factor_names
    for name in factor_names:
        if name not in known:
            raise ValueError(f"unknown factor {name!r}; known: {', '.join(known)}")
        if source.factor_sizes[known.index(name)] < 2:
            raise ValueError(f"factor {name!r} has one value: nothing varies, and nothing can freeze")
    bases = factors.draw(seed, num_trials, source.factor_sizes)
    key = jax.random.key(seed)
    repeats = _repeats(source, factors.sweep(bases[0], known.index(factor_names[0]), source.factor_sizes), key)
    longest = max(source.factor_sizes)
    buckets = {}
    for row, (name, trial) in enumerate(itertools.product(factor_names, range(num_trials))):
        factor = known.index(name)
        sweep = factors.sweep(bases[trial], factor, source.factor_sizes)
        images = spectrum.render(source, np.tile(sweep, (repeats, 1)), jax.random.fold_in(key, trial))
        try:
            scale = spectrum.scaling(images, source.likelihood)
        except ValueError as error:
            values = dict(zip(known, bases[trial].tolist(), strict=True))
            raise ValueError(f"the sweep of {name!r} from {values}: {error}") from None
        width = _width(len(scale.pixels))
        padding = (0, width - len(scale.pixels))
        made = Bucket(
            row=np.int32(row),
            factor=np.int32(factor),
            base=bases[trial],
            size=np.int32(len(sweep)),
            pixels=np.pad(scale.pixels, padding).astype(np.int32),
            mask=np.pad(np.ones(len(scale.pixels), np.float32), padding),
            mean=np.pad(scale.mean, padding),
            bound=np.float32(spectrum.leading(scale(images), 1)[0][0]),
            key=np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.fold_in(key, factor), trial))),
            images=np.pad(images[:, scale.pixels], ((0, longest - len(images)), padding)) if repeats == 1 else None,
        )
        buckets.setdefault(width, []).append(made)
    return tuple(jax.tree.map(lambda *leaves: np.stack(leaves), *buckets[width]) for width in sorted(buckets))


def _repeats(source: Source, sweep, key) -> int:
    """How often a sweep is rendered for its mean and bound: once, unless its images hold more than the factors."""
    once, again = (spectrum.render(source, sweep, jax.random.fold_in(key, n)) for n in range(2))
    return 1 if np.array_equal(once, again) else -(-_NOISY_SAMPLE // len(sweep))


def in_order(buckets: Sequence[Bucket], values: Sequence[np.ndarray]) -> np.ndarray:
    """Per-trial values of the buckets as one array in the order of the rows."""
    rows = np.concatenate([bucket.row for bucket in buckets])
    return np.concatenate(list(values))[np.argsort(rows)]


def _first_layer(hidden: int):
    """Ordinary weights for the hidden units, small ones for the linear part that follows them."""

    def init(key, shape, dtype):
        return nn.initializers.lecun_normal()(key, shape, dtype) * jnp.where(jnp.arange(shape[1]) < hidden, 1.0, 0.01)

    return init


class _Encoder(nn.Module):
    latents: int
    hidden: int

    @nn.compact
    def __call__(self, x_BxP) -> Posterior:
        both = nn.Dense(self.hidden + 2 * self.latents, kernel_init=_first_layer(self.hidden), name="first")(x_BxP)
        h, linear = both[:, : self.hidden], both[:, self.hidden :]
        out = linear + nn.Dense(2 * self.latents, use_bias=False, kernel_init=_SMALL, name="out")(nn.gelu(h))
        return Posterior(out[:, : self.latents], out[:, self.latents :])


class _Decoder(nn.Module):
    pixels: int
    hidden: int

    @nn.compact
    def __call__(self, z_BxD):
        h = nn.gelu(nn.Dense(self.hidden, name="hidden")(z_BxD))
        return nn.Dense(self.pixels, kernel_init=_SMALL, name="out")(jnp.concatenate([h, z_BxD], axis=1))


@flax.struct.dataclass
class TrialsState:
    """All that changes while trials train.

    step: int32 []. params, opt_state, kl: tuples, one entry a bucket, whose arrays have the trial as first axis; kl is
    float32 [T, points], mean KL in nats of the updates between two entries, summed over latents, 0 where training
    has not come to.
    """

    step: Any
    params: Any
    opt_state: Any
    kl: Any


def _lattice(key, count: int, dimensions: int):
    """`count` points of a randomly shifted lattice in the unit cube (Cranley and Patterson 1976): [count, dimensions].

    Every point is uniform by itself, so means over the points are unbiased; together they fill the cube evenly (the
    first axis in equal steps, the others by powers of the generalised golden ratio), so the means vary little.
    """
    root = 2.0
    for _ in range(64):  # x^dimensions = x + 1, the golden ratio for two dimensions
        root = (1 + root) ** (1 / dimensions)
    steps = np.array([1 / count, *(root ** -np.arange(1, dimensions))])
    return (np.arange(count)[:, None] * steps + jax.random.uniform(key, (dimensions,))) % 1.0


def _modules(settings: Settings, pixels: int):
    return _Encoder(settings.latents, settings.hidden), _Decoder(pixels, settings.hidden)


def _optimizer(settings: Settings):
    # A short memory of the second moment: gradients shrink as the VAE collapses and grow again as it freezes.
    return optax.adam(settings.learning_rate, b1=0.9, b2=0.99)


def _init_one(settings: Settings, likelihood: str, trial: Bucket):
    encoder, decoder = _modules(settings, trial.mean.shape[0])
    key_encoder, key_decoder = jax.random.split(jax.random.wrap_key_data(trial.key))
    params = {
        "encoder": encoder.init(key_encoder, trial.mean[None])["params"],
        "decoder": decoder.init(key_decoder, jnp.zeros((1, settings.latents)))["params"],
    }
    mean = jnp.where(trial.mask > 0, trial.mean, 0.5)
    bias = jnp.log(mean) - jnp.log1p(-mean) if likelihood == "bernoulli" else mean
    params["decoder"]["out"]["bias"] = bias
    return params, _optimizer(settings).init(params)


@functools.partial(jax.jit, static_argnums=(0, 1))
def init_state(settings: Settings, likelihood: str, buckets: Sequence[Bucket]) -> TrialsState:
    """The state before the first step: every trial near the collapsed state, with its own weights."""
    made = [jax.vmap(functools.partial(_init_one, settings, likelihood))(bucket) for bucket in buckets]
    params, opt_state = zip(*made, strict=True)
    kl = tuple(jnp.zeros((bucket.row.shape[0], settings.points)) for bucket in buckets)
    return TrialsState(jnp.zeros((), jnp.int32), params, opt_state, kl)


def _update_one(settings: Settings, source: Source, arrays, step, beta, trial: Bucket, params, opt_state):
    """One update of one trial: -> (params, opt_state, KL)."""
    encoder, decoder = _modules(settings, trial.mean.shape[0])
    key = jax.random.fold_in(jax.random.wrap_key_data(trial.key), step + 1)
    key_lattice, key_image = jax.random.split(key)
    # Pairs of the same image with opposite noise: what is odd in the noise cancels.
    place = _lattice(key_lattice, settings.batch_size // 2, 1 + settings.latents)
    value = jnp.minimum((place[:, 0] * trial.size).astype(jnp.int32), trial.size - 1)
    noise = jax.scipy.special.ndtri(jnp.clip(place[:, 1:], 1e-6, 1 - 1e-6))
    noise = jnp.concatenate([noise, -noise])
    if trial.images is None:
        swept = jnp.where(jnp.arange(trial.base.shape[0]) == trial.factor, value[:, None], trial.base)
        images = source.render(arrays, swept, key_image)
        x = images.reshape(len(swept), -1)[:, trial.pixels] * trial.mask
    else:
        x = trial.images[value]
    x = jnp.concatenate([x, x])

    def loss_fn(params):
        posterior = encoder.apply({"params": params["encoder"]}, x - trial.mean)
        outputs = decoder.apply({"params": params["decoder"]}, reparameterise(posterior, noise))
        reconstruction = jnp.sum(pixel_losses(source.likelihood, x, outputs) * trial.mask, axis=1)
        kl = jnp.sum(kl_per_latent(posterior), axis=1)
        return jnp.mean(reconstruction + beta * kl), jnp.mean(kl)

    grads, kl = jax.grad(loss_fn, has_aux=True)(params)
    updates, opt_state = _optimizer(settings).update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, kl


def run_steps(settings: Settings, source: Source, arrays, buckets, state: TrialsState, steps) -> TrialsState:
    """`steps` updates of every trial in one dispatch; the number is traced, so one program serves all."""
    every = settings.steps // settings.points

    def body(_, state):
        update = functools.partial(_update_one, settings, source, arrays, state.step, settings.beta(state.step))
        made = [jax.vmap(update)(*bucket) for bucket in zip(buckets, state.params, state.opt_state, strict=True)]
        params, opt_state, kl = zip(*made, strict=True)
        entry = state.step // every
        curves = tuple(old.at[:, entry].add(new / every) for old, new in zip(state.kl, kl, strict=True))
        return TrialsState(state.step + 1, params, opt_state, curves)

    return jax.lax.fori_loop(0, steps, body, state)


class TrialRunner:
    """Runs the steps of a plan: jit on one device, pmap over several, each with its share of every bucket.

    Where the trials of a bucket do not divide by the devices, its first one is repeated to fill up, and dropped again.
    """

    def __init__(self, settings: Settings, source: Source, buckets: Sequence[Bucket], devices=None):
        self.settings, self.source, self.buckets = settings, source, tuple(buckets)
        self.devices = list(devices or jax.local_devices())
        self._lengths = [len(bucket) for bucket in buckets]
        run = functools.partial(run_steps, settings, source)
        if len(self.devices) == 1:
            self._program = jax.jit(run, donate_argnums=2)
        else:
            axes = TrialsState(None, 0, 0, 0)
            self._program = jax.pmap(
                run, in_axes=(None, 0, axes, None), out_axes=axes, donate_argnums=2, devices=self.devices
            )
        self._on_devices = self._share(self.buckets)

    def _share(self, per_bucket):
        """A tuple with one entry a bucket, each divided among the devices."""
        if len(self.devices) == 1:
            return jax.device_put(per_bucket, self.devices[0])
        count = len(self.devices)
        shared = []
        for length, tree in zip(self._lengths, per_bucket, strict=True):
            filled = np.arange(-(-length // count) * count)
            filled[length:] = 0
            shape = lambda leaf: np.asarray(leaf)[filled].reshape(count, -1, *leaf.shape[1:])  # noqa: B023, E731
            shared.append(jax.tree.map(shape, tree))
        return tuple(shared)

    def _gather(self, per_bucket):
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
        return self.put(init_state(self.settings, self.source.likelihood, self.buckets))

    def put(self, state: TrialsState) -> TrialsState:
        """A state on the host, copied to the devices."""
        parts = (self._share(part) for part in (state.params, state.opt_state, state.kl))
        return TrialsState(np.asarray(state.step), *parts)

    def host(self, state: TrialsState) -> TrialsState:
        """A state on the devices, copied to the host."""
        parts = (self._gather(part) for part in (state.params, state.opt_state, state.kl))
        return TrialsState(np.array(state.step), *parts)

    def run(self, state: TrialsState, steps: int) -> TrialsState:
        """`steps` updates; the state passed in is spent."""
        # The step goes in from the host: one that a program has put out is of another type and compiles it anew.
        state = state.replace(step=np.asarray(state.step))
        return self._program(self.source.arrays, self._on_devices, state, np.int32(steps))

    def curves(self, state: TrialsState) -> np.ndarray:
        """KL of all trials in the order of their rows: [trials, points]."""
        return in_order(self.buckets, self._gather(state.kl))

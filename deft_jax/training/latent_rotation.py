"""Axes along which the latents of a group are independent, for a group to be turned onto them while it trains.

A VAE's loss hardly tells one rotation of its latents from another: the prior is round, so KL(q(z) || p(z)) is the same
for all, and what a rotation takes from the total correlation it gives to the KL of the single latents. Where two
factors enter together, as the two positions of dSprites do, gradients therefore take long to part them. But the
decoder's first layer can undo a rotation of the codes, so the rotation may be chosen, by independent component analysis
and without labels.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

_STEP = np.pi / 360  # half a degree, between the angles that are compared
_ANGLES = np.roll(np.arange(-90, 90) * _STEP, 90)  # 0 comes first, to be taken where all are alike
_SWEEPS = 5  # over all pairs; a group of two needs one


def independent_axes(codes_NxD):
    """The rotation R [D, D] that makes the columns of codes_NxD @ R.T as independent as their fourth cumulants tell.

    It maximises the sum of their squares (Comon 1994, Independent component analysis, a new concept?), pair after pair
    of latents, each by 45 degrees at most, so that latents tend to keep their places and signs.
    Gaussian latents have no such axes, and get those that the sample happens to have.
    """
    num = codes_NxD.shape[1]
    pairs = list(itertools.combinations(range(num), 2)) * (_SWEEPS if num > 2 else 1)

    def turn_pair(carry, pair):
        angle = _best_angle(carry[0][pair])
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        turn_2x2 = jnp.array([[cos, -sin], [sin, cos]])
        turned = (each.at[pair].set(turn_2x2 @ each[pair]) for each in carry)
        return tuple(turned), None

    start = ((codes_NxD - jnp.mean(codes_NxD, axis=0)).T, jnp.eye(num))
    (_, rotation), _ = jax.lax.scan(turn_pair, start, np.asarray(pairs, np.int32).reshape(-1, 2))
    return rotation


def _best_angle(codes_2xN):
    """By how much a pair turns, in radians: the highest of the grid, and from there the top of a parabola."""
    contrast_A = _contrast(codes_2xN, jnp.asarray(_ANGLES, jnp.float32))
    best = jnp.argmax(contrast_A)
    before, top, after = contrast_A[best - 1], contrast_A[best], contrast_A[(best + 1) % len(_ANGLES)]
    bend = before - 2 * top + after
    aside = jnp.where(bend < 0, (before - after) / jnp.where(bend < 0, 2 * bend, 1.0), 0.0)
    return jnp.asarray(_ANGLES, jnp.float32)[best] + _STEP * jnp.clip(aside, -0.5, 0.5)


def _contrast(codes_2xN, angles_A):
    """Sum of the two squared fourth cumulants of centred codes, turned by each angle: [A]."""
    x, y = codes_2xN
    moments = jnp.stack([jnp.mean(x ** (4 - k) * y**k) for k in range(5)])
    xx, xy, yy = jnp.mean(x * x), jnp.mean(x * y), jnp.mean(y * y)
    gaussian = jnp.stack([3 * xx**2, 3 * xx * xy, xx * yy + 2 * xy**2, 3 * xy * yy, 3 * yy**2])
    cumulants = (moments - gaussian) * jnp.array([1.0, 4.0, 6.0, 4.0, 1.0])
    power = jnp.arange(5)
    cos, sin = jnp.cos(angles_A)[:, None], jnp.sin(angles_A)[:, None]
    of_first = (cos ** (4 - power) * (-sin) ** power) @ cumulants
    of_second = (sin ** (4 - power) * cos**power) @ cumulants
    return of_first**2 + of_second**2

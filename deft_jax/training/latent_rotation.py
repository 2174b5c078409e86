"""Axes along which the latents of a group are independent; the group is rotated onto them while it trains.

A VAE's loss hardly depends on a rotation of its latents: the prior is isotropic, so KL(q(z) || p(z)) is the same for
all rotations, and a rotation only shifts nats between the total correlation and the KL of single latents. Gradients
therefore take long to separate two factors that enter together, as the two positions of dSprites do. But the decoder's
first layer can undo a rotation of the codes, so the rotation can be chosen by independent component analysis, without
labels.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

_STEP = np.pi / 360  # half a degree, between the angles that are compared
_ANGLES = np.roll(np.arange(-90, 90) * _STEP, 90)  # 0 comes first: argmax takes it where all are equal
_SWEEPS = 5  # over all pairs; a group of two needs one


def independent_axes(codes_NxD: jax.Array) -> jax.Array:
    """The rotation R [D, D] that makes the columns of codes_NxD @ R.T independent in their fourth cumulants.

    It maximises the sum of the squared cumulants (Comon 1994, Independent component analysis, a new concept?), pair
    after pair of latents, each by 45 degrees at most, so that latents tend to keep their indices and signs.
    For Gaussian latents, whose cumulants are zero, the rotation is that of the sample's noise.
    """
    num = codes_NxD.shape[1]
    pairs = list(itertools.combinations(range(num), 2)) * (_SWEEPS if num > 2 else 1)

    def rotate_pair(carry: tuple[jax.Array, jax.Array], pair: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        angle = _best_angle(carry[0][pair])
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        rotation_2x2 = jnp.array([[cos, -sin], [sin, cos]])
        codes_DxN, rotation = (each.at[pair].set(rotation_2x2 @ each[pair]) for each in carry)
        return (codes_DxN, rotation), None

    start = ((codes_NxD - jnp.mean(codes_NxD, axis=0)).T, jnp.eye(num))
    (_, rotation), _ = jax.lax.scan(rotate_pair, start, jnp.asarray(np.reshape(pairs, (-1, 2)), jnp.int32))
    return rotation


def _best_angle(codes_2xN: jax.Array) -> jax.Array:
    """The angle of a pair's rotation in radians: the maximum of a parabola through the best of the grid."""
    contrast_A = _contrast(codes_2xN, jnp.asarray(_ANGLES, jnp.float32))
    best = jnp.argmax(contrast_A)
    before, top, after = contrast_A[best - 1], contrast_A[best], contrast_A[(best + 1) % len(_ANGLES)]
    bend = before - 2 * top + after
    aside = jnp.where(bend < 0, (before - after) / jnp.where(bend < 0, 2 * bend, 1.0), 0.0)
    return jnp.asarray(_ANGLES, jnp.float32)[best] + _STEP * jnp.clip(aside, -0.5, 0.5)


def _contrast(codes_2xN: jax.Array, angles_A: jax.Array) -> jax.Array:
    """Sum of the two squared fourth cumulants of centred codes, rotated by each angle: [A]."""
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

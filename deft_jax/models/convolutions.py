"""The 4x4 stride-2 convolution, its transpose and the dense layer, fast on every backend.

Activations are channel-major and batch-minor, (C, H, W, B), so that a layer is a matrix product over the
channels whose columns are positions and examples. Kernels keep the ordinary HWIO shape.

XLA's convolutions of so few channels are slow on the CPU, slower yet inside a loop, and seven times as slow on an
H200 (benchmarks.accelerator); its matrix products run near the speed of the machine. Except on a TPU, which is not
measured, a layer is therefore one product between movements of data, in one of two ways:

  unfolded  every 4x4 window as a column, one product. For images of few channels.
  blocks    2x2 blocks of pixels as channels: the layer is a 2x2 convolution of stride 1 over the blocks, one
            product followed by a sum of four shifted windows.

The transposed convolution is the adjoint of the same pieces in reverse. Each movement is defined together
with its adjoint, so the backward pass consists of the same products and movements.
"""

from collections.abc import Callable, Iterable
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax

METHODS = ("matmul", "lax")

Pair = tuple[jax.Array, jax.Array]  # a matrix and its transpose
Map = Callable[[jax.Array], jax.Array]

_LAYOUT = ("CHWN", "HWIO", "CHWN")
_NONE = (0, 0)
# A tap k of the 4-tap kernel is k = 2 * shift + phase: which of two neighbouring blocks, and which pixel in
# it. The shifts of the two image axes run through these four pairs, and so do the phases.
_PAIRS = ((0, 0), (0, 1), (1, 0), (1, 1))


def conv_down(
    x_CxHxWxB: jax.Array, kernel_4x4xCxO: jax.Array, bias_O: jax.Array, *, relu: bool, method: str | None = None
) -> jax.Array:
    """Convolution with 4x4 taps, stride 2 and padding 1: (C, H, W, B) -> (O, H/2, W/2, B), H and W even.

    y[o, i, j] = bias[o] + sum over k, l, c of kernel[k, l, c, o] * x[c, 2i + k - 1, 2j + l - 1], then
    max(y, 0) if `relu`. Without bias and relu it equals `lax.conv_general_dilated(x, kernel, (2, 2),
    ((1, 1), (1, 1)), dimension_numbers=('CHWN', 'HWIO', 'CHWN'))`.

    Args:
      x_CxHxWxB: images, channel-major and batch-minor.
      kernel_4x4xCxO: taps.
      bias_O: added to each output channel.
      relu: whether to apply max(y, 0).
      method: 'matmul', 'lax', or None, which is 'lax' where the default backend is a TPU, else 'matmul'.

    Returns:
      [O, H/2, W/2, B].

    Raises:
      ValueError: the shapes do not fit, H or W is odd, or the method is unknown.

    Example:
      Each output is the sum of a 4x4 window; windows at the border have 3 rows and 3 columns within the image:

      >>> ones, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((4, 4, 1, 1))
      >>> print(conv_down(ones, kernel, jnp.zeros(1), relu=True)[0, :, :, 0])
      [[9. 9.]
       [9. 9.]]
    """
    x, kernel = x_CxHxWxB, kernel_4x4xCxO
    _check(x, kernel, 2)
    if x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"conv_down needs even height and width, got {x.shape[1]} x {x.shape[2]}")
    method = _choose(method)
    if method == "lax":
        padding = ((1, 1), (1, 1))
        y = lax.conv_general_dilated(x, kernel, (2, 2), padding, dimension_numbers=_LAYOUT)
    elif _unfolds(kernel):
        y = _product(*_swap(_unfolded_kernel(kernel)), _unfold(_to_blocks(x)))
    else:
        y = _sum_shifts(_product(*_swap(_block_kernel(kernel)), _to_blocks(x)))
    return _add_bias(y, bias_O, relu)


def conv_up(
    x_CxHxWxB: jax.Array, kernel_4x4xOxC: jax.Array, bias_O: jax.Array, *, relu: bool, method: str | None = None
) -> jax.Array:
    """Transposed convolution with 4x4 taps, stride 2 and padding 1: (C, H, W, B) -> (O, 2H, 2W, B).

    Without bias and relu it is the adjoint of `conv_down` with the same kernel, which maps (O, 2H, 2W) to
    (C, H, W): <conv_up(x, k), y> = <x, conv_down(y, k)>. So the kernel's axes are (4, 4, output channels,
    input channels). It equals the gradient of `lax.conv_general_dilated` with respect to its input, and
    `lax.conv_transpose(x, kernel, (2, 2), 'SAME', dimension_numbers=('CHWN', 'HWIO', 'CHWN'),
    transpose_kernel=True)`.

    Args:
      x_CxHxWxB: images, channel-major and batch-minor.
      kernel_4x4xOxC: taps; output channels come before input channels.
      bias_O: added to each output channel.
      relu: whether to apply max(y, 0).
      method: 'matmul', 'lax', or None, which is 'lax' where the default backend is a TPU, else 'matmul'.

    Returns:
      [O, 2H, 2W, B].

    Raises:
      ValueError: the shapes do not fit, or the method is unknown.

    Example:
      >>> print(conv_up(jnp.ones((1, 2, 2, 1)), jnp.ones((4, 4, 1, 1)), jnp.zeros(1), relu=False)[0, :, :, 0])
      [[1. 2. 2. 1.]
       [2. 4. 4. 2.]
       [2. 4. 4. 2.]
       [1. 2. 2. 1.]]
    """
    x, kernel = x_CxHxWxB, kernel_4x4xOxC
    _check(x, kernel, 3)
    method = _choose(method)
    if method == "lax":
        y = lax.conv_transpose(x, kernel, (2, 2), "SAME", dimension_numbers=_LAYOUT, transpose_kernel=True)
    elif _unfolds(kernel):
        y = _from_blocks(_fold(_product(*_unfolded_kernel(kernel), x)))
    else:
        y = _from_blocks(_product(*_block_kernel(kernel), _stack_shifts(x)))
    return _add_bias(y, bias_O, relu)


def dense(x_IxB: jax.Array, kernel_IxO: jax.Array, bias_O: jax.Array, *, relu: bool) -> jax.Array:
    """Dense layer, batch-minor: y = kernel^T x + bias, then max(y, 0) if `relu`.

    Args:
      x_IxB: inputs.
      kernel_IxO: weights.
      bias_O: added to each output.
      relu: whether to apply max(y, 0).

    Returns:
      [O, B].

    Example:
      >>> print(dense(jnp.array([[1.0], [2.0]]), jnp.array([[3.0, -3.0], [1.0, 1.0]]), jnp.zeros(2), relu=True))
      [[5.]
       [0.]]
    """
    return _add_bias(_product(kernel_IxO.T, kernel_IxO, x_IxB), bias_O, relu)


def method_for(platform: str) -> str:
    """The method of the layers on devices of a platform, as of jax.Device.platform: 'lax' on a 'tpu', else 'matmul'.

    Example:
      >>> method_for("tpu"), method_for("cpu")
      ('lax', 'matmul')
    """
    return "lax" if platform == "tpu" else "matmul"


def _choose(method: str | None) -> str:
    if method is None:
        return method_for(jax.default_backend())
    if method not in METHODS:
        raise ValueError(f"unknown convolution method {method!r}; known: {', '.join(METHODS)}, or None")
    return method


def _check(x: jax.Array, kernel: jax.Array, axis: int) -> None:
    """Raises ValueError where images do not fit the axis of input channels of a kernel."""
    if x.ndim != 4 or kernel.shape[:2] != (4, 4) or kernel.shape[axis] != x.shape[0]:
        raise ValueError(
            f"images {x.shape} do not fit the kernel {kernel.shape}: "
            f"images are (C, H, W, B), and axis {axis} of the 4x4 kernel is C"
        )


def _unfolds(kernel: jax.Array) -> bool:
    """Whether to unfold windows, for a kernel (4, 4, big channels, small channels)."""
    big, small = kernel.shape[2:]
    # Per small pixel, unfolding moves 16 * big numbers, and the sum of shifts 4 * small.
    return 4 * big <= small


# Movements of data. The small image has h x w pixels, the big one 2h x 2w; padded by one pixel, it has
# (h + 1) x (w + 1) blocks of 2x2 pixels. Every movement comes with its adjoint.


def _adjoint_pair(forward: Map, backward: Map) -> tuple[Map, Map]:
    """Two linear maps, each the adjoint of the other, with each other as reverse-mode derivative."""
    forward_vjp, backward_vjp = jax.custom_vjp(forward), jax.custom_vjp(backward)
    forward_vjp.defvjp(lambda x: (forward_vjp(x), None), lambda _, g: (backward_vjp(g),))
    backward_vjp.defvjp(lambda g: (backward_vjp(g), None), lambda _, x: (forward_vjp(x),))
    return forward_vjp, backward_vjp


def _pad(x: jax.Array, rows: tuple[int, int], columns: tuple[int, int]) -> jax.Array:
    """Zeros around the image axes of (..., H, W, B)."""
    return jnp.pad(x, (*(_NONE,) * (x.ndim - 3), rows, columns, _NONE))


def _total(terms: Iterable[jax.Array]) -> jax.Array:
    """The sum of arrays in order."""
    return cast(jax.Array, sum(terms))


def _raw_to_blocks(x: jax.Array) -> jax.Array:
    """Blocks of the padded big image: (C, 2h, 2w, B) -> (4C, h + 1, w + 1, B), rows (phase, phase, C)."""
    phases = [_pad(x[:, 1 - a :: 2, 1 - b :: 2], (1 - a, a), (1 - b, b)) for a, b in _PAIRS]
    return jnp.concatenate(phases)


def _raw_from_blocks(s: jax.Array) -> jax.Array:
    """The adjoint of `_raw_to_blocks`, which is its inverse without the padding."""
    rows, n, m, batch = s.shape
    s = s.reshape(2, 2, rows // 4, n, m, batch)
    # Without its border first: XLA would divide by the odd number of blocks to find each pixel of the whole image.
    phases = [[s[1 - a, 1 - b, :, a : n - 1 + a, b : m - 1 + b] for b in (0, 1)] for a in (0, 1)]
    x = jnp.stack([jnp.stack(pair, axis=3) for pair in phases], axis=2)
    return x.reshape(rows // 4, 2 * n - 2, 2 * m - 2, batch)


def _raw_stack_shifts(y: jax.Array) -> jax.Array:
    """The small pixels that reach a block: (C, h, w, B) -> (4C, h + 1, w + 1, B), rows (shift, shift, C)."""
    return jnp.concatenate([_pad(y, (d, 1 - d), (e, 1 - e)) for d, e in _PAIRS])


def _raw_sum_shifts(u: jax.Array) -> jax.Array:
    """The adjoint of `_raw_stack_shifts`."""
    rows, n, m, batch = u.shape
    u = u.reshape(4, rows // 4, n, m, batch)
    return _total(u[i, :, d : n - 1 + d, e : m - 1 + e] for i, (d, e) in enumerate(_PAIRS))


def _raw_unfold(s: jax.Array) -> jax.Array:
    """The 2x2 blocks that reach each small pixel: (4C, h + 1, w + 1, B) -> (16C, h, w, B)."""
    h, w = s.shape[1] - 1, s.shape[2] - 1
    return jnp.concatenate([s[:, d : d + h, e : e + w] for d, e in _PAIRS])


def _raw_fold(p: jax.Array) -> jax.Array:
    """The adjoint of `_raw_unfold`."""
    p = p.reshape(4, p.shape[0] // 4, *p.shape[1:])
    return _total(_pad(p[i], (d, 1 - d), (e, 1 - e)) for i, (d, e) in enumerate(_PAIRS))


_to_blocks, _from_blocks = _adjoint_pair(_raw_to_blocks, _raw_from_blocks)
_stack_shifts, _sum_shifts = _adjoint_pair(_raw_stack_shifts, _raw_sum_shifts)
_unfold, _fold = _adjoint_pair(_raw_unfold, _raw_fold)


# Matrices of a kernel (4, 4, C, O), whose big image has C channels and whose small image has O. Each maps
# small to big and comes with its transpose, both written out: a product with a transposed operand is slower.


def _taps(kernel: jax.Array) -> jax.Array:
    """(4, 4, C, O) -> (shift, phase, shift, phase, C, O)."""
    return kernel.reshape(2, 2, 2, 2, *kernel.shape[2:])


def _block_kernel(kernel: jax.Array) -> Pair:
    """(4C, 4O): rows (phase, phase, C), columns (shift, shift, O)."""
    big, small = kernel.shape[2:]
    k = _taps(kernel)
    matrix = k.transpose(1, 3, 4, 0, 2, 5).reshape(4 * big, 4 * small)
    return matrix, k.transpose(0, 2, 5, 1, 3, 4).reshape(4 * small, 4 * big)


def _unfolded_kernel(kernel: jax.Array) -> Pair:
    """(16C, O): rows (shift, shift, phase, phase, C)."""
    big, small = kernel.shape[2:]
    k = _taps(kernel)
    matrix = k.transpose(0, 2, 1, 3, 4, 5).reshape(16 * big, small)
    return matrix, k.transpose(5, 0, 2, 1, 3, 4).reshape(small, 16 * big)


def _swap(pair: Pair) -> Pair:
    return pair[1], pair[0]


# The matrix product and the bias.


def _product(w_MxK: jax.Array, w_KxM: jax.Array, x_Kxn: jax.Array) -> jax.Array:
    """w times x over the first axis of x. Gradients reach w through w_MxK alone."""
    y = _matmul(w_MxK, lax.stop_gradient(w_KxM), x_Kxn.reshape(x_Kxn.shape[0], -1))
    return y.reshape(-1, *x_Kxn.shape[1:])


@jax.custom_vjp
def _matmul(w_MxK: jax.Array, w_KxM: jax.Array, x_KxN: jax.Array) -> jax.Array:
    """w_MxK @ x_KxN; w_KxM, the transpose of w_MxK, serves the backward pass."""
    return w_MxK @ x_KxN


def _matmul_forward(w_MxK: jax.Array, w_KxM: jax.Array, x_KxN: jax.Array) -> tuple[jax.Array, Pair]:
    return w_MxK @ x_KxN, (w_KxM, x_KxN)


def _matmul_backward(residuals: Pair, g_MxN: jax.Array) -> tuple[jax.Array, None, jax.Array]:
    w_KxM, x_KxN = residuals
    columns = (((1,), (1,)), ((), ()))
    # With the operand of more rows first, the CPU's product is up to twice as fast.
    if g_MxN.shape[0] >= x_KxN.shape[0]:
        dw_MxK = lax.dot_general(g_MxN, x_KxN, columns)
    else:
        dw_MxK = lax.dot_general(x_KxN, g_MxN, columns).T
    return dw_MxK, None, w_KxM @ g_MxN


_matmul.defvjp(_matmul_forward, _matmul_backward)


def _add_bias(y: jax.Array, bias_O: jax.Array, relu: bool) -> jax.Array:
    return _bias_relu(y, bias_O) if relu else y + _column(bias_O, y.ndim)


def _column(bias_O: jax.Array, ndim: int) -> jax.Array:
    """A bias with the axes that broadcast it over positions and examples."""
    return bias_O.reshape(-1, *(1,) * (ndim - 1))


@jax.custom_vjp
def _bias_relu(y: jax.Array, bias_O: jax.Array) -> jax.Array:
    return jnp.maximum(y + _column(bias_O, y.ndim), 0).astype(y.dtype)


def _bias_relu_forward(y: jax.Array, bias_O: jax.Array) -> Pair:
    out = _bias_relu(y, bias_O)
    return out, out


def _bias_relu_backward(out: jax.Array, g: jax.Array) -> Pair:
    # The gradient passes where the output is positive, so the sum before the maximum need not be kept.
    g = jnp.where(out > 0, g, 0)
    return g, g.reshape(g.shape[0], -1).sum(1, dtype=jnp.promote_types(g.dtype, jnp.float32))


_bias_relu.defvjp(_bias_relu_forward, _bias_relu_backward)

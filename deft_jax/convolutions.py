"""The 4x4 stride-2 convolution, its transpose and the dense layer, quick on every backend.

Activations are channel-major and batch-minor, (C, H, W, B), so that a layer is one matrix product over the channels whose
columns are positions and examples. Kernels keep the ordinary HWIO shape.

XLA's convolutions are slow on the CPU, and slower yet inside a loop, while its matrix products are not. There the
convolution is written as space-to-depth into 2x2 blocks, a matrix product, and a sum of four shifted windows; the transposed
convolution is the adjoint of the same three pieces in reverse. Every data movement is defined together with its adjoint, so
the backward pass consists of matrix products and plain copies too.
"""

import jax
import jax.numpy as jnp
from jax import lax

METHODS = ("matmul", "lax")

_LAYOUT = ("CHWN", "HWIO", "CHWN")
_PADDING = ((1, 1), (1, 1))
# A tap k of the 4-tap kernel is k = 2 * shift + phase: which neighbouring block, and which pixel within it. Both the shifts
# and the phases of the two image axes run through these four pairs.
_PAIRS = ((0, 0), (0, 1), (1, 0), (1, 1))


def conv_down(x_CxHxWxB, kernel_4x4xCxO, bias_O, *, relu, method=None):
    """Convolution with 4x4 taps, stride 2 and padding 1: (C, H, W, B) -> (O, H/2, W/2, B), H and W even.

    y[o, i, j] = bias[o] + sum over k, l, c of kernel[k, l, c, o] * x[c, 2i + k - 1, 2j + l - 1], then max(y, 0) if `relu`.
    Equals `lax.conv_general_dilated(x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=('CHWN', 'HWIO', 'CHWN'))`.

    method: 'matmul', 'lax', or None for the quicker of the two on the default backend.
    """
    if _method(method) == "lax":
        y = lax.conv_general_dilated(x_CxHxWxB, kernel_4x4xCxO, (2, 2), _PADDING, dimension_numbers=_LAYOUT)
    elif _unfold_first(kernel_4x4xCxO):
        w_OxK, w_KxO = _unfolded_kernel(kernel_4x4xCxO)
        y = _matmul(w_OxK, w_KxO, _unfold(_to_blocks(x_CxHxWxB)))
    else:
        w_BLxSH, w_SHxBL = _block_kernel(kernel_4x4xCxO)
        y = _sum_shifts(_matmul(w_SHxBL, w_BLxSH, _to_blocks(x_CxHxWxB)))
    return _add_bias(y, bias_O, relu)


def conv_up(x_CxHxWxB, kernel_4x4xOxC, bias_O, *, relu, method=None):
    """Transposed convolution with 4x4 taps, stride 2 and padding 1: (C, H, W, B) -> (O, 2H, 2W, B).

    Without bias and relu it is the adjoint of `conv_down` with the same kernel, which maps (O, 2H, 2W) to (C, H, W); hence the
    kernel's axes are (4, 4, output channels, input channels): <conv_up(x, k), y> = <x, conv_down(y, k)>.
    Equals `lax.conv_transpose(x, kernel, (2, 2), 'SAME', dimension_numbers=('CHWN', 'HWIO', 'CHWN'),
    transpose_kernel=True)`, and the gradient of `lax.conv_general_dilated` with respect to its input.

    method: 'matmul', 'lax', or None for the quicker of the two on the default backend.
    """
    if _method(method) == "lax":
        y = lax.conv_transpose(
            x_CxHxWxB, kernel_4x4xOxC, (2, 2), "SAME", dimension_numbers=_LAYOUT, transpose_kernel=True
        )
    elif _unfold_first(kernel_4x4xOxC):
        w_CxK, w_KxC = _unfolded_kernel(kernel_4x4xOxC)
        y = _from_blocks(_fold(_matmul(w_KxC, w_CxK, x_CxHxWxB)))
    else:
        w_BLxSH, w_SHxBL = _block_kernel(kernel_4x4xOxC)
        y = _from_blocks(_matmul(w_BLxSH, w_SHxBL, _stack_shifts(x_CxHxWxB)))
    return _add_bias(y, bias_O, relu)


def dense(x_IxB, kernel_IxO, bias_O, *, relu):
    """Dense layer on batch-minor activations, (I, B) -> (O, B): kernel^T x + bias, then max(., 0) if `relu`."""
    return _add_bias(_matmul(kernel_IxO.T, kernel_IxO, x_IxB), bias_O, relu)


def _method(method):
    if method is None:
        return "matmul" if jax.default_backend() == "cpu" else "lax"
    if method not in METHODS:
        raise ValueError(f"unknown convolution method {method!r}; known: {', '.join(METHODS)}, or None")
    return method


# Data movements. `small` images have h x w pixels, `big` ones 2h x 2w, blocks of a padded big image (h + 1) x (w + 1).


def _adjoint_pair(forward, backward):
    """Linear maps that are each other's adjoint, each taking the other as its reverse-mode derivative."""
    forward, backward = jax.custom_vjp(forward), jax.custom_vjp(backward)
    forward.defvjp(lambda x: (forward(x), None), lambda _, g: (backward(g),))
    backward.defvjp(lambda g: (backward(g), None), lambda _, x: (forward(x),))
    return forward, backward


def _to_blocks_(x):
    """Space to depth of the image padded by one: (C, 2h, 2w, B) -> (4C, h + 1, w + 1, B), rows (phase, phase, channel)."""
    return jnp.concatenate(
        [jnp.pad(x[:, 1 - a :: 2, 1 - b :: 2], ((0, 0), (1 - a, a), (1 - b, b), (0, 0))) for a, b in _PAIRS]
    )


def _from_blocks_(s):
    rows, n, m, batch = s.shape
    x = s.reshape(2, 2, rows // 4, n, m, batch).transpose(2, 3, 0, 4, 1, 5)
    return x.reshape(rows // 4, 2 * n, 2 * m, batch)[:, 1:-1, 1:-1]


def _stack_shifts_(y):
    """Each small pixel in the four blocks it reaches: (C, h, w, B) -> (4C, h + 1, w + 1, B), rows (shift, shift, channel)."""
    return jnp.concatenate([jnp.pad(y, ((0, 0), (d, 1 - d), (e, 1 - e), (0, 0))) for d, e in _PAIRS])


def _sum_shifts_(u):
    rows, n, m, batch = u.shape
    u = u.reshape(4, rows // 4, n, m, batch)
    return sum(u[i, :, d : n - 1 + d, e : m - 1 + e] for i, (d, e) in enumerate(_PAIRS))


def _unfold_(s):
    """The 2x2 window of blocks that each small pixel sees: (4C, h + 1, w + 1, B) -> (16C, h, w, B)."""
    n, m = s.shape[1] - 1, s.shape[2] - 1
    return jnp.concatenate([s[:, d : d + n, e : e + m] for d, e in _PAIRS])


def _fold_(p):
    p = p.reshape(4, p.shape[0] // 4, *p.shape[1:])
    return sum(jnp.pad(p[i], ((0, 0), (d, 1 - d), (e, 1 - e), (0, 0))) for i, (d, e) in enumerate(_PAIRS))


_to_blocks, _from_blocks = _adjoint_pair(_to_blocks_, _from_blocks_)
_stack_shifts, _sum_shifts = _adjoint_pair(_stack_shifts_, _sum_shifts_)
_unfold, _fold = _adjoint_pair(_unfold_, _fold_)


# Matrices of a kernel (4, 4, big channels, small channels), each with its transpose written out.


def _unfold_first(kernel):
    """Whether unfolding the big image (16 big channels) moves less than summing shifts (4 small channels)."""
    return 4 * kernel.shape[2] <= kernel.shape[3]


def _block_kernel(kernel):
    """(4, 4, C, O) -> (4C, 4O) and its transpose: rows (phase, phase, C), columns (shift, shift, O)."""
    c, o = kernel.shape[2:]
    k = kernel.reshape(2, 2, 2, 2, c, o)
    return k.transpose(1, 3, 4, 0, 2, 5).reshape(4 * c, 4 * o), k.transpose(0, 2, 5, 1, 3, 4).reshape(4 * o, 4 * c)


def _unfolded_kernel(kernel):
    """(4, 4, C, O) -> (O, 16C) and its transpose: the long axis is (shift, shift, phase, phase, C)."""
    c, o = kernel.shape[2:]
    k = kernel.reshape(2, 2, 2, 2, c, o)
    return k.transpose(5, 0, 2, 1, 3, 4).reshape(o, 16 * c), k.transpose(0, 2, 1, 3, 4, 5).reshape(16 * c, o)


# The matrix product and the bias.


def _matmul(w_MxK, w_KxM, x_Kxn):
    """w_MxK times x over x's first axis; w_KxM is its transpose, for the backward pass. Gradients flow into w_MxK only."""
    y = _matmul_2d(w_MxK, lax.stop_gradient(w_KxM), x_Kxn.reshape(x_Kxn.shape[0], -1))
    return y.reshape(-1, *x_Kxn.shape[1:])


@jax.custom_vjp
def _matmul_2d(w_MxK, w_KxM, x_KxN):
    return w_MxK @ x_KxN


def _matmul_forward(w_MxK, w_KxM, x_KxN):
    return w_MxK @ x_KxN, (w_KxM, x_KxN)


def _matmul_backward(residuals, g_MxN):
    w_KxM, x_KxN = residuals
    contract_columns = (((1,), (1,)), ((), ()))
    # The larger operand first: the CPU's product packs the second one.
    if g_MxN.shape[0] >= x_KxN.shape[0]:
        dw_MxK = lax.dot_general(g_MxN, x_KxN, contract_columns)
    else:
        dw_MxK = lax.dot_general(x_KxN, g_MxN, contract_columns).T
    return dw_MxK, None, w_KxM @ g_MxN


_matmul_2d.defvjp(_matmul_forward, _matmul_backward)


def _add_bias(y, bias_O, relu):
    return _bias_relu(y, bias_O) if relu else y + _column(bias_O, y.ndim)


def _column(bias_O, ndim):
    return bias_O.reshape(-1, *(1,) * (ndim - 1))


@jax.custom_vjp
def _bias_relu(y, bias_O):
    return jnp.maximum(y + _column(bias_O, y.ndim), 0)


def _bias_relu_forward(y, bias_O):
    out = _bias_relu(y, bias_O)
    return out, out


def _bias_relu_backward(out, g):
    # The sign of the output tells where the gradient passes, so the sum before the maximum is not kept.
    g = jnp.where(out > 0, g, 0)
    return g, g.reshape(g.shape[0], -1).sum(1)


_bias_relu.defvjp(_bias_relu_forward, _bias_relu_backward)

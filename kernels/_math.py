"""Functions for Triton kernels, of `tl.exp` alone: they run in the interpreter and on every backend, and let NaN through."""

from gancore.kernels._triton import jit, tl


@jit
def expm1(x):  # type: ignore[no-untyped-def]
    near = 1.0 + x * 0.25 * (1.0 + x * 0.2 * (1.0 + x * (1.0 / 6.0) * (1.0 + x * (1.0 / 7.0) * (1.0 + x * 0.125))))
    near = x * (1.0 + x * 0.5 * (1.0 + x * (1.0 / 3.0) * near))
    return tl.where(tl.abs(x) < 0.5, near, tl.exp(x) - 1.0)


@jit
def sigmoid(x):  # type: ignore[no-untyped-def]
    return 1.0 / (1.0 + tl.exp(-x))


@jit
def tanh(x):  # type: ignore[no-untyped-def]
    e = expm1(-2.0 * tl.abs(x))
    t = -e / (e + 2.0)
    return tl.where(x < 0.0, -t, t)


@jit
def softplus(x):  # type: ignore[no-untyped-def]
    # log(1 + z), z = exp(-|x|) in [0, 1], as 2 artanh(z / (z + 2)).
    z = tl.exp(-tl.abs(x))
    s = z / (z + 2.0)
    q = s * s
    p = 1.0 / 13.0 + q * (1.0 / 15.0 + q * (1.0 / 17.0))
    p = 1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * p)))))
    return tl.where(x <= 0.0, 0.0, x) + 2.0 * s * p

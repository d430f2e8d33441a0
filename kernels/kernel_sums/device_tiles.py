"""Kernel sums on a GPU: the functions of a tile of pairs, from its points to values and derivatives of the kernel.

Operands of a matrix product are of the type in which the points come; sums are float32.
"""

from gancore.kernels._triton import jit, tl


@jit
def kernel_values(d, params_ptr, CODES: tl.constexpr, ORDER: tl.constexpr):  # type: ignore[no-untyped-def]
    """k at distances d, and from the orders 1 and 2 on the factors psi and chi of its derivatives."""
    k = tl.zeros_like(d)
    psi = k
    chi = k
    e = k
    for t in tl.static_range(len(CODES)):
        w = tl.load(params_ptr + 3 * t)
        a = tl.load(params_ptr + 3 * t + 1)
        b = tl.load(params_ptr + 3 * t + 2)
        if CODES[t] % 8 == 0:  # Gaussian
            if CODES[t] // 8 == 0:
                e = tl.exp(d * (-0.5 / (a * a)))
            for _ in tl.static_range(CODES[t] // 8):
                e = e * e
            k += w * e
            if ORDER > 0:
                psi -= w / (a * a) * e
            if ORDER > 1:
                chi += w / (a * a * a * a) * e
        elif CODES[t] % 8 == 1:  # rational quadratic
            z = 1.0 + d * (0.5 / a)
            one = 1.0 / z
            v = w * tl.exp(-a * tl.log(z))
            k += v
            if ORDER > 0:
                psi -= v * one
            if ORDER > 1:
                chi += (a + 1.0) / a * v * one * one
        elif CODES[t] % 8 == 2:  # inverse multiquadric
            one = 1.0 / (a + d)
            v = w * a * one
            k += v
            if ORDER > 0:
                psi -= 2.0 * v * one
            if ORDER > 1:
                chi += 8.0 * v * one * one
        elif CODES[t] % 8 == 3:  # energy, whose derivatives at 0 are taken as 0
            zero = d == 0.0
            apart = tl.where(zero, 1.0, d)
            one = 1.0 / apart
            v = tl.where(zero, 0.0, -w * tl.exp(0.5 * a * tl.log(apart)))
            k += v
            if ORDER > 0:
                psi += a * v * one
            if ORDER > 1:
                chi += a * (a - 2.0) * v * one * one
        elif CODES[t] % 8 == 4:  # Laplacian
            v = w * tl.exp(d * (-1.0 / a))
            k += v
            if ORDER > 0:
                psi -= v / a
            if ORDER > 1:
                chi += v / (a * a)
        else:  # polynomial
            z = a * d + b
            lower = tl.full(d.shape, 1.0, tl.float32)  # the power degree - 2
            for _ in tl.static_range(CODES[t] // 8 - 2):
                lower = lower * z
            low = lower * z if CODES[t] // 8 > 1 else lower
            k += w * low * z
            if ORDER > 0:
                psi += w * a * (CODES[t] // 8) * low
            if ORDER > 1:
                chi += w * a * a * (CODES[t] // 8 * (CODES[t] // 8 - 1)) * lower
    return k, psi, chi


@jit
def number_values(d, params_ptr, t, CODE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The derivatives of one term's values by its weight and by its own two numbers."""
    kind: tl.constexpr = CODE % 8
    w = tl.load(params_ptr + 3 * t)
    a = tl.load(params_ptr + 3 * t + 1)
    b = tl.load(params_ptr + 3 * t + 2)
    db = tl.zeros_like(d)
    if kind == 0:
        k = tl.exp(d * (-0.5 / (a * a)))
        da = k * d / (a * a * a)
    elif kind == 1:
        half = 0.5 * d / a
        z = 1.0 + half
        log = tl.log(z)
        k = tl.exp(-a * log)
        da = k * (half / z - log)
    elif kind == 2:
        one = 1.0 / (a + d)
        k = a * one
        da = d * one * one
    elif kind == 3:
        zero = d == 0.0
        log = tl.log(tl.where(zero, 1.0, d))
        k = tl.where(zero, 0.0, -tl.exp(0.5 * a * log))
        da = k * 0.5 * log
    elif kind == 4:
        k = tl.exp(d * (-1.0 / a))
        da = k * d / (a * a)
    else:
        z = a * d + b
        low = tl.full(d.shape, 1.0, tl.float32)
        for _ in tl.static_range(CODE // 8 - 1):
            low = low * z
        k = low * z
        db = low * (CODE // 8)
        da = db * d
    return k, w * da, w * db


@jit
def products(  # type: ignore[no-untyped-def]
    x_ptr, y_ptr, features, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """x y^T of the rows that start at the pointers, by chunks of the features."""
    t = tl.zeros([BM, BN], tl.float32)
    x_at = tl.arange(0, BM)[:, None] * features + tl.arange(0, BK)[None, :]
    y_at = tl.arange(0, BN)[:, None] * features + tl.arange(0, BK)[None, :]
    for f in range(0, features, BK):
        t = tl.dot(tl.load(x_ptr + f + x_at), tl.trans(tl.load(y_ptr + f + y_at)), t, input_precision=PRECISION)
    return t


@jit
def weights(  # type: ignore[no-untyped-def]
    u_ptr, v_ptr, i0, j0, width, BM: tl.constexpr, BN: tl.constexpr, BE: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """<u_i, v_j>; of one column its product."""
    if BE == 1:
        c = tl.load(u_ptr + i0 + tl.arange(0, BM))[:, None] * tl.load(v_ptr + j0 + tl.arange(0, BN))[None, :]
    else:
        c = products(u_ptr + i0 * width, v_ptr + j0 * width, width, BM, BN, BE, PRECISION)
    return c


@jit
def absolute(  # type: ignore[no-untyped-def]
    x_ptr, y_ptr, px_ptr, py_ptr, rows, cols, dims, PX: tl.constexpr, PY: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr
):  # fmt: skip
    """|x - y|_1 of transposed points, and the products of the tangents' differences with the signs of x - y."""
    d = tl.zeros([BM, BN], tl.float32)
    p = tl.zeros([BM, BN], tl.float32)
    i = tl.arange(0, BM)
    j = tl.arange(0, BN)
    for _ in range(dims):
        by = tl.load(x_ptr + i)[:, None] - tl.load(y_ptr + j)[None, :]
        d += tl.abs(by)
        if PX or PY:
            sign = (by > 0.0).to(tl.float32) - (by < 0.0).to(tl.float32)
            if PX:
                p += sign * tl.load(px_ptr + i)[:, None]
            if PY:
                p -= sign * tl.load(py_ptr + j)[None, :]
        x_ptr += rows
        y_ptr += cols
        px_ptr += rows
        py_ptr += cols
    return d, p


@jit
def measured(  # type: ignore[no-untyped-def]
    x_ptr, y_ptr, px_ptr, py_ptr, xn_ptr, yn_ptr, xp_ptr, yp_ptr, i0, j0, rows, cols, features, dims,
    METRIC: tl.constexpr, PX: tl.constexpr, PY: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The distances of the tile at (i0, j0) as its metric has them, and what they change by along the tangents (`pd` of the
    package's maths).

    Only pointers are of 64 bits, one a tile: a tile of them would take twice the registers of its numbers.
    """
    if METRIC == 1:
        d, p = absolute(x_ptr + i0, y_ptr + j0, px_ptr + i0, py_ptr + j0, rows, cols, dims, PX, PY, BM, BN)
    else:
        x_ptr += i0 * features
        y_ptr += j0 * features
        d = products(x_ptr, y_ptr, features, BM, BN, BK, PRECISION)
        p = tl.zeros([BM, BN], tl.float32)
        if PX:
            p += products(px_ptr + i0 * features, y_ptr, features, BM, BN, BK, PRECISION)
        if PY:
            p += products(x_ptr, py_ptr + j0 * features, features, BM, BN, BK, PRECISION)
        if METRIC == 0:
            i = tl.arange(0, BM)
            j = tl.arange(0, BN)
            d = (tl.load(xn_ptr + i0 + i)[:, None] + tl.load(yn_ptr + j0 + j)[None, :]) - 2.0 * d
            d = tl.where(d < 0.0, 0.0, d)  # NaN passes
            p = -p
            if PX:
                p += tl.load(xp_ptr + i0 + i)[:, None]
            if PY:
                p += tl.load(yp_ptr + j0 + j)[None, :]
    return d, p


@jit
def meeting(i0, j0, BM: tl.constexpr, BN: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where a tile's rows and columns are the same."""
    return tl.arange(0, BM)[:, None] - tl.arange(0, BN)[None, :] == (j0 - i0).to(tl.int32)


@jit
def paired(  # type: ignore[no-untyped-def]
    d, inside, own, params_ptr,
    CODES: tl.constexpr, ORDER: tl.constexpr, METRIC: tl.constexpr, SAME: tl.constexpr, DROP: tl.constexpr,
):  # fmt: skip
    """k, psi and chi of a tile's distances. own: where a point meets itself, at distance 0 and with derivative 0; DROP: not at all.

    Beyond the sample, where the weights are 0, all are finite, so that they add nothing.
    """
    d = tl.where(inside, d, 0.0)
    if SAME and METRIC != 2:
        d = tl.where(own, d * 0.0, d)
    k, psi, chi = kernel_values(d, params_ptr, CODES, ORDER)
    if DROP:
        k = tl.where(own, 0.0, k)
        psi = tl.where(own, 0.0, psi)
        chi = tl.where(own, 0.0, chi)
    elif SAME and METRIC != 2:
        psi = tl.where(own, psi * 0.0, psi)
        chi = tl.where(own, chi * 0.0, chi)
    return k, psi, chi

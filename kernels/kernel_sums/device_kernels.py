"""Kernel sums on a GPU: what one program does. `device` says which programs there are.

Samples come block by block, (blocks, rows, features), padded with zeros to whole tiles, so that no load needs a mask; n and m
are the rows that count. Points of |x - y|_1 come transposed where distances are formed, since there lanes run along the rows.
"""

from gancore.kernels._triton import jit, tl
from gancore.kernels.kernel_sums.device_tiles import measured, meeting, number_values, paired, weights


@jit
def values_kernel(  # type: ignore[no-untyped-def]
    x_ptr, y_ptr, px_ptr, py_ptr, xn_ptr, yn_ptr, xp_ptr, yp_ptr, v_ptr, pv_ptr, params_ptr, out_ptr,
    rows, cols, m, features, dims, width, blocks, chunks, splits, count,
    CODES: tl.constexpr, METRIC: tl.constexpr, ORDER: tl.constexpr, PX: tl.constexpr, PY: tl.constexpr, SAME: tl.constexpr,
    DROP: tl.constexpr, HALF: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Rows of K v, in the order 2 of K pv + (psi pd) v, for BE columns of v: one part of the rows' sums to out (splits,
    blocks, rows, width).

    HALF: of a symmetric sum each pair of tiles is visited once. A program goes from its own tile on around the circle, half way,
    so that all have as much to do; what it sums stands for both directions.
    """
    pid = tl.program_id(0).to(tl.int64)
    s = pid % splits
    chunk = pid // splits % chunks
    tile = pid // splits // chunks
    across = rows // BM
    it = tile % across
    block = tile // across
    i0 = it * BM
    x_ptr += block * rows * features
    px_ptr += block * rows * features
    y_ptr += block * cols * features
    py_ptr += block * cols * features
    xn_ptr += block * rows
    xp_ptr += block * rows
    yn_ptr += block * cols
    yp_ptr += block * cols
    v_ptr += block * cols * width + chunk * BE
    pv_ptr += block * cols * width + chunk * BE
    e = tl.arange(0, BE)
    total = tl.zeros([BM], tl.float64)
    sums = tl.zeros([BM, BE], tl.float32)
    for n in range(count):
        step = s * count + n
        if HALF:
            away = step // (BM // BN)
            start = (it + away) % across * BM + step % (BM // BN) * BN
            twice = tl.where((away == 0) | (2 * away == across), 1.0, tl.where(2 * away > across, 0.0, 2.0))
            j0 = start
        else:
            start = step * BN
            j0 = tl.minimum(start, cols - BN)
        j = tl.arange(0, BN)
        counts = start + j < m
        inside = counts[None, :]
        d, p = measured(
            x_ptr, y_ptr, px_ptr, py_ptr, xn_ptr, yn_ptr, xp_ptr, yp_ptr, i0, j0, rows, cols, features, dims,
            METRIC, PX, PY, BM, BN, BK, PRECISION,
        )  # fmt: skip
        k, psi, _ = paired(d, inside, meeting(i0, j0, BM, BN), params_ptr, CODES, ORDER, METRIC, SAME, DROP)
        if BE == 1:
            v = tl.where(inside, tl.load(v_ptr + j0 + j)[None, :], 0.0)
            by = tl.sum(k * v, 1)
            if HALF:
                by = by * twice
            total += by.to(tl.float64)
        else:
            at = j[:, None] * width + e[None, :]
            v = tl.where(counts[:, None], tl.load(v_ptr + j0 * width + at), 0.0)
            if ORDER == 2:
                pv = tl.where(counts[:, None], tl.load(pv_ptr + j0 * width + at), 0.0)
                sums = tl.dot(k, pv, sums, input_precision=PRECISION)
                k = psi * tl.where(inside, p, 0.0)
            sums = tl.dot(k, v, sums, input_precision=PRECISION)
    i = tl.arange(0, BM)
    out_ptr += ((s * blocks + block) * rows + i0) * width + chunk * BE
    if BE == 1:
        tl.store(out_ptr + i, total)
    else:
        tl.store(out_ptr + i[:, None] * width + e[None, :], sums)


@jit
def rows_kernel(  # type: ignore[no-untyped-def]
    x_ptr, y_ptr, xn_ptr, yn_ptr, u_ptr, v_ptr, params_ptr, out_ptr, total_ptr,
    rows, cols, m, width, blocks, splits, count,
    CODES: tl.constexpr, METRIC: tl.constexpr, SAME: tl.constexpr, DROP: tl.constexpr, D: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Rows of dS/dx where D features stay on chip, and of K v; of several columns of weights <u_i, (K v)_i> instead.

    All of a symmetric sum is visited: that a tile's other direction were added to rows of another program would take atomics, and
    with them the order of the sum. An MMD^2 with its gradient in x thus takes 9 matrix products of half a matrix instead of 8.
    """
    pid = tl.program_id(0).to(tl.int64)
    s = pid % splits
    tile = pid // splits
    across = rows // BM
    it = tile % across
    block = tile // across
    i0 = it * BM
    i = tl.arange(0, BM)
    j = tl.arange(0, BN)
    f = tl.arange(0, D)
    x_ptr += block * rows * D
    y_ptr += block * cols * D
    xn_ptr += block * rows
    yn_ptr += block * cols
    u_ptr += block * rows * width
    v_ptr += block * cols * width
    total = tl.zeros([BM], tl.float64)
    mass = tl.zeros([BM], tl.float32)
    sums = tl.zeros([BM, D], tl.float32)
    for n in range(count):
        step = s * count + n
        j0 = tl.minimum(step * BN, cols - BN)
        inside = (step * BN + j < m)[None, :]
        # By chunks, which are loaded anew for each tile: kept in registers, and split for 3xTF32, rows of x would spill.
        d, _ = measured(
            x_ptr, y_ptr, x_ptr, y_ptr, xn_ptr, yn_ptr, xn_ptr, yn_ptr, i0, j0, rows, cols, D, D,
            METRIC, False, False, BM, BN, BK, PRECISION,
        )  # fmt: skip
        k, psi, _ = paired(d, inside, meeting(i0, j0, BM, BN), params_ptr, CODES, 1, METRIC, SAME, DROP)
        if BE == 1:
            c = tl.load(v_ptr + j0 + j)[None, :]
        else:
            c = weights(u_ptr, v_ptr, i0, j0, width, BM, BN, BE, PRECISION)
        c = tl.where(inside, c, 0.0)
        total += tl.sum(c * k, 1).to(tl.float64)
        # As the product rounds it, so that near points, which stand on both sides, still cancel.
        w = (c * psi).to(y_ptr.dtype.element_ty)
        if METRIC == 0:
            mass += tl.sum(w.to(tl.float32), 1)
        y = tl.load(y_ptr + j0 * D + (j[:, None] * D + f[None, :]))
        sums = tl.dot(w, y, sums, input_precision=PRECISION)
    if METRIC == 0:
        sums = mass[:, None] * tl.load(x_ptr + i0 * D + (i[:, None] * D + f[None, :])).to(tl.float32) - sums
    if BE == 1:
        sums = sums * tl.load(u_ptr + i0 + i)[:, None]
    at = (s * blocks + block) * rows + i0
    tl.store(out_ptr + at * D + (i[:, None] * D + f[None, :]), sums)
    tl.store(total_ptr + at + i, total)


@jit
def tiles_kernel(  # type: ignore[no-untyped-def]
    x_ptr, y_ptr, px_ptr, py_ptr, xn_ptr, yn_ptr, xp_ptr, yp_ptr, u_ptr, v_ptr, pu_ptr, pv_ptr, params_ptr,
    first_ptr, second_ptr, row_ptr, col_ptr,
    rows, cols, n, m, features, dims, width, block0, row0, col0, high, wide,
    CODES: tl.constexpr, METRIC: tl.constexpr, ORDER: tl.constexpr, PX: tl.constexpr, PY: tl.constexpr, SAME: tl.constexpr,
    DROP: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of a panel (blocks, high, wide) that starts at (block0, row0, col0): the pairs' weights in the gradient, or in the
    order 2 those of x - y and of px - py; and sums over its columns and rows, one number a tile.

    With one column of weights these are of K v and K^T u, or K pv + (psi pd) v and so on; of several columns sums of c k, in the
    order 2 none.
    """
    pid = tl.program_id(0).to(tl.int64)
    jt = pid % (wide // BN)
    it = pid // (wide // BN) % (high // BM)
    part = pid // (wide // BN) // (high // BM)
    block = part + block0
    i0 = it * BM + row0
    j0 = jt * BN + col0
    i = tl.arange(0, BM)
    j = tl.arange(0, BN)
    d, p = measured(
        x_ptr + block * rows * features, y_ptr + block * cols * features,
        px_ptr + block * rows * features, py_ptr + block * cols * features,
        xn_ptr + block * rows, yn_ptr + block * cols, xp_ptr + block * rows, yp_ptr + block * cols,
        i0, j0, rows, cols, features, dims, METRIC, PX, PY, BM, BN, BK, PRECISION,
    )  # fmt: skip
    inside = (i0 + i < n)[:, None] & (j0 + j < m)[None, :]
    k, psi, chi = paired(d, inside, meeting(i0, j0, BM, BN), params_ptr, CODES, ORDER, METRIC, SAME, DROP)
    u_ptr += block * rows * width
    v_ptr += block * cols * width
    c = tl.where(inside, weights(u_ptr, v_ptr, i0, j0, width, BM, BN, BE, PRECISION), 0.0)
    first_ptr += (part * high + it * BM) * wide + jt * BN
    second_ptr += (part * high + it * BM) * wide + jt * BN
    to = i[:, None] * wide + j[None, :]
    by_row = k
    by_col = k
    if ORDER == 1:
        tl.store(first_ptr + to, c * psi)
        if BE == 1:
            by_row = k * tl.load(v_ptr + j0 + j)[None, :]
            by_col = k * tl.load(u_ptr + i0 + i)[:, None]
        else:
            by_row = k * c
            by_col = by_row
    else:
        pu_ptr += block * rows * width
        pv_ptr += block * cols * width
        p = tl.where(inside, p, 0.0)
        pc = weights(pu_ptr, v_ptr, i0, j0, width, BM, BN, BE, PRECISION)
        pc += weights(u_ptr, pv_ptr, i0, j0, width, BM, BN, BE, PRECISION)
        tl.store(first_ptr + to, tl.where(inside, pc, 0.0) * psi + c * chi * p)
        if PX or PY:
            tl.store(second_ptr + to, c * psi)
        if BE == 1:
            by_row = k * tl.load(pv_ptr + j0 + j)[None, :] + psi * p * tl.load(v_ptr + j0 + j)[None, :]
            by_col = k * tl.load(pu_ptr + i0 + i)[:, None] + psi * p * tl.load(u_ptr + i0 + i)[:, None]
    if ORDER == 1 or BE == 1:
        tl.store(row_ptr + (part * (wide // BN) + jt) * high + it * BM + i, tl.sum(tl.where(inside, by_row, 0.0), 1))
        tl.store(col_ptr + (part * (high // BM) + it) * wide + jt * BN + j, tl.sum(tl.where(inside, by_col, 0.0), 0))


@jit
def gather_kernel(  # type: ignore[no-untyped-def]
    w_ptr, w2_ptr, x_ptr, y_ptr, px_ptr, py_ptr, out_ptr,
    rows, cols, features, block0, row0, col0, high, deep, w_block, w_row, w_col,
    METRIC: tl.constexpr, PX: tl.constexpr, PY: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BF: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Adds to rows of out, for BF features, a panel's part of sum_j w_ij g_ij + w2_ij (px_i - py_j), over `deep` columns j."""
    pid = tl.program_id(0).to(tl.int64)
    chunks = features // BF
    chunk = pid % chunks
    it = pid // chunks % (high // BM)
    part = pid // chunks // (high // BM)
    a = tl.arange(0, BM)
    b = tl.arange(0, BN)
    f = tl.arange(0, BF)
    base = ((part + block0) * rows + row0 + it * BM) * features + chunk * BF
    x_ptr += base
    px_ptr += base
    out_ptr += base
    base = ((part + block0) * cols + col0) * features + chunk * BF
    y_ptr += base
    py_ptr += base
    w_ptr += part * w_block + it * BM * w_row
    w2_ptr += part * w_block + it * BM * w_row
    own = a[:, None] * features + f[None, :]
    sums = tl.zeros([BM, BF], tl.float32)
    mass = tl.zeros([BM], tl.float32)
    mass2 = tl.zeros([BM], tl.float32)
    if METRIC == 1:
        x = tl.load(x_ptr + own)
        for _ in range(deep):
            by = x - tl.load(y_ptr + f)[None, :]
            sums += tl.load(w_ptr + a * w_row)[:, None] * ((by > 0.0).to(tl.float32) - (by < 0.0).to(tl.float32))
            w_ptr += w_col
            y_ptr += features
    else:
        w_at = a[:, None] * w_row + b[None, :] * w_col
        y_at = b[:, None] * features + f[None, :]
        for _ in range(0, deep, BN):
            w = tl.load(w_ptr + w_at)
            sums = tl.dot(w, tl.load(y_ptr + y_at), sums, input_precision=PRECISION)
            mass += tl.sum(w.to(tl.float32), 1)
            if PX or PY:
                w = tl.load(w2_ptr + w_at)
                mass2 += tl.sum(w.to(tl.float32), 1)
                if PY:
                    sums = tl.dot(w, tl.load(py_ptr + y_at), sums, input_precision=PRECISION)
            w_ptr += BN * w_col
            w2_ptr += BN * w_col
            y_ptr += BN * features
            py_ptr += BN * features
    if METRIC == 0:
        sums = mass[:, None] * tl.load(x_ptr + own).to(tl.float32) - sums
        if PX:
            sums += mass2[:, None] * tl.load(px_ptr + own).to(tl.float32)
    tl.store(out_ptr + own, tl.load(out_ptr + own) + sums)


@jit
def numbers_kernel(  # type: ignore[no-untyped-def]
    x_ptr, y_ptr, xn_ptr, yn_ptr, u_ptr, v_ptr, params_ptr, out_ptr,
    rows, cols, m, features, dims, width, blocks, splits, count, size, term,
    CODE: tl.constexpr, METRIC: tl.constexpr, SAME: tl.constexpr, DROP: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sums by rows of c times the derivatives of one term by its numbers, to out (3, splits, blocks, rows), three times `size`."""
    pid = tl.program_id(0).to(tl.int64)
    s = pid % splits
    it = pid // splits % (rows // BM)
    block = pid // splits // (rows // BM)
    i0 = it * BM
    j = tl.arange(0, BN)
    x_ptr += block * rows * features
    y_ptr += block * cols * features
    by_w = tl.zeros([BM], tl.float64)
    by_a = tl.zeros([BM], tl.float64)
    by_b = tl.zeros([BM], tl.float64)
    for n in range(count):
        step = s * count + n
        j0 = tl.minimum(step * BN, cols - BN)
        inside = (step * BN + j < m)[None, :]
        d, _ = measured(
            x_ptr, y_ptr, x_ptr, y_ptr, xn_ptr + block * rows, yn_ptr + block * cols, xn_ptr, yn_ptr,
            i0, j0, rows, cols, features, dims, METRIC, False, False, BM, BN, BK, PRECISION,
        )  # fmt: skip
        c = weights(u_ptr + block * rows * width, v_ptr + block * cols * width, i0, j0, width, BM, BN, BE, PRECISION)
        own = meeting(i0, j0, BM, BN)
        d = tl.where(inside, d, 0.0)
        c = tl.where(inside, c, 0.0)
        if SAME and METRIC != 2:
            d = tl.where(own, d * 0.0, d)
        if DROP:
            c = tl.where(own, 0.0, c)
        k, da, db = number_values(d, params_ptr, term, CODE)
        some = c != 0.0  # else a derivative that overflows far from the sample would make NaN of a weight of 0
        by_w += tl.sum(tl.where(some, c * k, 0.0), 1).to(tl.float64)
        by_a += tl.sum(tl.where(some, c * da, 0.0), 1).to(tl.float64)
        by_b += tl.sum(tl.where(some, c * db, 0.0), 1).to(tl.float64)
    at = out_ptr + (s * blocks + block) * rows + i0 + tl.arange(0, BM)
    tl.store(at, by_w)
    tl.store(at + size, by_a)
    tl.store(at + 2 * size, by_b)

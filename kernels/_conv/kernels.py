"""Convolutions on a GPU: what one program does. `device` says which programs there are.

All tensors lie as `geometry.channels_last` lays them: (N, positions, channels), weights (Cin, taps, Cout); spatial dimensions are
three, of which leading ones may have size one. K, S, P: kernel, stride and padding of the three. Products of low precision are
added up in float32. WIDE: some tensor has more elements than 32 bits count.
"""

from gancore.kernels._triton import jit, tl


@jit
def unravel(index, size1, size2):  # type: ignore[no-untyped-def]
    """(i0, i1, i2) of a position in (any, size1, size2)."""
    rest = index // size2
    return rest // size1, rest % size1, index % size2


@jit
def ravel(n, i0, i1, i2, size0, size1, size2):  # type: ignore[no-untyped-def]
    """The position (n, i0, i1, i2) in (any, size0, size1, size2)."""
    return ((n * size0 + i0) * size1 + i1) * size2 + i2


@jit
def within(i0, i1, i2, size0, size1, size2):  # type: ignore[no-untyped-def]
    """Whether a position lies in (size0, size1, size2)."""
    return (i0 >= 0) & (i0 < size0) & (i1 >= 0) & (i1 < size1) & (i2 >= 0) & (i2 < size2)


@jit
def store_moments(y, counts, moments_ptr, at, size):  # type: ignore[no-untyped-def]
    """Number, mean and M2 of each column of a tile, over the elements that count, to moments (3, size)."""
    y = y.to(tl.float32)
    number = tl.sum(counts.to(tl.float32), 0)
    mean = tl.sum(tl.where(counts, y, 0.0), 0) / tl.where(number > 0.0, number, 1.0)
    apart = tl.where(counts, y - mean[None, :], 0.0)
    some = at < size
    tl.store(moments_ptr + at, number + tl.zeros_like(mean), mask=some)
    tl.store(moments_ptr + size + at, mean, mask=some)
    tl.store(moments_ptr + 2 * size + at, tl.sum(apart * apart, 0), mask=some)


@jit
def operands(  # type: ignore[no-untyped-def]
    x_ptr, w_ptr, step, base, i0, i1, i2, k0, k1, k2, taps1, taps2, col, x0, x1, x2, channels, columns,
    K: tl.constexpr, S: tl.constexpr, UP: tl.constexpr, FLAT: tl.constexpr, CHUNK: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """The factors of one step of `gemm_kernel`, BK of a CHUNK of channels; and the rows that have such an x."""
    if FLAT:
        element = step * BK + tl.arange(0, BK)
        c = element % channels
        x_tap, w_tap = (element // channels)[None, :], (element // channels)[:, None]
    else:
        chunks = tl.cdiv(channels, CHUNK) * (CHUNK // BK)
        c = step % chunks * BK + tl.arange(0, BK)
        x_tap, w_tap = step // chunks, step // chunks
    t0, t1, t2 = unravel(x_tap, taps1, taps2)
    if UP:
        high = tl.where(k0 + S[0] * t0 < K[0], x0, 0)
        t0, t1, t2 = -t0, -t1, -t2
    else:
        high = tl.where(t0 < K[0], x0, 0)
    there = within(i0[:, None] + t0, i1[:, None] + t1, i2[:, None] + t2, high, x1, x2)
    x_at = base[:, None] + (ravel(0, t0, t1, t2, x0, x1, x2) * channels + c[None, :])
    x = tl.load(x_ptr + x_at, mask=there & (c < channels)[None, :], other=0.0)
    t0, t1, t2 = unravel(w_tap, taps1, taps2)
    if UP:
        t0, t1, t2 = k0 + S[0] * t0, k1 + S[1] * t1, k2 + S[2] * t2
    tap = ravel(0, t0, t1, t2, K[0], K[1], K[2])
    if UP:
        w_at = (c[:, None] * (K[0] * K[1] * K[2]) + tap) * columns + col[None, :]
    else:
        w_at = (col[None, :] * (K[0] * K[1] * K[2]) + tap) * channels + c[:, None]
    wide = tl.where(t0 < K[0], columns, 0)
    w = tl.load(w_ptr + w_at, mask=(c < channels)[:, None] & (col[None, :] < wide), other=0.0)
    return x, w, there


@jit
def gemm_kernel(  # type: ignore[no-untyped-def]
    x_ptr, w_ptr, y_ptr, moments_ptr,  # y (parts, ...), moments float32 (3, tiles, phases, columns)
    batch, x0, x1, x2, y0, y1, y2, channels, columns, phase0, phases, tiles, count,
    K: tl.constexpr, S: tl.constexpr, P: tl.constexpr, UP: tl.constexpr, FLAT: tl.constexpr, RAGGED: tl.constexpr,
    STATISTICS: tl.constexpr, WIDE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of positions by columns of y, from x: the transposed direction if UP, else the ordinary one. A convolution and its
    transpose differ in which positions meet, and in the side of the weights that is summed over.

    UP: a row is what one phase, of S0 S1 S2, has at a small position: y at S j + r meets x at j + (r + P) // S - t, t = 0, 1 ...,
    over the taps (r + P) % S + S t. FLAT: few channels; a chunk of the sum then runs over several taps. count: the steps of the
    sum, unless RAGGED, where phases differ in their taps.
    """
    pid = tl.program_id(0)
    if WIDE:
        pid = pid.to(tl.int64)
    across = tl.cdiv(columns, BN)
    # The programs that read the same rows of x stand next to each other.
    col = pid % across * BN + tl.arange(0, BN)
    phase = phase0 + pid // across % phases
    tile = pid // across // phases % tiles
    part = pid // across // phases // tiles
    m = tile * BM + tl.arange(0, BM)
    if UP:
        r0, r1, r2 = unravel(phase, S[1], S[2])
        rest, j1, j2 = unravel(m, tl.cdiv(y1, S[1]), tl.cdiv(y2, S[2]))
        n, j0 = rest // tl.cdiv(y0, S[0]), rest % tl.cdiv(y0, S[0])
        o0, o1, o2 = S[0] * j0 + r0, S[1] * j1 + r1, S[2] * j2 + r2
        i0, i1, i2 = j0 + (r0 + P[0]) // S[0], j1 + (r1 + P[1]) // S[1], j2 + (r2 + P[2]) // S[2]
        k0, k1, k2 = (r0 + P[0]) % S[0], (r1 + P[1]) % S[1], (r2 + P[2]) % S[2]
        taps1, taps2 = tl.cdiv(K[1] - k1, S[1]), tl.cdiv(K[2] - k2, S[2])
        if RAGGED:
            taps = tl.cdiv(K[0] - k0, S[0]) * taps1 * taps2
            count = tl.cdiv(taps * channels, BK) if FLAT else taps * tl.cdiv(channels, BK)
    else:
        rest, o1, o2 = unravel(m, y1, y2)
        n, o0 = rest // y0, rest % y0
        i0, i1, i2 = S[0] * o0 - P[0], S[1] * o1 - P[1], S[2] * o2 - P[2]
        k0, k1, k2 = 0, 0, 0
        taps1, taps2 = K[1], K[2]
    rows = (n < batch) & (o0 < y0) & (o1 < y1) & (o2 < y2)
    base = ravel(n, i0, i1, i2, x0, x1, x2) * channels
    i2 = tl.where(rows, i2, x2 + K[2])  # beyond the border for every tap
    sums = tl.zeros([BM, BN], tl.float32)
    for at in range(count):
        x, w, _ = operands(
            x_ptr, w_ptr, part * count + at, base, i0, i1, i2, k0, k1, k2, taps1, taps2, col, x0, x1, x2, channels, columns,
            K, S, UP, FLAT, BK, BK,
        )  # fmt: skip
        sums = tl.dot(x, w, sums, input_precision=PRECISION)
    # Zeros that stand for what lies beyond a border have met an infinite weight: the tile is done again, tap by tap.
    if tl.max(tl.reshape((sums - sums != 0.0).to(tl.int32), [BM * BN]), 0) > 0:
        sums = tl.zeros([BM, BN], tl.float32)
        for at in range((K[0] * K[1] * K[2] if FLAT else count) * (BK // 16)):
            x, w, there = operands(
                x_ptr, w_ptr, part * count * (BK // 16) + at, base, i0, i1, i2, k0, k1, k2, taps1, taps2, col, x0, x1, x2,
                channels, columns, K, S, UP, False, BK, 16,
            )  # fmt: skip
            sums += tl.where(there, tl.dot(x, w, input_precision=PRECISION), 0.0)
    y = sums.to(y_ptr.dtype.element_ty)
    written = rows[:, None] & (col < columns)[None, :]
    tl.store(y_ptr + (ravel(part * batch + n, o0, o1, o2, y0, y1, y2)[:, None] * columns + col[None, :]), y, mask=written)
    if STATISTICS:
        width = S[0] * S[1] * S[2] * columns
        at = tl.where(col < columns, tile * width + phase * columns + col, tiles * width)
        store_moments(y, rows[:, None], moments_ptr, at, tiles * width)


@jit
def patch_kernel(  # type: ignore[no-untyped-def]
    x_ptr, w_ptr, y_ptr, moments_ptr,
    batch, x0, x1, x2, y0, y1, y2, channels, columns, tiles,
    K: tl.constexpr, S: tl.constexpr, P: tl.constexpr, STATISTICS: tl.constexpr, WIDE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The transposed direction to few channels: all phases and channels are the columns of one tile, so that x comes from memory
    once.

    y at S j + r meets x at j + d over the tap r + P - S d, which not every pair of a column and a d has.
    """
    pid = tl.program_id(0)
    if WIDE:
        pid = pid.to(tl.int64)
    e = tl.arange(0, BN)
    r0, r1, r2 = unravel(e // columns, S[1], S[2])
    col = e % columns
    m = pid * BM + tl.arange(0, BM)
    rest, j1, j2 = unravel(m, tl.cdiv(y1, S[1]), tl.cdiv(y2, S[2]))
    high = tl.cdiv(y0, S[0])
    n, j0 = rest // high, rest % high
    low0: tl.constexpr = -((K[0] - 1 - P[0]) // S[0])
    low1: tl.constexpr = -((K[1] - 1 - P[1]) // S[1])
    low2: tl.constexpr = -((K[2] - 1 - P[2]) // S[2])
    wide0: tl.constexpr = (S[0] - 1 + P[0]) // S[0] - low0 + 1
    wide1: tl.constexpr = (S[1] - 1 + P[1]) // S[1] - low1 + 1
    wide2: tl.constexpr = (S[2] - 1 + P[2]) // S[2] - low2 + 1
    sums = tl.zeros([BM, BN], tl.float32)
    for c0 in range(0, channels, BK):
        c = c0 + tl.arange(0, BK)
        for shift in range(wide0 * wide1 * wide2):
            d0, d1, d2 = unravel(shift, wide1, wide2)
            d0, d1, d2 = d0 + low0, d1 + low1, d2 + low2
            h0, h1, h2 = j0 + d0, j1 + d1, j2 + d2
            there = (n < batch) & within(h0, h1, h2, x0, x1, x2)
            x_at = ravel(n, h0, h1, h2, x0, x1, x2)[:, None] * channels + c[None, :]
            x = tl.load(x_ptr + x_at, mask=there[:, None] & (c < channels)[None, :], other=0.0)
            k0, k1, k2 = r0 + P[0] - S[0] * d0, r1 + P[1] - S[1] * d1, r2 + P[2] - S[2] * d2
            some = (r0 < S[0]) & within(k0, k1, k2, K[0], K[1], K[2])
            tap = ravel(0, k0, k1, k2, K[0], K[1], K[2])
            w_at = (c[:, None] * (K[0] * K[1] * K[2]) + tap[None, :]) * columns + col[None, :]
            w = tl.load(w_ptr + w_at, mask=(c < channels)[:, None] & some[None, :], other=0.0)
            # Chosen, not multiplied by zero: an infinite x or w may not spread to columns and rows that it does not meet.
            sums += tl.where(there[:, None] & some[None, :], tl.dot(x, w, input_precision=PRECISION), 0.0)
    y = sums.to(y_ptr.dtype.element_ty)
    o0 = S[0] * j0[:, None] + r0[None, :]
    o1 = S[1] * j1[:, None] + r1[None, :]
    o2 = S[2] * j2[:, None] + r2[None, :]
    written = (n < batch)[:, None] & (r0 < S[0])[None, :] & (o0 < y0) & (o1 < y1) & (o2 < y2)
    y_at = ravel(n[:, None], o0, o1, o2, y0, y1, y2) * columns + col[None, :]
    tl.store(y_ptr + y_at, y, mask=written)
    if STATISTICS:
        width = S[0] * S[1] * S[2] * columns
        at = tl.where(r0 < S[0], pid * width + e, tiles * width)
        store_moments(y, written, moments_ptr, at, tiles * width)


@jit
def weight_kernel(  # type: ignore[no-untyped-def]
    x_ptr, g_ptr, out_ptr,  # x the small side, g the large one, out (parts, Cin, taps, Cout)
    batch, x0, x1, x2, g0, g1, g2, channels, columns, down, count,
    K: tl.constexpr, S: tl.constexpr, P: tl.constexpr, FLAT: tl.constexpr, WIDE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A tile of Cin by Cout of one tap's weight gradient, summed over one part of the positions of x. FLAT: few channels of g;
    columns then run over several taps."""
    pid = tl.program_id(0)
    if WIDE:
        pid = pid.to(tl.int64)
    taps: tl.constexpr = K[0] * K[1] * K[2]
    if FLAT:
        across = tl.cdiv(taps * columns, BN)
        e = pid % across * BN + tl.arange(0, BN)
        tap = (e // columns)[None, :]
        col = e % columns
        some = e < taps * columns
    else:
        across = taps * tl.cdiv(columns, BN)
        tap = pid % taps
        col = pid % across // taps * BN + tl.arange(0, BN)
        some = col < columns
    k0, k1, k2 = unravel(tap, K[1], K[2])
    c = pid // across % down * BM + tl.arange(0, BM)
    part = pid // across // down
    positions = batch * x0 * x1 * x2
    sums = tl.zeros([BM, BN], tl.float32)
    for step in range(count):
        p = (part * count + step) * BK + tl.arange(0, BK)
        x_at = c[:, None] + p[None, :] * channels
        x = tl.load(x_ptr + x_at, mask=(c < channels)[:, None] & (p < positions)[None, :], other=0.0)
        rest, i1, i2 = unravel(p, x1, x2)
        n, i0 = (rest // x0)[:, None], rest % x0
        h0 = (S[0] * i0 - P[0])[:, None] + k0
        h1 = (S[1] * i1 - P[1])[:, None] + k1
        h2 = (S[2] * i2 - P[2])[:, None] + k2
        there = (p < positions)[:, None] & within(h0, h1, h2, g0, g1, g2) & some[None, :]
        g = tl.load(g_ptr + (ravel(n, h0, h1, h2, g0, g1, g2) * columns + col[None, :]), mask=there, other=0.0)
        sums = tl.dot(x, g, sums, input_precision=PRECISION)
    at = ((part * channels + c)[:, None] * taps + tap) * columns + col[None, :]
    tl.store(out_ptr + at, sums, mask=(c < channels)[:, None] & some[None, :])


@jit
def add_kernel(parts_ptr, out_ptr, size, parts, WIDE: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """out (size,), the sum of parts (parts, size), one after the other."""
    pid = tl.program_id(0)
    if WIDE:
        pid = pid.to(tl.int64)
    at = pid * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for _ in range(parts):
        total += tl.load(parts_ptr + at, mask=at < size, other=0.0)
        parts_ptr += size
    tl.store(out_ptr + at, total, mask=at < size)


@jit
def moments_kernel(  # type: ignore[no-untyped-def]
    moments_ptr, mean_ptr, var_ptr, tiles, columns, BM: tl.constexpr, BN: tl.constexpr
):  # fmt: skip
    """Mean and biased variance of BN channels, from the moments (3, tiles, columns) of tiles: of BM tiles at a time, which join
    those before them by Chan's rule."""
    col = tl.program_id(0) * BN + tl.arange(0, BN)
    number = tl.zeros([BN], tl.float32)
    mean = tl.zeros([BN], tl.float32)
    m2 = tl.zeros([BN], tl.float32)
    for start in range(0, tiles, BM):
        tile = start + tl.arange(0, BM)
        there = (tile < tiles)[:, None] & (col < columns)[None, :]
        at = tile[:, None] * columns + col[None, :]
        a = tl.load(moments_ptr + at, mask=there, other=0.0)
        b = tl.load(moments_ptr + tiles * columns + at, mask=there, other=0.0)
        more = tl.sum(a, 0)
        some = tl.where(more > 0.0, more, 1.0)
        # Weights are divided first: the sum of numbers times means, far from zero, would round more.
        middle = tl.sum(b * (a / some[None, :]), 0)
        apart = b - middle[None, :]
        spread = tl.sum(a * apart * apart, 0)
        spread += tl.sum(tl.load(moments_ptr + 2 * tiles * columns + at, mask=there, other=0.0), 0)
        total = number + more
        share = more / tl.where(total > 0.0, total, 1.0)
        step = middle - mean
        m2 += spread + step * step * number * share
        mean += step * share
        number = total
    tl.store(mean_ptr + col, mean, mask=col < columns)
    tl.store(var_ptr + col, m2 / number, mask=col < columns)

"""Batch normalisation and activation: one pass for the statistics, one for both steps, two for the derivative.

    y = act(u),    u = s (x - m) + b,    s = w r,    r = (v + eps)^(-1/2)

with m and v a channel's mean and biased variance: of the N elements of this batch in training, the running ones else. With
e = x - m, d = dy act'(u) and sums over a channel:

    training     db = sum d    dw = r sum d e    dx = s (d - mean d - r^2 e mean(d e))
    evaluation   the same db, dw               dx = s d

Second derivative, for (a, p, q) the tangents of (dx, dw, db), with h = r e and, in training, a' = a - mean a - h mean(a h) (in
evaluation a' = a):

    d/d dy = D act'(u)         D = s a' + p h + q
    U = D dy act''(u)          R = sum a (d - mean d - h mean(d h))     (evaluation: sum a d)
    d/db = sum U               d/dw = sum U h + r R
    H = w U + p d - s (a mean(d h) + d mean(a h))                       (evaluation: no last term)
    d/dx = r (H - mean H - h mean(H h)) - s r h R / N                   (evaluation: r H)

Of all ranks of a process group the means are those over all their elements, R is their sum, and dw and db are each rank's own, as
`nn.SyncBatchNorm` has them. Sums are formed of x - m, so that a large mean cancels nothing. Statistics of the batch reach x through
this operator's derivative alone: whatever computed them, they carry none.
"""

from gancore.kernels.batch_norm_act.public import SPEC as SPEC
from gancore.kernels.batch_norm_act.public import batch_norm_act

__all__ = ["batch_norm_act"]

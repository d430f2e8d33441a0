"""How much the samples of a batch differ, as further channels (Karras et al. 2018, arXiv:1710.10196, section 3).

Sample n belongs to group n mod `groups`; the channels of a sample are split into `channels` equal parts. For group g and part p

    s_gp = mean over the channels and positions f of part p of sqrt(var_gf + 1e-8)

where var_gf is the biased variance of f over the samples of g. Sample n gets s of its group, part p as channel p, everywhere.

A few passes of PyTorch's own, whose derivatives have every order: there is nothing quadratic here to keep out of memory.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from gancore.kernels import _check, _dispatch
from gancore.kernels._ranges import ranged
from gancore.kernels._spec import HALF, Bad, Sample, Spec

__all__ = ["minibatch_stddev"]

EPS = 1e-8


def reference(x: Tensor, groups: int = 4, channels: int = 1) -> Tensor:
    """The statistic itself: any order of derivative, any device."""
    n, positions = len(x), x.shape[2:]
    groups = max(1, min(groups, n))
    rows = (n + groups - 1) // groups
    flat = (x.float() if x.dtype in HALF else x).flatten(1)
    # Uneven groups are filled up, so that no loop runs over groups; what was filled in takes no part in any sum.
    u = F.pad(flat, (0, 0, 0, rows * groups - n)).unflatten(0, (rows, groups))
    there = (torch.arange(rows * groups, device=x.device) < n).view(rows, groups, 1)
    size = there.sum(0)
    deviation = (u - u.sum(0) / size).where(there, 0.0)
    std = (deviation.square().sum(0) / size + EPS).sqrt()
    s = std.unflatten(1, (channels, -1)).mean(2).repeat(rows, 1)[:n]
    s = s.to(x.dtype).view(n, channels, *[1] * len(positions))
    return s.expand(n, channels, *positions).clone(memory_format=torch.contiguous_format)


def _count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"minibatch_stddev: {name} got {type(value).__name__}, wants an integer")
    if value < 1:
        raise ValueError(f"minibatch_stddev: {name} got {value}, wants at least 1")


@ranged
def minibatch_stddev(x: Tensor, groups: int = 4, channels: int = 1, *, impl: str = "auto") -> Tensor:
    """The mean standard deviation over groups of samples, as `channels` channels to concatenate: (N, C, ...) -> (N, channels, ...).

    x: (N, C) or (N, C, ...) with any positions; float32, bfloat16, float16 or float64. The result is contiguous and of x's type,
    also under autocast; for the low types it is computed in float32. Every order of derivative exists.

    groups: the number of groups; sample n belongs to group n mod groups. StyleGAN states the samples of a group instead: its
    `group_size` is N / groups here. Any N goes: groups differ by one sample at most, and a batch smaller than `groups` makes
    groups of one sample, whose statistic is 1e-4, the square root of what is added to every variance. channels: the statistics of a
    group, each the mean over C / channels channels and all positions (1 in ProGAN and StyleGAN).

    impl: "auto" and "reference"; there are no kernels.

    Raises TypeError for a wrong type; ValueError for an x that is no (N, C, ...), groups or channels below 1, and channels that do
    not divide C. Karras et al. 2018, arXiv:1710.10196, section 3; groups after Karras et al. 2019, arXiv:1812.04948.
    """
    _check.floating("minibatch_stddev", "x", x)
    if x.ndim < 2:
        raise ValueError(f"minibatch_stddev: x got shape {tuple(x.shape)}, wants (N, C, ...)")
    _count("groups", groups)
    _count("channels", channels)
    if x.shape[1] % channels:
        raise ValueError(f"minibatch_stddev: channels got {channels}, wants a divisor of {x.shape[1]}, the channels of x")
    _dispatch.choose(SPEC, impl, x, "")
    return reference(x, groups, channels)


def _draw(*shape: int) -> Callable[[Generator], dict[str, Tensor]]:
    return lambda generator: {"x": torch.randn(shape, generator=generator, dtype=torch.float64)}


SPEC = Spec(
    name="minibatch_stddev",
    fn=minibatch_stddev,
    reference=reference,
    samples=(
        Sample("images", _draw(4, 6, 3, 2), {"groups": 2}),
        Sample("uneven groups", _draw(7, 4, 3), {"groups": 3, "channels": 2}),
        Sample("vectors", _draw(5, 6), {"channels": 3}),
        Sample("fewer samples than groups", _draw(3, 2), {"groups": 8}),
    ),
    dtypes={},
    mixes=True,
    bytes_moved=lambda x, groups=4, channels=1: x.nbytes + x.nbytes // max(1, x.shape[1]) * channels,
    bad=(
        Bad({"x": 3.0}, TypeError, "x got float"),
        Bad({"x": torch.zeros(5)}, ValueError, r"x got shape \(5,\), wants \(N, C, ...\)"),
        Bad({"groups": 2.0}, TypeError, "groups got float"),
        Bad({"groups": 0}, ValueError, "groups got 0"),
        Bad({"channels": 4}, ValueError, "channels got 4, wants a divisor of 6"),
    ),
)

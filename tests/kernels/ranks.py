"""Operators on two ranks, whose batches together are one: each rank checks itself against the whole.

A process of its own imports this by name, so it holds no test.
"""

import socket
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ReduceOp, all_reduce, destroy_process_group, group, init_process_group
from torch.multiprocessing import spawn

from gancore.kernels import ConvTransposeLink, batch_norm_act, conv_transpose2d_bn_act, conv_transpose_chain

SHARES = ((3, 2), (1, 4), (4, 0), (0, 3))


def run(check: Callable[[int], None]) -> None:
    """check(rank) in two processes of one gloo group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_rank, (check, port), nprocs=2)


def _rank(rank: int, check: Callable[[int], None], port: int) -> None:
    torch.set_num_threads(1)
    init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    check(rank)
    destroy_process_group()


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def _derivatives(fn: Callable[..., Tensor], x: Tensor, parameters: Sequence[Tensor], seeds: Sequence[Tensor]) -> list[list[Tensor]]:
    """Value; first derivatives; second ones, of what is quadratic in x's and linear in those of the parameters, which ranks add."""
    leaves = [t.clone().requires_grad_() for t in (x, *parameters)]
    y = fn(*leaves)
    to_y, to_x, *others = seeds
    first = torch.autograd.grad((y * to_y).sum(), leaves, create_graph=True)
    scalar = (first[0] * to_x).sum() + first[0].square().sum()
    scalar = scalar + sum((g * s).sum() for g, s in zip(first[1:], others, strict=True))
    second = torch.autograd.grad(scalar, leaves)
    return [[y.detach()], [g.detach() for g in first], list(second)]


def _check(rank: int, shares: Sequence[int], fn: Callable[..., Tensor], x: Tensor, parameters: Sequence[Tensor]) -> None:
    """fn(x, *parameters, process_group=...) on this rank's share of x is its share of the whole."""
    with torch.no_grad():
        seeds = [_random(*fn(x, *parameters, process_group=None).shape), *(_random(*t.shape) for t in (x, *parameters))]
    own = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
    whole = _derivatives(partial(fn, process_group=None), x, parameters, seeds)
    here = _derivatives(partial(fn, process_group=group.WORLD), x[own], parameters, [seeds[0][own], seeds[1][own], *seeds[2:]])
    for order, (mine, wanted) in enumerate(zip(here, whole, strict=True)):
        for i, (a, b) in enumerate(zip(mine, wanted, strict=True)):
            if i > 0:
                a = a.contiguous()
                all_reduce(a, ReduceOp.SUM)
            b = b[own] if i == 0 else b
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10, msg=lambda m, o=order, i=i: f"order {o}, tensor {i}: {m}")


def _statistics(channels: int) -> dict[str, Tensor]:
    kind = torch.float64
    return {
        "running_mean": torch.zeros(channels, dtype=kind),
        "running_var": torch.ones(channels, dtype=kind),
        "num_batches_tracked": torch.tensor(0),
    }


def _check_statistics(fn: Callable[..., Any], x: Tensor, shares: Sequence[int], rank: int, channels: int) -> None:
    """fn(x, statistics, process_group) updates them on every rank as the whole would."""
    own = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
    for momentum in (0.1, None):
        whole, here = _statistics(channels), _statistics(channels)
        for _ in range(2):
            fn(x, **whole, momentum=momentum)
            fn(x[own], **here, momentum=momentum, process_group=group.WORLD)
        torch.testing.assert_close(here, whole, rtol=1e-12, atol=1e-12)


def batch_norm(rank: int) -> None:
    for shares in SHARES:
        for act in ("tanh", "leaky_relu"):
            torch.manual_seed(0)
            x = _random(sum(shares), 3, 4, 2)

            def fn(x: Tensor, weight: Tensor, bias: Tensor, act: str = act, **how: Any) -> Tensor:
                return batch_norm_act(x, weight=weight, bias=bias, training=True, act=act, **how)

            _check(rank, shares, fn, x, (_random(3), _random(3)))
        _check_statistics(partial(batch_norm_act, training=True), x, shares, rank, 3)


def _sizes(*channels: int) -> list[Tensor]:
    """Weight, bias and the norm's two for each layer."""
    found = []
    for before, after in pairwise(channels):
        found += [_random(before, after, 4, 4), _random(after), _random(after), _random(after)]
    return found


def transposed(rank: int) -> None:
    """One layer, and a chain with a layer that is not normalised."""
    how = {"training": True, "stride": 2, "padding": 1, "act": "silu"}

    def layer(x: Tensor, weight: Tensor, bias: Tensor, bn_weight: Tensor, bn_bias: Tensor, **more: Any) -> Tensor:
        return conv_transpose2d_bn_act(x, weight, bias, bn_weight=bn_weight, bn_bias=bn_bias, **how, **more)

    def chain(x: Tensor, *parameters: Tensor, process_group: Any) -> Tensor:
        norms = [parameters[i : i + 4] for i in (0, 4)]
        links = [
            ConvTransposeLink(w, b, bn_weight=bw, bn_bias=bb, process_group=process_group, **how)  # type: ignore[arg-type]
            for w, b, bw, bb in norms
        ]
        return conv_transpose_chain(x, [*links, ConvTransposeLink(parameters[8], parameters[9], stride=2, act="tanh")])

    for shares in SHARES:
        torch.manual_seed(0)
        x = _random(sum(shares), 2, 2, 1)
        _check(rank, shares, layer, x, _sizes(2, 3))
        _check(rank, shares, chain, x, [*_sizes(2, 3, 2), _random(2, 3, 2, 2), _random(3)])
        own = {"weight": _random(2, 3, 4, 4), "bias": _random(3), **how}
        _check_statistics(partial(conv_transpose2d_bn_act, **own), x, shares, rank, 3)

"""Helpers for derivatives of registered operators."""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.library import CustomOpDef

LAST: set[str] = set()  # operators without a derivative, by their registered names


def not_offered(op: CustomOpDef, what: str) -> None:
    """Let the derivative of `op` raise where it is asked for; without a formula PyTorch's own message names neither `what` nor
    a way out."""

    def backward(ctx: Any, *grads: Any) -> NoReturn:
        raise NotImplementedError(f"{what} is not offered by the kernels; impl='reference' has every order")

    op.register_autograd(backward)
    LAST.add(op._qualname)


def _plain(args: tuple[Any, ...]) -> bool:
    """Whether nobody but autograd looks at this call: no compiler, mode, transform or subclass of tensors."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or torch._C._are_functorch_transforms_active():
        return False
    return all(type(a) in (Tensor, torch.nn.Parameter) for a in args if isinstance(a, Tensor))


def direct(op: CustomOpDef, setup: Callable[..., None], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Give `op` its derivative; returns what to call in its place.

    Plain eager calls run the body of `op` in an autograd function of their own: the way of a registered operator through the
    dispatcher takes longer than a kernel on a small tensor. All others are calls of `op`.
    """
    op.register_autograd(backward, setup_context=setup)
    body = op._init_fn

    def forward(ctx: Any, *args: Any) -> Any:
        output = body(*args)
        setup(ctx, args, output)
        return output

    parts = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    function: Any = type(op._name, (torch.autograd.Function,), parts)

    def call(*args: Any) -> Any:
        if not _plain(args):
            return op(*args)
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*args):
            return function.apply(*args)
        return body(*args)

    return call

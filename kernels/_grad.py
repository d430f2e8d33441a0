"""Helpers for derivatives of registered operators."""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.library import CustomOpDef

LAST: set[str] = set()  # operators without a derivative, by their registered names


def _plain(args: tuple[Any, ...]) -> bool:
    """Whether nobody but autograd looks at this call: no compiler, mode, transform or subclass of tensors."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or torch._C._are_functorch_transforms_active():
        return False
    return all(type(a) in (Tensor, torch.nn.Parameter) for a in args if isinstance(a, Tensor))


def not_offered(op: CustomOpDef, what: str) -> Callable[..., Any]:
    """Let the derivative of `op` raise where it is asked for; without a formula PyTorch's own message names neither `what` nor
    a way out. Returns what to call in its place, see `direct`."""

    def backward(ctx: Any, *grads: Any) -> NoReturn:
        raise NotImplementedError(f"{what} is not offered by the kernels; impl='reference' has every order")

    op.register_autograd(backward)
    LAST.add(op._qualname)
    body = op._init_fn

    def call(*args: Any) -> Any:
        if not _plain(args) or (torch.is_grad_enabled() and torch._C._any_requires_grad(*args)):
            return op(*args)
        return body(*args)

    return call


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


class _Edge(torch.autograd.Function):
    """Where one factor of a product enters the graph. Its result is a placeholder of the product's shape; `_Product` gives it the
    product's gradient."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, hidden: tuple[Tensor, ...], derivative: Callable[..., Tensor], form: Any) -> Tensor:
        other, value = hidden
        ctx.save_for_backward(other)
        ctx.derivative, ctx.shape, ctx.form = derivative, own.shape, form
        ctx.set_materialize_grads(False)
        return value.new_empty(()).expand(value.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        (other,) = ctx.saved_tensors
        return None if g is None else ctx.derivative(g, other, ctx.shape, *ctx.form), None, None, None


class _Product(torch.autograd.Function):
    """The outputs of a bilinear operator, of which the first has a derivative: the same for each edge."""

    @staticmethod
    def forward(ctx: Any, outputs: tuple[Tensor, ...], *edges: Tensor) -> Any:
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)
        ctx.edges = len(edges)
        return outputs if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, *rest: None) -> tuple[Tensor | None, ...]:
        return None, *[g] * ctx.edges


def bilinear(op: CustomOpDef, by_first: Callable[..., Tensor], by_second: Callable[..., Tensor]) -> Callable[..., Any]:
    """Give `op(a, b, *form)`, whose first output is linear in the tensors a and b and whose others have no derivative, its own;
    returns what to call in its place.

    by_first(g, b, a.shape, *form) is the derivative in a, for the output's gradient g, and by_second(g, a, b.shape, *form) that in
    b; they are differentiable themselves. In an autograd node of both tensors each is asked for whenever the other is: a
    penalty's gradient in the input would cost a weight gradient a layer. So plain eager calls make a node for each tensor, and
    one that joins them; autograd then visits only those that lead to what was asked for. All others are calls of `op`, whose unused
    derivatives a compiler drops.
    """

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        a, b, *ctx.form = inputs
        ctx.save_for_backward(a, b)
        ctx.set_materialize_grads(False)
        if not isinstance(output, Tensor):
            ctx.mark_non_differentiable(*output[1:])

    def backward(ctx: Any, g: Tensor | None, *rest: None) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        in_a, in_b = (g is not None and needed for needed in ctx.needs_input_grad[:2])
        da = by_first(g, b, a.shape, *ctx.form) if in_a else None
        db = by_second(g, a, b.shape, *ctx.form) if in_b else None
        return da, db, *[None] * len(ctx.form)

    op.register_autograd(backward, setup_context=setup)
    body = op._init_fn

    def call(a: Tensor, b: Tensor, *form: Any) -> Any:
        if not _plain((a, b)):
            return op(a, b, *form)
        with torch.no_grad():
            outputs = body(a, b, *form)
        if not torch.is_grad_enabled():
            return outputs
        several = (outputs,) if isinstance(outputs, Tensor) else outputs
        # In tuples autograd does not see the tensors: a node has the edge to its own factor alone.
        sides = ((a, b, by_first), (b, a, by_second))
        edges = [_Edge.apply(own, (other, several[0]), rule, form) for own, other, rule in sides if own.requires_grad]
        return _Product.apply(several, *edges) if edges else outputs

    return call

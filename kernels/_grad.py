"""Helpers for derivatives of registered operators."""

from typing import Any, NoReturn

from torch.library import CustomOpDef

LAST: set[str] = set()  # operators without a derivative, by their registered names


def not_offered(op: CustomOpDef, what: str) -> None:
    """Let the derivative of `op` raise where it is asked for; without a formula PyTorch's own message names neither `what` nor
    a way out."""

    def backward(ctx: Any, *grads: Any) -> NoReturn:
        raise NotImplementedError(f"{what} is not offered by the kernels; impl='reference' has every order")

    op.register_autograd(backward)
    LAST.add(op._qualname)

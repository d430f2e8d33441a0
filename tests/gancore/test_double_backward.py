"""check_double_backward: condemns operators of first order, in each way that they go wrong, and acquits exact ones."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

import gancore
from gancore.layers import ConvBiasAct2d


class _Square(torch.autograd.Function):
    """x^2 as a fused operator has it: its backward is a raw kernel, which autograd does not see."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        with torch.no_grad():
            return 2 * ctx.saved_tensors[0] * dy


class _Partly(_Square):
    """Linear in dy as it should be, but what was saved is a constant to it."""

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0].detach() * dy


class _Once(_Square):
    """PyTorch's own mark of such an operator raises only for gradients that pass its input."""

    backward = staticmethod(once_differentiable(_Square.backward))


class _Refuses(_Square):
    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            raise NotImplementedError("there is no second derivative")
        return 2 * ctx.saved_tensors[0] * dy


class Apply(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function.apply(x)


def between(layer: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), layer, nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("function", "words"), [(_Square, r"missing|off"), (_Partly, "off"), (_Once, "missing"), (_Refuses, "raises NotImpl")]
)
def test_operators_of_first_order_are_condemned(function: Any, words: str, dtype: torch.dtype) -> None:
    found = gancore.check_double_backward(between(Apply(function)).to(dtype), torch.randn(4, 3, dtype=dtype))
    assert not found
    with pytest.raises(AssertionError, match=words):
        assert found, str(found)
    if function is _Partly:
        assert max(found.errors.values()) > 0.1


def test_an_operator_of_first_order_that_takes_float32_alone() -> None:
    class Only32(_Partly):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            assert x.dtype == torch.float32, "this kernel takes float32"
            ctx.save_for_backward(x)
            return x * x

    class Raises(Only32):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            if x.dtype != torch.float32:
                raise RuntimeError("this kernel takes float32")
            return Only32.forward(ctx, x)

    assert not gancore.check_double_backward(between(Apply(Raises)), torch.randn(4, 3))


def test_a_fault_of_float32_alone_is_found() -> None:
    """Fused kernels often serve float32 and leave float64 to PyTorch."""

    class Mixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.square() if x.dtype == torch.float64 else _Partly.apply(x)

    assert gancore.check_double_backward(between(Mixed()).double(), torch.randn(4, 3).double())
    assert not gancore.check_double_backward(between(Mixed()), torch.randn(4, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_exact_ones_are_acquitted(dtype: torch.dtype) -> None:
    for layer in (nn.Softplus(), nn.LeakyReLU(0.2), nn.LayerNorm(5), nn.Dropout(0.3)):
        found = gancore.check_double_backward(between(layer).to(dtype), torch.randn(4, 3, dtype=dtype))
        assert found, str(found)
        assert set(found.errors) >= {"input 0", "0.weight"}


def test_layers_of_the_library() -> None:
    fused = ConvBiasAct2d(2, 3, 3, padding=1, act="silu", impl="native")
    critic = nn.Sequential(fused, nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(48, 1))
    before = {name: t.clone() for name, t in critic.state_dict().items()}
    assert gancore.check_double_backward(critic, torch.randn(3, 2, 4, 4))
    assert all(torch.equal(t, before[name]) for name, t in critic.state_dict().items())


def test_several_inputs_labels_and_functions() -> None:
    def critic(x: Tensor, y: Tensor, labels: Tensor) -> Tensor:
        return (x * y.tanh()).sum(1) * labels

    found = gancore.check_double_backward(critic, torch.randn(4, 3), torch.randn(4, 3), torch.arange(4))
    assert found
    assert set(found.errors) == {"input 0", "input 1"}
    assert gancore.check_double_backward(lambda x: x.sum(1), torch.randn(4, 3)), "of a linear function they are zero"


def test_nothing_to_differentiate_is_said() -> None:
    with pytest.raises(ValueError, match="floating"):
        gancore.check_double_backward(nn.Embedding(3, 2), torch.arange(3))
    with pytest.raises(ValueError, match="depends on"):
        gancore.check_double_backward(lambda x: torch.ones(3), torch.randn(3))

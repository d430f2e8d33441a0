"""Convolutions that run with what follows them as one operator, as layers with parameters of their own."""

from typing import Any, ClassVar, TypedDict, Unpack

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gancore.layers import units


class Common(TypedDict, total=False):
    """act, slope: the activation. impl: as in the operator. device, dtype: as in torch.nn."""

    act: str | None
    slope: float
    impl: str
    device: Any
    dtype: torch.dtype | None


class Norm(Common, total=False):
    """norm: whether there is one; synchronised, process_group: as torch.nn.SyncBatchNorm; the others: as torch.nn.BatchNorm."""

    norm: bool
    eps: float
    momentum: float | None
    affine: bool
    track_running_stats: bool
    synchronised: bool
    process_group: Any


class Output(Common, total=False):
    """gain, clamp: what follows the activation, as in `gancore.kernels.bias_act`."""

    gain: float | None
    clamp: float | None


Size = int | tuple[int, ...]


class _Fused(nn.Module):
    """Takes over what a convolution of torch.nn has, so that initialisation and meaning are torch.nn's own."""

    _CONVS: ClassVar[dict[int, type]]
    _dims: ClassVar[int]
    weight: Tensor
    bias: Tensor | None

    def _take(self, conv: Any, act: nn.Module | str | None, slope: float, impl: str) -> None:
        kind: Any = self._CONVS[self._dims]
        if not isinstance(conv, kind) or is_parametrized(conv):
            wanted = f"{kind.__name__} without parametrisations, which `gancore.accelerate` leaves in their place"
            raise ValueError(f"{type(self).__name__}: conv got {type(conv).__name__}, wants {wanted}")
        self.register_parameter("weight", conv.weight)
        self.register_parameter("bias", conv.bias)
        for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "output_padding", "dilation", "groups"):
            setattr(self, name, getattr(conv, name))
        named = (act, slope) if isinstance(act, str) else units.activation(act)
        if named is None or named[0] not in units.ACTIVATIONS:
            raise ValueError(f"{type(self).__name__}: act got {act}, wants one of {', '.join(units.ACTIVATIONS)}")
        (self.act, self.slope), self.impl = named, impl

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, act={self.act}"


class _ConvTransposeBNAct(_Fused):
    _CONVS: ClassVar = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
    _NORMS: ClassVar = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        **options: Unpack[Norm],
    ) -> None:
        super().__init__()
        place = _chosen(self, options, Norm, "device", "dtype")
        sizes = (in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation)
        bn = None
        conv = self._CONVS[self._dims](*sizes, **place)
        if options.get("norm", True):
            how = _chosen(self, options, Norm, "eps", "momentum", "affine", "track_running_stats")
            bn = self._NORMS[self._dims](out_channels, **how, **place)
        self._take(conv, options.get("act", "relu"), options.get("slope", 0.2), options.get("impl", "auto"))
        self._take_norm(bn, options.get("synchronised", False), options.get("process_group"))

    @classmethod
    def from_modules(cls, conv: nn.Module, bn: nn.Module | None, act: nn.Module | str | None, *, impl: str = "auto") -> Any:
        """The layer of these modules: their own parameters and buffers, so that an optimiser that has them keeps them.

        act: a module, a name (leaky_relu then has slope 0.2) or None. Raises ValueError for a module that has no part in it.
        """
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._take(conv, act, 0.2, impl)
        layer._take_norm(bn, isinstance(bn, nn.SyncBatchNorm), getattr(bn, "process_group", None))
        return layer.train((conv if bn is None else bn).training)

    def _take_norm(self, bn: Any, synchronised: bool, process_group: Any) -> None:
        kinds = (self._NORMS[self._dims], nn.SyncBatchNorm)
        if bn is not None and (not isinstance(bn, kinds) or is_parametrized(bn) or bn.num_features != self.out_channels):
            wanted = f"{kinds[0].__name__} or SyncBatchNorm of {self.out_channels} channels without parametrisations"
            raise ValueError(f"{type(self).__name__}: bn got {bn}, wants {wanted}")
        for name in ("weight", "bias"):
            self.register_parameter(f"bn_{name}", getattr(bn, name, None))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(bn, name, None))
        self.normalised, self.synchronised, self.process_group = bn is not None, synchronised, process_group
        for name in ("eps", "momentum", "track_running_stats"):
            setattr(self, name, getattr(bn, name, None))

    def link(self) -> Any:
        """The layer as `gancore.kernels.conv_transpose_chain` takes it."""
        bare = units.link(self, None, self.act, self.slope)
        if not self.normalised:
            return bare
        norm: dict[str, Any] = {"bn_weight": self.bn_weight, "bn_bias": self.bn_bias, **units.statistics(self)}
        return bare._replace(**norm)

    def forward(self, x: Tensor) -> Tensor:
        return units.transposed(x, [self.link()], self._dims, self.impl)


class ConvTransposeBNAct1d(_ConvTransposeBNAct):
    """act(batch_norm(conv_transpose1d(x))): ConvTranspose1d, BatchNorm1d and activation as one operator, with their arguments."""

    _dims = 1


class ConvTransposeBNAct2d(_ConvTransposeBNAct):
    """act(batch_norm(conv_transpose2d(x))): ConvTranspose2d, BatchNorm2d and activation as one operator, with their arguments."""

    _dims = 2


class ConvTransposeBNAct3d(_ConvTransposeBNAct):
    """act(batch_norm(conv_transpose3d(x))): ConvTranspose3d, BatchNorm3d and activation as one operator, with their arguments."""

    _dims = 3


class ConvTransposeChain(nn.Sequential):
    """Such layers one after another, in training with one tensor a layer kept for backward; with the keys of nn.Sequential."""

    def __init__(self, *layers: Any, impl: str = "auto") -> None:
        super().__init__(*layers)
        self.impl = impl
        for layer in self:
            if not isinstance(layer, _ConvTransposeBNAct):
                raise ValueError(f"ConvTransposeChain: layers got {type(layer).__name__}, wants layers of ConvTransposeBNAct")

    def forward(self, x: Tensor) -> Tensor:
        layers: list[Any] = list(self)
        if not layers or any(units.hooked(layer) for layer in layers):
            return super().forward(x)
        return units.transposed(x, [layer.link() for layer in layers], layers[0]._dims, self.impl)


class _ConvBiasAct(_Fused):
    _CONVS: ClassVar = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        **options: Unpack[Output],
    ) -> None:
        super().__init__()
        place = _chosen(self, options, Output, "device", "dtype")
        sizes = (in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        conv = self._CONVS[self._dims](*sizes, **place)
        self._take(conv, options.get("act"), options.get("slope", 0.2), options.get("impl", "auto"))
        self.gain, self.clamp = options.get("gain"), options.get("clamp")

    @classmethod
    def from_modules(cls, conv: nn.Module, act: nn.Module | str | None, *, impl: str = "auto") -> Any:
        """The layer of these modules: their own parameters, so that an optimiser that has them keeps them.

        act: a module, a name (leaky_relu then has slope 0.2) or None. Raises ValueError for a module that has no part in it.
        """
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._take(conv, act, 0.2, impl)
        layer.gain = layer.clamp = None
        return layer.train(conv.training)

    def _take(self, conv: Any, act: nn.Module | str | None, slope: float, impl: str) -> None:
        super()._take(conv, act, slope, impl)
        zeros = units.padding(conv)
        if zeros is None:
            got = f"{conv.padding!r} in mode {conv.padding_mode!r}"
            raise ValueError(f"{type(self).__name__}: padding got {got}, wants zeros, as many on both sides")
        self.padding = zeros

    def forward(self, x: Tensor) -> Tensor:
        where: dict[str, Any] = {name: getattr(self, name) for name in ("stride", "padding", "dilation", "groups")}
        after: dict[str, Any] = {name: getattr(self, name) for name in ("act", "slope", "gain", "clamp", "impl")}
        return units.convolution(self._dims)(x, self.weight, self.bias, **where, **after)


class ConvBiasAct1d(_ConvBiasAct):
    """clamp(gain * act(conv1d(x))) as one operator, with the arguments of Conv1d."""

    _dims = 1


class ConvBiasAct2d(_ConvBiasAct):
    """clamp(gain * act(conv2d(x))) as one operator, with the arguments of Conv2d."""

    _dims = 2


class ConvBiasAct3d(_ConvBiasAct):
    """clamp(gain * act(conv3d(x))) as one operator, with the arguments of Conv3d."""

    _dims = 3


def _chosen(layer: nn.Module, options: Any, known: type, *names: str) -> dict[str, Any]:
    unknown = [name for name in options if name not in known.__annotations__ | Common.__annotations__]
    if unknown:
        raise TypeError(f"{type(layer).__name__}: got an unexpected argument {unknown[0]!r}")
    return {name: options[name] for name in names if name in options}

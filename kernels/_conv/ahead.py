"""Convolutions on a GPU: the variants that are compiled ahead of time, as device.py launches them."""

from typing import Any

from gancore.kernels._conv import kernels
from gancore.kernels._spec import Ahead

_LAYER: dict[str, Any] = {"K": (1, 4, 4), "S": (1, 2, 2), "P": (0, 1, 1)}
_FIRST = {"K": (1, 4, 4), "S": (1, 4, 4), "P": (0, 0, 0)}  # of a single position
_PRECISION = {"bf16": "tf32", "fp32": "tf32x3"}
_FLOAT32 = ("moments_ptr", "sums_ptr", "parts_ptr")


def _variant(
    kernel: Any, dtype: str, tile: tuple[int, int, int], registers: int, shared: int, *, warps: int = 8, stages: int = 3,
    few: str = "", **constants: Any,
) -> Ahead:  # fmt: skip
    """A product of `tile` rows, columns and chunk. few: the number of channels that is no multiple of 16."""
    rows, cols, chunk = tile
    # Two spatial dimensions: the sizes of the third are one, which Triton takes for constants.
    of_two = {name: 1 for name in ("x0", "y0", "g0") if name in kernel.arg_names}
    constants = {**of_two, "BM": rows, "BN": cols, "BK": chunk, "PRECISION": _PRECISION[dtype], "WIDE": False, **constants}
    signature = {}
    for name in kernel.arg_names:
        if name.endswith("_ptr"):
            signature[name] = "*fp32" if name in _FLOAT32 else f"*{dtype}"
        elif name not in constants:
            signature[name] = "i32:16" if name in ("channels", "columns") and name != few else "i32"
    amd = {"BN": min(64, cols), "PRECISION": "ieee"}
    return Ahead(
        kernel, signature, constants, warps=warps, stages=stages, registers=registers, shared=shared, instead={"gfx942": amd},
        tensor_core="wgmma.mma_async" if dtype == "bf16" else "",
    )  # fmt: skip


def _gemm(dtype: str, tile: tuple[int, int, int], registers: int, shared: int, **options: Any) -> Ahead:
    flags = {"UP": True, "FLAT": False, "RAGGED": False, "STATISTICS": True, **_LAYER}
    return _variant(kernels.gemm_kernel, dtype, tile, registers, shared, **{**flags, **options})


def ahead() -> tuple[Ahead, ...]:
    """Of layers with statistics: in bfloat16, there with a kernel of 5, in float32, and the first of a generator; its last layer;
    the ordinary direction, and from 3 channels; weight gradients; the merging of parts."""
    ordinary = {"UP": False, "STATISTICS": False}
    five = {"RAGGED": True, "K": (1, 5, 5), "P": (0, 2, 2)}
    return (
        _gemm("bf16", (128, 128, 64), 255, 98336),
        _gemm("bf16", (128, 128, 64), 255, 98336, **five),
        _gemm("fp32", (128, 64, 32), 192, 65568),
        _gemm("bf16", (64, 64, 64), 192, 49184, warps=4, **_FIRST),
        _gemm("bf16", (128, 128, 64), 224, 98336, **ordinary),
        _gemm("bf16", (64, 64, 64), 208, 32800, warps=4, few="channels", FLAT=True, **ordinary),
        _variant(
            kernels.patch_kernel, "bf16", (128, 16, 64), 255, 18464, warps=4, stages=1, few="columns", STATISTICS=False, **_LAYER
        ),
        _variant(kernels.weight_kernel, "bf16", (128, 128, 64), 192, 65568, stages=2, FLAT=False, **_LAYER),
        _variant(kernels.weight_kernel, "fp32", (64, 64, 32), 192, 49184, stages=2, FLAT=False, **_LAYER),
        Ahead(
            kernels.add_kernel, {"parts_ptr": "*fp32", "out_ptr": "*bf16", "size": "i32:16", "parts": "i32"},
            {"WIDE": False, "BLOCK": 1024}, registers=64, shared=4096,
        ),
        Ahead(
            kernels.moments_kernel,
            {**dict.fromkeys(("moments_ptr", "mean_ptr", "var_ptr"), "*fp32"), "tiles": "i32", "columns": "i32:16"},
            {"BM": 256, "BN": 8}, registers=128, shared=4096,
        ),
    )  # fmt: skip

"""Kernel sums on a GPU: the variants that are compiled ahead of time, as device.py launches them."""

from collections.abc import Mapping
from typing import Any

from gancore.kernels._spec import Ahead
from gancore.kernels.kernel_sums import device_kernels as programs
from gancore.kernels.kernel_sums.kernel import ABSOLUTE, GAUSSIAN, KINDS, LAPLACIAN, SQUARED

_CHAIN = (GAUSSIAN, *[GAUSSIAN + KINDS * 2] * 4)  # five bandwidths, each half of the one before
_MULTIPLES = ("rows", "cols", "features", "high", "wide", "row0", "col0", "w_block", "w_row")
_POINTS = ("x_ptr", "y_ptr", "px_ptr", "py_ptr", "w_ptr", "w2_ptr", "first_ptr", "second_ptr")


def _variant(
    kernel: Any, rows: int, cols: int, precision: str, registers: int, shared: int, constants: Mapping[str, Any],
    instead: Mapping[str, Mapping[str, Any]], brief: bool = False,
) -> Ahead:  # fmt: skip
    constants = {"METRIC": SQUARED, "BM": rows, "BN": cols, "PRECISION": precision, **constants}
    if kernel is not programs.gather_kernel:
        constants = {"CODES": _CHAIN, "SAME": False, "DROP": False, "BE": 1, **constants}
    wide = ("out_ptr",) if kernel is programs.values_kernel else ("total_ptr",)
    signature = {}
    for name in kernel.arg_names:
        if name in constants:
            continue
        if name.endswith("_ptr"):
            signature[name] = "*fp64" if name in wide else "*bf16" if brief and name in _POINTS else "*fp32"
        else:
            signature[name] = "i32:16" if name in _MULTIPLES else "i32"
    amd = {"gfx942": {"PRECISION": "ieee", "BN": 16 if cols == 32 and kernel is not programs.gather_kernel else cols}}
    merged = {name: {**amd.get(name, {}), **instead.get(name, {})} for name in {*amd, *instead}}
    stages = 3 if kernel is programs.gather_kernel else 2
    return Ahead(
        kernel, signature, constants, warps=8, stages=stages, registers=registers, shared=shared, instead=merged,
        tensor_core="wgmma.mma_async" if brief else "",
    )  # fmt: skip


_NO_TANGENT, _TANGENTS = {"PX": False, "PY": False}, {"PX": True, "PY": True}


def of_products() -> tuple[Ahead, ...]:
    """Of kernel_dot: the value, the second derivative, and |x - y|_1."""
    value = {"ORDER": 0, "HALF": False, "BK": 32, **_NO_TANGENT}
    second = {"ORDER": 2, "BK": 32, **_TANGENTS}
    absolute = {"METRIC": ABSOLUTE, **_NO_TANGENT}
    return (
        _variant(programs.values_kernel, 64, 32, "tf32x3", 255, 32768, value, {}),
        _variant(programs.tiles_kernel, 64, 32, "tf32x3", 255, 32768, second, {}),
        _variant(programs.gather_kernel, 64, 32, "tf32x3", 255, 98304, {"BF": 64, **_TANGENTS}, {}),
        _variant(programs.tiles_kernel, 64, 64, "ieee", 255, 32768, {**absolute, "CODES": (LAPLACIAN,), "ORDER": 1, "BK": 16}, {}),
        _variant(programs.gather_kernel, 64, 32, "ieee", 128, 16384, {**absolute, "BF": 64}, {}),
    )


def of_sums() -> tuple[Ahead, ...]:
    """Of mmd2: the value, the gradient with few features, and with many in bfloat16."""
    value = {"ORDER": 0, "HALF": True, "SAME": True, "DROP": True, "BK": 32, **_NO_TANGENT}
    older = {"sm_80": {"BN": 16}}
    return (
        _variant(programs.values_kernel, 64, 32, "tf32x3", 255, 32768, value, {}),
        _variant(programs.rows_kernel, 64, 32, "tf32x3", 255, 65536, {"D": 64, "BK": 32}, older),
        _variant(programs.rows_kernel, 64, 32, "tf32x3", 255, 65536, {"D": 128, "BK": 32}, older),
        _variant(programs.rows_kernel, 64, 32, "tf32", 255, 65536, {"D": 128, "BK": 32}, {}, brief=True),
        _variant(programs.tiles_kernel, 64, 64, "tf32", 255, 65536, {"ORDER": 1, "BK": 64, **_NO_TANGENT}, {}, brief=True),
        _variant(programs.gather_kernel, 128, 64, "tf32", 255, 131072, {"BF": 128, **_NO_TANGENT}, {}, brief=True),
    )

"""The table of measured tiles: the file, what is refused in it, what is looked up, and that what it says is what is launched."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gancore import kernels
from gancore.kernels import _tiles, _triton
from gancore.kernels.kernel_sums import device_sizes as sums
from tests.kernels.walk import place

LIKE = torch.empty(0)
POINTWISE = _tiles.KERNELS["interpolate"]
USUAL = _tiles.Block(1024, 4)


def images(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(len(size) * size[0]))


# -- the file ------------------------------------------------------------------------------------------------------------------


def test_the_file_of_the_package_is_a_table():
    _tiles.check(json.loads(_tiles.TABLE.read_text()))


def test_candidates_are_few_enough_to_try_and_within_the_budget():
    for kernel in _tiles.KERNELS.values():
        for size in set(_tiles.BYTES.values()):
            found = kernel.candidates(size)
            assert 2 <= len(found) <= 40, kernel.name
            assert all(kernel.fits(tile, size) and tile.keys() == kernel.choices.keys() for tile in found)


KEY = POINTWISE.key(torch.float32, 0, 5000)
TILE = {"elements": 2048, "warps": 8}
BAD = {
    "no table": ([], "wants a table"),
    "no tiles": ({"a GPU": {}}, "wants 'measured' and 'tiles'"),
    "a kernel": ({KEY.replace("interpolate", "extrapolate"): TILE}, "there is no kernel 'extrapolate'; there are "),
    "a type": ({KEY.replace("float32", "float64"): TILE}, "the type is 'float64'"),
    "a class of another kernel": ({"interpolate/float32/rows=4": TILE}, "wants a class of each, elements"),
    "no class": ({"interpolate": TILE}, "the type is ''"),
    "a size": ({KEY.replace("8192", "5000"): TILE}, "5000 is no class of sizes"),
    "no candidate": ({KEY: {"elements": 1000, "warps": 8}}, "is no candidate"),
    "a field": ({KEY: {**TILE, "stages": 2}}, "is no candidate"),
    "no tile": ({KEY: 2048}, "is no candidate"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_entry_is_refused_and_named(name: str):
    table, words = BAD[name]
    if isinstance(table, dict) and "a GPU" not in table:
        table = {"a GPU": {"measured": {}, "tiles": table}}
    with pytest.raises(ValueError, match=words):
        _tiles.check(table)
    good = {"a GPU": {"measured": {}, "tiles": {KEY: TILE}}}
    assert _tiles.check(good) is good


# -- looking up ----------------------------------------------------------------------------------------------------------------


def test_a_tile_serves_its_device_type_and_class_alone():
    with _tiles.using("cpu", {KEY: TILE}):
        assert [POINTWISE.of(LIKE, USUAL, 0, n) for n in (4097, 8192)] == [_tiles.Block(2048, 8)] * 2
        for like, each, n in ((LIKE, 0, 4096), (LIKE, 0, 8193), (LIKE, 1, 8192), (LIKE.bfloat16(), 0, 8192)):
            assert POINTWISE.of(like, USUAL, each, n) is USUAL
        assert POINTWISE.of(LIKE.to("meta"), USUAL, 0, 8192) is USUAL
    with _tiles.using("another", {KEY: TILE}):
        assert POINTWISE.of(LIKE, USUAL, 0, 8192) is USUAL
    assert POINTWISE.of(LIKE, USUAL, 0, 8192) is USUAL


def test_classes_of_sizes():
    assert [_tiles.span(n) for n in (0, 1, 2, 3, 4, 5, 1000, 1024)] == [0, 1, 2, 4, 4, 8, 1024, 1024]


def test_a_tile_may_name_some_fields_only_and_no_unknown_ones():
    found = _tiles.KERNELS["conv.patch"]
    from gancore.kernels._conv import sizes

    key = found.key(torch.float32, 8, 12, 3)
    with _tiles.using("cpu", {key: {"rows": 64}}):
        assert found.of(LIKE, sizes.SMALL, 8, 12, 3) == sizes.SMALL._replace(rows=64)
    with _tiles.using("cpu", {key: {"lines": 64}}), pytest.raises(ValueError, match="lines"):
        found.of(LIKE, sizes.SMALL, 8, 12, 3)


def test_what_was_asked_is_told():
    with _tiles.asked() as keys:
        POINTWISE.of(LIKE, USUAL, 0, 8000)
    POINTWISE.of(LIKE, USUAL, 0, 80)
    assert keys == {KEY: (POINTWISE, USUAL._asdict())}


def test_nothing_of_triton_is_needed_to_import_and_look_up():
    code = "import sys; sys.modules['triton'] = None; import torch; from gancore.kernels import _tiles; " \
        "k = _tiles.KERNELS['interpolate']; u = _tiles.Block(1, 1); assert k.of(torch.empty(1), u, 0, 1) is u"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- what is launched ----------------------------------------------------------------------------------------------------------


def derivative(run: Callable[..., Tensor], *tensors: Tensor, order: int = 1) -> list[Tensor]:
    leaves = [t.clone().requires_grad_() for t in tensors]
    y = run(*leaves)
    first = torch.autograd.grad(y, leaves, torch.ones_like(y), create_graph=order == 2)
    if order == 1:
        return [y.detach(), *first]
    return [y.detach(), *torch.autograd.grad(torch.stack([g.square().sum() for g in first]).sum(), leaves)]


def bias(x: Tensor, b: Tensor) -> Tensor:
    return kernels.bias_act(x, b, act="silu", impl="triton")


def norm(x: Tensor) -> Tensor:
    return kernels.batch_norm_act(x, training=True, act="tanh", impl="triton")


def between(real: Tensor, fake: Tensor) -> Tensor:
    return kernels.interpolate(real, fake, torch.linspace(0, 1, len(real)).to(real), impl="triton")


def penalty(grad: Tensor) -> Tensor:
    return kernels.gradient_norm_penalty(grad, impl="triton")


def minibatch(x: Tensor) -> Tensor:
    return kernels.minibatch_discrimination(x, impl="triton")


def critic(x: Tensor, w: Tensor) -> Tensor:
    return kernels.conv2d_bias_act(x, w, stride=2, padding=1, act="tanh", impl="triton")


def generator(x: Tensor, w: Tensor) -> Tensor:
    return kernels.conv_transpose2d_bn_act(x, w, stride=2, padding=1, act="tanh", impl="triton")


def mmd(x: Tensor, y: Tensor) -> Tensor:
    return kernels.mmd2(x, y, kernels.gaussian([3.0, 9.0]), impl="triton")


def dot(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    return kernels.kernel_dot(x, y, v, kernels.gaussian([3.0, 9.0]), impl="triton")


def numbers(x: Tensor, y: Tensor, bandwidths: Tensor) -> Tensor:
    return kernels.mmd2(x, y, kernels.gaussian(bandwidths.abs() + 1), impl="triton")


ROWS, PAIRS = {"elements": "ROWS"}, {"rows": "BM", "cols": "BN", "chunk": "BK"}
GATHER = {"rows": "BM", "cols": "BN", "columns": "BF", "stages": "num_stages"}
BLOCK = {"elements": 512, "warps": 4}
PRODUCT = {"rows": 64, "cols": 64, "chunk": 64, "warps": 4, "stages": 3}
SMALL_PAIRS = {"rows": 64, "cols": 16, "chunk": 16, "warps": 4}
SUMS = {"rows": 64, "cols": 32, "columns": 64, "warps": 8, "stages": 2}
IMAGES, LAYER = ((2, 3, 20, 20), (3,)), ((2, 5, 8, 8), (20, 5, 4, 4))
NEAR, FAR = ((37, 3), (50, 3)), ((37, 140), (50, 140), (50, 3))

# Of each kernel a call and the order of the derivative that launches it, a tile, and what its fields are called at the launch.
WORK: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...], int, dict[str, int], dict[str, str]]] = {
    "bias_act": (bias, IMAGES, 2, BLOCK, ROWS),
    **{f"batch_norm_act.{step}": (norm, IMAGES[:1], 1, BLOCK, ROWS) for step in ("moments", "value", "sums", "gradient")},
    "interpolate": (between, ((4, 3, 17, 17),) * 2, 1, BLOCK, {"elements": "BLOCK"}),
    "gradient_norm_penalty": (penalty, ((3, 1500),), 2, BLOCK, {"elements": "BLOCK"}),
    "minibatch_discrimination": (
        minibatch, ((20, 2, 3),), 2, {"rows": 8, "cols": 16, "warps": 2}, {"rows": "ROWS", "cols": "COLS"}
    ),
    "conv.gemm": (critic, LAYER, 1, PRODUCT, PAIRS),
    "conv.weight": (critic, LAYER, 1, PRODUCT, PAIRS),
    "conv.patch": (generator, ((2, 5, 4, 4), (5, 3, 4, 4)), 1, {"rows": 64, "chunk": 16, "warps": 8, "stages": 2},
        {"rows": "BM", "chunk": "BK", "stages": "num_stages"}),
    **{f"kernel_sums.{name}": (dot, FAR, 2, SMALL_PAIRS, PAIRS) for name in ("values0", "values2", "tiles2")},
    "kernel_sums.rows": (mmd, NEAR, 1, {**SMALL_PAIRS, "warps": 8}, PAIRS),
    "kernel_sums.tiles1": (mmd, FAR[:2], 1, SMALL_PAIRS, PAIRS),
    "kernel_sums.gather1": (mmd, FAR[:2], 1, SUMS, GATHER),
    "kernel_sums.gather2": (dot, FAR, 2, SUMS, GATHER),
    "kernel_sums.numbers": (numbers, (*NEAR, (2,)), 1, SMALL_PAIRS, PAIRS),
}  # fmt: skip


def test_every_kernel_has_its_work():
    assert WORK.keys() == _tiles.KERNELS.keys()


@pytest.mark.parametrize("name", WORK)
def test_a_stored_tile_is_launched_and_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch):
    device = place("triton")
    monkeypatch.setattr(sums, "SMALL", sums.SMALL._replace(rows=64))  # rows come in such units
    run, shapes, order, tile, constants = WORK[name]
    tensors = [images(*shape).to(device) for shape in shapes]
    with _tiles.asked() as keys:
        wanted = derivative(run, *tensors, order=order)
    own = {key: found for key, found in keys.items() if found.kernel.name == name}
    assert own, f"looked up were {list(keys)}"
    assert tile in _tiles.KERNELS[name].candidates(4)
    launched: list[dict[str, Any]] = []
    launch = _triton.launch

    def spy(*args: Any, **options: Any) -> None:
        launched.append(options)
        launch(*args, **options)

    def seen() -> bool:
        at_launch = {constants.get(field, f"num_{field}"): value for field, value in tile.items()}
        return any(at_launch.items() <= options.items() for options in launched)

    monkeypatch.setattr(_triton, "launch", spy)
    derivative(run, *tensors, order=order)
    assert not seen()
    with _tiles.using(_tiles.device_of(device), dict.fromkeys(own, tile)):
        found = derivative(run, *tensors, order=order)
    assert seen()
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

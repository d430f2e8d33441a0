"""Every operator through the contract of DESIGN section 2: one test a clause, walked over all SPECs, kernels and samples."""

import importlib
import re
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from torch.library import opcheck

import gancore.kernels
from gancore.kernels import _dispatch, _grad, _native, _triton
from gancore.kernels._spec import HALF, Sample, Spec
from tests.kernels.checks import (
    Calls,
    assert_agrees,
    assert_close,
    assert_same_bits,
    assert_same_specials,
    derivatives,
    leaves_of,
    outputs_of,
    weight_gradients,
)
from tests.kernels.walk import SPECS, bodies, bound, draw, each, place


def test_discovery_and_exports() -> None:
    assert SPECS, "no operator found"
    for name, spec in SPECS.items():
        assert getattr(gancore.kernels, spec.fn.__name__) is spec.fn, f"{name} is not exported by its module's __all__"
        assert spec.fn.__name__ in gancore.kernels.__all__
        importlib.import_module(spec.fn.__module__)
        assert getattr(gancore.kernels, spec.fn.__name__) is spec.fn, f"the module took the place of {name}"


# Clause 1, 4: values and derivatives.


@pytest.mark.usefixtures("poisoned")
@each("triton", "native")
def test_agrees_with_the_float64_reference(spec: Spec, impl: str, sample: Sample) -> None:
    device = place(impl)
    for dtype in spec.dtypes[impl]:
        tensors = draw(sample, dtype, device)
        assert_agrees(bound(spec, impl), spec.reference, tensors, sample.options, spec.grad_order, f"{dtype}")


@each("native", "reference")
def test_gradcheck(spec: Spec, impl: str, sample: Sample) -> None:
    place(impl)
    if impl != "reference" and torch.float64 not in spec.dtypes[impl]:
        pytest.skip("the kernel takes no float64")
    leaves = leaves_of(draw(sample, torch.float64, torch.device("cpu")))

    def call(*tensors: Tensor) -> Any:
        return spec.fn(**dict(zip(leaves, tensors, strict=True)), **sample.options, impl=impl)

    assert torch.autograd.gradcheck(call, tuple(leaves.values()), fast_mode=True)
    if spec.grad_order > 1:
        assert torch.autograd.gradgradcheck(call, tuple(leaves.values()), fast_mode=True)


@each("triton", "native", samples=3)
def test_subsets_of_inputs(spec: Spec, impl: str, sample: Sample) -> None:
    """.backward() and autograd.grad give the same for every input, asked for alone or with the others, required alone or
    not."""
    tensors = draw(sample, torch.float32, place(impl))
    leaves = leaves_of(tensors)
    outputs_of(bound(spec, impl)(**leaves, **sample.options))[0].square().sum().backward()
    for name, leaf in leaves.items():
        for only in (False, True):
            others = {n: t.detach().clone().requires_grad_(t.is_floating_point() and not only) for n, t in tensors.items()}
            others[name].requires_grad_()
            y = outputs_of(bound(spec, impl)(**others, **sample.options))[0]
            (alone,) = torch.autograd.grad(y.square().sum(), [others[name]])
            assert_same_bits(alone, leaf.grad, f"{name}, only={only}")


# Clause 2: derivatives that are not offered.


@each("triton", "native")
def test_higher_orders_are_right_or_refused(spec: Spec, impl: str, sample: Sample) -> None:
    tensors, order = draw(sample, torch.float32, place(impl)), spec.grad_order + 1
    try:
        found = derivatives(bound(spec, impl), tensors, sample.options, order)
    except NotImplementedError as error:
        words = str(error)
    else:
        words = ""
    if words:
        assert "not offered" in words, words
        assert "impl='reference'" in words, words
        return
    truth = derivatives(spec.reference, {n: t.double() for n, t in tensors.items()}, sample.options, order)
    for name, expected in truth.items():
        assert_close(found[name], expected, name, expected.float())


# Clause 3: torch.library and torch.compile.


@each("triton", "native")
def test_opcheck(spec: Spec, impl: str, sample: Sample) -> None:
    tensors = draw(sample, torch.float32, place(impl))
    with Calls() as calls:
        derivatives(bound(spec, impl), tensors, sample.options, spec.grad_order)
    # The last call of each; native operators only fill the tensors that registered ones hand them.
    registered = {f: args for f, args in calls.seen if f.namespace == "gancore" and not f._opname.endswith("_native")}
    if not registered:
        assert spec.library, "no registered operator was called"
        pytest.skip("the library alone does this sample")
    for func, args in registered.items():
        grad = func._schema.name not in _grad.LAST
        # Tensors of another type than the inputs are parameters of the operator, which may have no second derivative.
        own = [isinstance(a, Tensor) and a.dtype == torch.float32 for a in args]
        opcheck(
            func,
            tuple(
                a.detach().clone().requires_grad_(grad and one) if isinstance(a, Tensor) else a
                for a, one in zip(args, own, strict=True)
            ),
        )


@each("triton", "native", "reference", samples=4)
def test_compiled_equals_eager_for_any_batch(spec: Spec, impl: str, sample: Sample) -> None:
    torch._dynamo.reset()
    tensors = draw(sample, torch.float32, place(impl))
    fn = bound(spec, impl)
    compiled = torch.compile(fn, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in (9, 11, 14):  # larger than any other size: Dynamo takes equal sizes for one
            grown = {n: torch.cat([t] * batch) if n in spec.batched else t for n, t in tensors.items()}
            eager = derivatives(fn, grown, sample.options, 1)
            for name, value in derivatives(compiled, grown, sample.options, 1).items():
                assert_close(value, eager[name].double(), name, eager[name])


# Clause 4: mixed precision.


@each(samples=3)
def test_types_and_autocast_are_those_of_the_reference(spec: Spec, impl: str, sample: Sample) -> None:
    """Under autocast and with inputs of different types the result has the reference's type and at most its error."""
    device = place(impl)
    for low in HALF:
        tensors = draw(sample, torch.float32, device)
        mixed = {n: t.to(low) if n in spec.batched else t for n, t in tensors.items()}
        for enabled in (False, True):
            with torch.autocast(device.type, low, enabled=enabled):
                plain = derivatives(spec.reference, mixed, sample.options, 1)
                found = derivatives(bound(spec, impl), mixed, sample.options, 1)
            truth = derivatives(spec.reference, {n: t.double() for n, t in mixed.items()}, sample.options, 1)
            for name, expected in truth.items():
                assert_close(found[name], expected, f"{low}, autocast {enabled}: {name}", plain[name])


# Clause 5: layouts, and tensors that are not the operator's to write to.


def transposed(t: Tensor) -> Tensor:
    return t.transpose(0, -1).contiguous().transpose(0, -1)


LAYOUTS = {
    "channels_last": lambda t: (
        t.to(memory_format={4: torch.channels_last, 5: torch.channels_last_3d}[t.ndim]) if t.ndim in (4, 5) else transposed(t)
    ),
    "transposed": transposed,
    "sliced": lambda t: torch.stack([t, t], -1)[..., 1],
    "offset": lambda t: torch.cat([t[:1], t])[1:],
    "expanded": lambda t: t[:1].expand_as(t),
    "empty": lambda t: t[:0],
    "single": lambda t: t[:1],
}


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize("layout", LAYOUTS)
@each("triton", "native", samples=None)
def test_layouts(spec: Spec, impl: str, sample: Sample, layout: str) -> None:
    tensors = draw(sample, torch.float32, place(impl))
    batch_along = sample.options.get("dim") == 0 and layout in ("empty", "single")
    if batch_along:
        pytest.skip("the batch is the channel here")
    tensors = {n: LAYOUTS[layout](t) if n in spec.batched else t for n, t in tensors.items()}
    try:
        spec.reference(**tensors, **sample.options)
    except ValueError as error:  # too few for what is asked
        with pytest.raises(ValueError, match=re.escape(str(error))):
            bound(spec, impl)(**tensors, **sample.options)
        return
    before = {n: t.clone() for n, t in tensors.items()}
    assert_agrees(bound(spec, impl), spec.reference, tensors, sample.options, spec.grad_order, layout)
    for name, t in tensors.items():
        assert_same_bits(t, before[name], f"{name} was written to")
    if layout == "channels_last":
        ours, theirs = (outputs_of(f(**tensors, **sample.options))[0] for f in (bound(spec, impl), spec.reference))
        # The library's own transposed convolution of volumes does not keep it on a CPU.
        lost = theirs.is_contiguous() and not ours.is_contiguous() and spec.library
        assert lost or ours.stride() == theirs.stride(), "the layout was not kept"


@pytest.mark.usefixtures("poisoned")
@each("triton", "native", samples=None)
def test_gradients_of_any_layout(spec: Spec, impl: str, sample: Sample) -> None:
    """The incoming gradient may be expanded, or laid out otherwise than the output."""
    tensors = draw(sample, torch.float32, place(impl))
    for change in (lambda y: y.sum(), lambda y: (transposed(y) * torch.arange(y.numel()).view_as(y)).sum()):
        double = {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}
        found = []
        for fn, inputs in ((bound(spec, impl), tensors), (spec.reference, double), (spec.reference, tensors)):
            leaves = leaves_of(inputs)
            loss = sum(change(y) for y in outputs_of(fn(**leaves, **sample.options)))
            found.append(torch.autograd.grad(loss, list(leaves.values())))
        for ours, truth, plain in zip(*found, strict=True):
            assert_close(ours, truth, "gradient", plain)


@pytest.mark.gpu
@bodies()
def test_more_than_2_to_31_elements(spec: Spec, impl: str) -> None:
    """Values and gradients of the last batch entries do not depend on two thousand million elements before them."""
    if spec.mixes:
        pytest.skip("its rows depend on one another, so that there is nothing to compare with")
    device = place(impl)
    sample = next(s for s in spec.samples if all(n in s.draw(Generator()) for n in spec.batched))
    small = draw(sample, torch.bfloat16, device)
    times = (1 << 31) // max(small[n].numel() for n in spec.batched) + 2
    large = {n: t.repeat(times, *[1] * (t.ndim - 1)) if n in spec.batched else t for n, t in small.items()}
    ours, theirs = (outputs_of(bound(spec, impl)(**t, **sample.options))[0] for t in (large, small))
    assert_same_bits(ours[-len(theirs) :], theirs, "last entries")


# Clause 6: the choice of a body.


@bodies()
def test_explicit_choice_runs_or_is_refused(spec: Spec, impl: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = spec.samples[0]
    tensors = draw(sample, torch.float32, place(impl))
    with Calls() as calls:
        bound(spec, impl)(**tensors, **sample.options)
    assert calls.seen, f"impl={impl!r} ran no kernel"
    with Calls() as calls:
        bound(spec, "reference")(**tensors, **sample.options)
    assert all(func.namespace == "aten" for func, _ in calls.seen), "the reference ran a kernel"
    with pytest.raises(ValueError, match=r"impl got 'cuda', wants one of 'auto', 'triton', 'native', 'reference'"):
        spec.fn(**tensors, **sample.options, impl="cuda")
    module = {"native": _native, "triton": _triton}[impl]
    monkeypatch.setattr(module, "missing", lambda device: "it is missing; pip install it")
    with pytest.raises(RuntimeError, match=rf"{spec.name}: impl='{impl}' cannot run here: it is missing; pip install it"):
        bound(spec, impl)(**tensors, **sample.options)
    bound(spec, "auto")(**tensors, **sample.options)


@bodies()
def test_types_that_a_kernel_does_not_take_are_refused(spec: Spec, impl: str) -> None:
    place(impl)
    sample = spec.samples[0]
    for dtype in {torch.float64, torch.float32, *HALF} - set(spec.dtypes[impl]):
        tensors = draw(sample, dtype)
        with pytest.raises(RuntimeError, match=rf"the {impl} kernel takes .*, not {dtype}"):
            bound(spec, impl)(**tensors, **sample.options)
        bound(spec, "auto")(**tensors, **sample.options)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # numpy's, in the interpreter
@each("triton", "native")
def test_nan_and_inf_come_out_as_from_the_reference(spec: Spec, impl: str, sample: Sample) -> None:
    tensors = draw(sample, torch.float32, place(impl))
    specials = torch.tensor([torch.nan, torch.inf, -torch.inf])
    for name in tensors:
        spoiled = {n: t.clone() for n, t in tensors.items()}
        spoiled[name].view(-1)[:3] = specials.to(tensors[name].device)
        ours, theirs = (derivatives(f, spoiled, sample.options, 1) for f in (bound(spec, impl), spec.reference))
        lost = theirs["y0"].isnan()
        assert_same_specials(ours["y0"], theirs["y0"], f"{name} spoiled")
        for key, value in theirs.items():
            # Formulas differ in derivatives at infinity, and PyTorch's own elu has NaN or 1 at NaN by where in memory the
            # element lies. But no value that is lost may spread, nor a derivative that the reference has.
            free = lost if lost.shape == value.shape else lost.any()
            assert (ours[key].isfinite() | ~value.isfinite() | free).all(), f"{name} spoiled: {key} is not finite elsewhere"


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_auto_leaves_torch_func_to_the_reference(spec: Spec) -> None:
    tensors, options, name = draw(spec.samples[0], torch.float32), spec.samples[0].options, spec.batched[0]

    def gradient(fn: Any) -> Tensor:
        def loss(t: Tensor) -> Any:
            return sum(y.square().sum() for y in outputs_of(fn(**tensors | {name: t}, **options)))

        found: Tensor = torch.func.grad(loss)(tensors[name])
        return found

    assert_same_bits(gradient(spec.fn), gradient(spec.reference), spec.name)


# Clause 7: determinism.


@each("triton", "native", samples=None)
def test_same_inputs_same_bits(spec: Spec, impl: str, sample: Sample) -> None:
    """Two calls, two backwards through one graph, and any number of threads."""
    tensors = draw(sample, torch.float32, place(impl))
    runs = [derivatives(bound(spec, impl), tensors, sample.options, spec.grad_order)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if impl == "native" and not spec.library else threads)
        runs.append(derivatives(bound(spec, impl), tensors, sample.options, spec.grad_order))
    finally:
        torch.set_num_threads(threads)
    for name, value in runs[0].items():
        assert_same_bits(runs[1][name], value, name)
    leaves = leaves_of(tensors)
    loss = sum(y.square().sum() for y in outputs_of(bound(spec, impl)(**leaves, **sample.options)))
    twice = [torch.autograd.grad(loss, list(leaves.values()), retain_graph=True) for _ in range(2)]
    for first, second in zip(*twice, strict=True):
        assert_same_bits(first, second, "second backward")


# Clause 8: bad input.


@pytest.mark.parametrize(("spec", "bad"), [pytest.param(s, b, id=f"{s.name}-{b.words}") for s in SPECS.values() for b in s.bad])
def test_bad_input_is_named(spec: Spec, bad: Any) -> None:
    arguments = {**draw(spec.samples[0], torch.float32), **spec.samples[0].options, **bad.change}
    with pytest.raises(bad.error, match=bad.words) as caught:
        spec.fn(**arguments)
    assert spec.name in str(caught.value)
    assert "wants" in str(caught.value)


# Clause 9: sabotage.


def swapped_gradient(fn: Any, scale: float) -> Any:
    """fn with the value it has and a first derivative that is `scale` times its own."""

    def call(**kwargs: Any) -> Any:
        ys = outputs_of(fn(**kwargs))
        return tuple(y * scale + y.detach() * (1 - scale) for y in ys)

    return call


@each("triton", "native")
def test_sabotage_is_caught(spec: Spec, impl: str, sample: Sample) -> None:
    fn, tensors = bound(spec, impl), draw(sample, torch.float32, place(impl))
    sabotaged = {
        "scaled": lambda **kw: tuple(y * 1.02 for y in outputs_of(fn(**kw))),
        "zeroed": lambda **kw: tuple(y * 0 for y in outputs_of(fn(**kw))),
        "gradient scaled": swapped_gradient(fn, 1.02),
        "gradient cut": swapped_gradient(fn, 0.0),
    }
    if spec.neighbour:
        turned = spec.neighbour(sample.options)
        sabotaged["swapped"] = lambda **kw: fn(**kw | turned)
    for name, broken in sabotaged.items():
        try:
            assert_agrees(broken, spec.reference, tensors, sample.options, spec.grad_order, name)
        except AssertionError:
            continue
        pytest.fail(f"{name}: not noticed")


# Clause 10: separate data and weight gradients.


@pytest.mark.parametrize("spec", [pytest.param(s, id=n) for n, s in SPECS.items() if s.weight_op])
def test_an_input_gradient_forms_no_weight_gradient(spec: Spec) -> None:
    for impl in spec.dtypes:
        tensors = draw(spec.samples[0], torch.float32, place(impl))
        inner, outer = weight_gradients(bound(spec, impl), tensors, spec.samples[0].options, spec.batched, str(spec.weight_op))
        assert inner == 0 < outer, f"{impl}: {inner} weight gradients for an input gradient, {outer} for the penalty's"


# Clause 11: the measured table.


def test_table_is_the_benchmark() -> None:
    from benchmarks import dispatch

    assert _dispatch.table() == dispatch.choices(dispatch.results()), "run benchmarks/dispatch.py --write again"


def test_table_rows_belong_to_operators_and_are_followed() -> None:
    known = {f"{spec.name}/{bench.shape_class}" for spec in SPECS.values() for bench in spec.bench}
    for key, body in _dispatch.table().items():
        op, _, _, shape_class = key.split("/", 3)
        assert f"{op}/{shape_class}" in known, f"{key}: no operator has this row"
        assert body in _dispatch.IMPLS[1:]
    if _native.missing(torch.device("cpu")):
        return
    for spec in SPECS.values():
        for first, _ in pairwise((*spec.bench, None)):
            x = next(iter(first.draw(Generator()).values())).float()
            key = _dispatch.key(spec, x, first.shape_class)
            assert _dispatch.choose(spec, "auto", x, first.shape_class) == _dispatch.table().get(key, spec.on_cpu)

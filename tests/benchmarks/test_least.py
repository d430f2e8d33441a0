"""The fewest bytes of an operator's work, against counts by hand."""

import pytest
import torch

from gancore.benchmarks import least
from gancore.kernels._spec import specs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "shape_class", "backward", "second"),
    [
        # Backward of a sum reads the cotangent alone; the second one reads the cotangents of both gradients.
        ("bias_act", "linear/tiny", lambda x, b: x + x + b, lambda x, b: x + b + x),
        # A mask is read, and has no derivative.
        ("bias_act", "leaky_relu/tiny", lambda x, b: (x + b) + x + (x + b), lambda x, b: (x + b) + (x + b) + x),
        # With one, the cotangent is read too, and the input has a gradient.
        ("bias_act", "tanh/tiny", lambda x, b: (x + b) + x + (x + b), lambda x, b: (x + b) + x + (x + b) + (x + b) + x),
        ("interpolate", "tiny", lambda r, f, e: 2 * (r + f + e) + r, lambda r, f, e: 3 * (r + f + e) + 2 * r),
    ],
)  # fmt: skip
def test_each_pass_reads_what_it_depends_on_and_writes_its_results(name, shape_class, backward, second, dtype):
    spec = specs()[name]
    bench = next(b for b in spec.bench if b.shape_class == shape_class)
    tensors = {n: t.to(dtype) for n, t in bench.draw(torch.Generator().manual_seed(0)).items()}
    sizes = [t.nbytes for t in tensors.values()]
    found = [least.moved(spec, tensors, bench.options, order) for order in (0, 1, 2)]
    assert found[0] == spec.bytes_moved(**tensors, **bench.options)
    assert found[1] - found[0] == backward(*sizes)
    assert found[2] - found[1] == second(*sizes)


@pytest.mark.parametrize("name", [name for name, spec in specs().items() if spec.bench])
def test_no_operator_moves_less_than_inputs_cotangent_and_gradients(name):
    """Of every operator's smallest row: backward reads and writes the inputs' size at least, as none here is a mere copy."""
    spec = specs()[name]
    bench = min((b for b in spec.bench if "linear" not in b.shape_class), key=lambda b: b.shape_class.endswith("tiny") is False)
    tensors = {n: t.float() for n, t in bench.draw(torch.Generator().manual_seed(0)).items()}
    inputs = sum(t.nbytes for t in tensors.values())
    forward, once, twice = (least.moved(spec, tensors, bench.options, order) for order in (0, 1, 2))
    assert once - forward > 1.5 * inputs
    assert twice - once > 1.5 * inputs

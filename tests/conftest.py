"""What all tests share: no GPU means Triton's interpreter, one torch thread, fixed seeds."""

import os
from collections.abc import Iterator

import pytest
import torch

GPU = torch.cuda.is_available()
if not GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # before any test imports triton, which reads it where a kernel is defined

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not GPU and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Fresh memory is NaN, so that what a kernel leaves unwritten shows; and what PyTorch knows to be nondeterministic raises."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


_AREAS = ("recipes", "gancore/test_recipes", "gancore/data", "gancore", "kernels/test_aot", "kernels", "")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Seconds by area of the project, summed over workers."""
    spent: dict[str, float] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                area = next(a for a in _AREAS if report.nodeid.startswith(f"tests/{a}")) or "others"
                spent[area] = spent.get(area, 0.0) + report.duration
    line = ", ".join(f"{area} {seconds:.0f} s" for area, seconds in sorted(spent.items(), key=lambda pair: -pair[1]))
    terminalreporter.write_line(f"time by area: {line}")

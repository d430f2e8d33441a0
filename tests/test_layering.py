"""The shape of the source: who may import whom, lean imports, names, budgets, annotations and documentation."""

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from inspect import Parameter
from pathlib import Path

import pytest

from gancore import recipes
from gancore.core import Options

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = {  # functions with more than ten parameters, and why they may have them
    "gancore/penalties/gradient.py:gradient_penalty": "its signature is fixed by the design",
    "gancore/penalties/step.py:critic_step": "its signature is fixed by the design",
    "kernels/batch_norm_act/public.py:batch_norm_act": "mirrors torch.nn.functional.batch_norm",
    "kernels/conv.py:operator": "conv1d_bias_act to conv3d_bias_act mirror torch.nn.functional.conv1d to conv3d",
    "kernels/conv_transpose/public.py:operator": "conv_transposeNd_bn_act mirrors conv_transposeNd and batch_norm",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("gancore", *parts) if parts[0] in ("kernels", "benchmarks") else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files(*folders: str) -> list[Path]:
    """Python files, each once: gancore/kernels and gancore/benchmarks are links to the real folders."""
    found = {p.resolve() for folder in folders for p in (ROOT / folder).rglob("*.py")}
    return sorted(p for p in found if not any(part.startswith(".") or part == "__pycache__" for part in p.relative_to(ROOT).parts))


SOURCE = files("gancore", "kernels")
ENGINE = [p for p in SOURCE if p.relative_to(ROOT).parts[0] == "gancore"]
KERNELS = [p for p in SOURCE if p.relative_to(ROOT).parts[0] == "kernels"]
TREES = {p: ast.parse(p.read_text()) for p in files("gancore", "kernels", "benchmarks")}
MODULES = {module_name(p) for p in TREES}


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere, in functions and under TYPE_CHECKING too; names of submodules resolved."""
    package = module_name(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    found: set[str] = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else str(base) for a in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            text = node.args[0]
            if isinstance(text, ast.Constant):
                found.add(text.value)
    return found


def inside(module: str, *parents: str) -> bool:
    return any(module == p or module.startswith(p + ".") for p in parents)


def test_the_scan_sees_the_source() -> None:
    assert {"gancore.trainer", "gancore.kernels.bias_act", "gancore.recipes.ipm.wgan_gp"} <= MODULES
    assert "gancore.core.rows" in imports(ROOT / "gancore/trainer.py")
    assert "gancore.losses" in imports(ROOT / "gancore/recipes/ipm/wgan.py")


# -- arrows -----------------------------------------------------------------------------------------------------------------


def test_kernels_import_torch_numpy_triton_and_the_standard_library() -> None:
    allowed = {"torch", "numpy", "triton", "nvtx", *sys.stdlib_module_names}
    for path in KERNELS:
        for name in imports(path):
            assert inside(name, "gancore.kernels") or name.split(".")[0] in allowed, f"{short(path)} imports {name}"


def test_triton_comes_in_through_one_module() -> None:
    doors = {short(p) for p in KERNELS if any(inside(name, "triton") for name in imports(p))}
    assert len(doors) == 1, doors
    assert not [short(p) for p in ENGINE if any(inside(name, "triton") for name in imports(p))]


LOW = (
    "gancore.agents", "gancore.divergences", "gancore.energies", "gancore.layers", "gancore.losses", "gancore.nets",
    "gancore.penalties", "gancore.regularizers", "gancore.transport", "gancore.unrolling",
)  # fmt: skip
SHARED = (*LOW, "gancore.core", "gancore.kernels")
RECIPES = (*SHARED, "gancore.adversarial", "gancore.metrics", "gancore.recipes", "gancore.figures", "gancore.theory")
MAY_IMPORT = {
    "gancore.core": ("gancore.core",),
    "gancore.trainer": ("gancore.core",),
    "gancore.adversarial": SHARED,
    "gancore.recipes": RECIPES,
    # Demonstrations run the loop, on data of their own.
    "gancore.recipes.theory": (*RECIPES, "gancore.data", "gancore.trainer", "gancore.runs"),
    "gancore.metrics": ("gancore.core", "gancore.kernels", "gancore.metrics", "gancore.nets"),
    "gancore.data": ("gancore.core", "gancore.data", "gancore.nets"),
    **dict.fromkeys(LOW, SHARED),
}


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_arrows_inside_gancore(layer: str) -> None:
    narrower = [other for other in MAY_IMPORT if other != layer and inside(other, layer)]
    members = [p for p in ENGINE if inside(module_name(p), layer) and not inside(module_name(p), *narrower)]
    assert members
    for path in members:
        for name in imports(path):
            wrong = inside(name, "gancore") and not inside(name, *MAY_IMPORT[layer])
            assert not wrong, f"{short(path)} imports {name}; {layer} may import {', '.join(MAY_IMPORT[layer])}"


def test_recipes_do_not_import_one_another() -> None:
    """A block that two recipes need belongs to losses, nets or adversarial."""
    for path in recipe_files():
        others = [n for n in imports(path) if inside(n, "gancore.recipes") and n in MODULES and n.count(".") >= 3]
        assert not others, f"{short(path)} imports {others}"


def test_only_the_command_line_imports_benchmarks() -> None:
    for path in SOURCE:
        if not inside(module_name(path), "gancore.cli"):
            assert not [n for n in imports(path) if inside(n, "gancore.benchmarks", "benchmarks")], short(path)


def test_nothing_private_of_the_compiler_is_imported() -> None:
    for path in SOURCE:
        assert not [n for n in imports(path) if inside(n, "torch._inductor", "torch._dynamo")], short(path)


# -- lean imports -----------------------------------------------------------------------------------------------------------

PROBE = """
import json, os, sys
class Watched(dict):
    read = []
    def __getitem__(self, key):
        f = sys._getframe(1)
        while f.f_globals.get("__name__") in ("os", "collections.abc"): f = f.f_back
        if "gancore" in f.f_globals.get("__name__", ""): self.read.append(key)
        return dict.__getitem__(self, key)
    get = lambda self, key, default=None: self[key] if key in self else default
import torch
os.environ._data = Watched(os.environ._data)
import {module}
print(json.dumps(dict(modules=sorted(sys.modules), cuda=torch.cuda.is_initialized(), read=[str(k) for k in Watched.read])))
"""


@cache
def probe(module: str) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TRITON_INTERPRET", None)
    code = PROBE.replace("{module}", module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_import_of_the_operators_is_lean() -> None:
    seen = probe("gancore.kernels")
    ours = {m for m in seen["modules"] if inside(m, "gancore")}
    assert all(m == "gancore" or inside(m, "gancore.kernels", "gancore._C") for m in ours), ours
    check_lean(seen)


def test_import_of_the_operators_loads_no_compiler() -> None:
    assert {"torch._inductor", "torch._dynamo"} & set(probe("gancore.kernels")["modules"]) == set()


def test_import_of_the_engine_is_lean() -> None:
    seen = probe("gancore, gancore.core, gancore.trainer, gancore.recipes, gancore.losses, gancore.penalties, gancore.runs")
    assert not [m for m in seen["modules"] if m.startswith("gancore.recipes.")]  # found when asked for
    assert {"torch._inductor", "torch._dynamo"} & set(seen["modules"]) == set()  # 3.6 s of loading
    check_lean(seen)
    assert {m for m in probe("gancore")["modules"] if inside(m, "gancore")} == {"gancore"}


def check_lean(seen: dict) -> None:
    heavy = {"matplotlib", "PIL", "sklearn", "scipy", "click", "rich", "jinja2", "torchvision", "onnx", "gancore.cli"}
    assert heavy & set(seen["modules"]) == set()
    assert not seen["cuda"]
    assert not seen["read"], f"the environment is read at import: {seen['read']}"


def test_there_is_no_top_level_package_named_kernels() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import kernels"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert "gancore.kernels" in done.stderr


# -- recipes ----------------------------------------------------------------------------------------------------------------


def recipe_files() -> list[Path]:
    return [p for p in ENGINE if "recipes" in p.relative_to(ROOT).parts[1:-1] and p.name != "__init__.py"]


ENTRIES = [recipes.get(name) for name in recipes.names()]
TRAINED = [e for e in ENTRIES if e.kind == "recipe"]


def test_every_recipe_file_registers_its_own_name() -> None:
    by_module = {e.function.__module__: e for e in ENTRIES if inside(e.function.__module__, "gancore.recipes")}
    assert set(by_module) == {module_name(p) for p in recipe_files()}
    for path in recipe_files():
        entry = by_module[module_name(path)]
        assert entry.function.__name__ == path.stem
        assert entry.id == path.stem.replace("_", "-") or entry.id.lstrip("0123456789").strip("d-") in path.stem.replace("_", "-")
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", entry.id)


PAPER = re.compile(r", [^,]+ (19|20)\d\d, (arXiv:(\d{4}\.\d{4,5}|[a-z-]+/\d{7})|doi:\S+|[A-Z])")  # authors year, paper or venue


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.kind != "metric"], ids=lambda e: e.id)
def test_the_first_line_names_the_system_and_its_paper(entry: object) -> None:
    first = ast.get_docstring(TREES[ROOT / (entry.function.__module__.replace(".", "/") + ".py")]).splitlines()[0]
    assert entry.title == first
    assert PAPER.search(first), first
    assert entry.function.__doc__, "its parameters are documented"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.id)
def test_parameters_are_typed_with_defaults_and_are_no_options(entry: object) -> None:
    if entry.kind == "metric":
        pytest.skip("metrics take samples, not hyper-parameters")
    for name, parameter in entry.parameters().items():
        assert parameter.annotation is not Parameter.empty, f"{name} has no type"
        assert parameter.default is not Parameter.empty, f"{name} has no default"
        assert name not in Options.names(), f"{name} is an option of the loop"
        assert re.search(rf"\b{name}\b", entry.function.__doc__), f"{name} is not documented"


# -- budgets ----------------------------------------------------------------------------------------------------------------


def functions(path: Path) -> Iterator[tuple[ast.FunctionDef, bool]]:
    """Functions of a file, and whether each is public: reachable by names without underscore."""

    def walk(body: list[ast.stmt], public: bool) -> Iterator[tuple[ast.FunctionDef, bool]]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from walk(node.body, public and not node.name.startswith("_"))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node, public and not node.name.startswith("_")
                yield from walk(node.body, False)
            elif isinstance(node, ast.If | ast.Try | ast.With):
                yield from walk(node.body, public)

    yield from walk(TREES[path].body, not path.stem.startswith("_") or path.name == "__init__.py")


def is_triton(function: ast.FunctionDef) -> bool:
    return any("jit" in ast.unparse(d) for d in function.decorator_list)


def is_operator(function: ast.FunctionDef) -> bool:
    """The body of a registered operator: its schema has to name everything that the kernel needs."""
    return any("custom_op" in ast.unparse(d) or "register" in ast.unparse(d) for d in function.decorator_list)


def arguments(function: ast.FunctionDef) -> list[ast.arg]:
    a = function.args
    return [x for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if x and x.arg not in ("self", "cls")]


def test_files_have_at_most_400_lines() -> None:
    long = {short(p): n for p in SOURCE if (n := len(p.read_text().splitlines())) > 400}
    assert not long


def test_recipe_files_have_at_most_60_lines() -> None:
    long = {short(p): n for p in recipe_files() if (n := len(p.read_text().splitlines())) > 60}
    assert not long


def test_functions_have_at_most_60_lines() -> None:
    long = {
        f"{short(p)}:{f.name}": n
        for p in SOURCE
        for f, _ in functions(p)
        if (n := (f.end_lineno or 0) - f.lineno + 1) > (120 if is_triton(f) else 60)
    }
    assert not long


def test_functions_have_at_most_10_parameters() -> None:
    many = {
        f"{short(p)}:{f.name}"
        for p in SOURCE
        for f, _ in functions(p)
        if not is_triton(f) and not is_operator(f) and len(arguments(f)) > 10
    }
    assert many == set(PARAMETERS)


def test_public_functions_are_annotated_and_documented() -> None:
    missing = []
    for path in SOURCE:
        for function, public in functions(path):
            if not public or is_triton(function) or any("overload" in ast.unparse(d) for d in function.decorator_list):
                continue
            bare = [a.arg for a in arguments(function) if a.annotation is None] + ["return"] * (function.returns is None)
            if bare:
                missing.append(f"{short(path)}:{function.name} does not annotate {', '.join(bare)}")
            own = function.name == "forward"  # its class says what it maps
            if not own and ast.get_docstring(function) is None and not is_protocol(function):
                missing.append(f"{short(path)}:{function.name} is not documented")
    assert not missing, "\n".join(missing)


def is_protocol(function: ast.FunctionDef) -> bool:
    return len(function.body) == 1 and isinstance(function.body[0], ast.Expr) and ast.unparse(function.body[0]) == "..."


def test_modules_and_public_classes_are_documented() -> None:
    for path in SOURCE:
        assert ast.get_docstring(TREES[path]), short(path)
        for node in TREES[path].body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{short(path)}:{node.name}"


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "gancore/py.typed").is_file()
    assert any("py.typed" in (ROOT / name).read_text() for name in ("setup.py", "pyproject.toml", "MANIFEST.in"))

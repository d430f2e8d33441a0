"""Which modules of a network may run as one operator: torch.fx shows what a forward calls, on what and who takes the result.

Each module that calls convolutions is traced by itself; one that cannot be traced is a closed box to those around it, and what it
contains is looked at nevertheless. A run counts if it is found in training and evaluation mode, and both with optional arguments
and without.
"""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from inspect import Parameter, currentframe, signature
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.parametrize import type_before_parametrizations as kind_of

from gancore.acceleration.places import Row, Run
from gancore.acceleration.running import ACTIVATIONS, CONVS, NORMS, TRANSPOSED
from gancore.layers import units

_CONVOLUTION = nn.modules.conv._ConvNd
_HOOKS = tuple(name for name in vars(nn.Module()) if name.endswith("_hooks"))
_UNSEEN = "no forward that can be traced calls it"
_SHARED = "it is called more than once, or lies in several places"


def analyse(model: nn.Module) -> tuple[dict[nn.Module, list[Run]], list[Row]]:
    """The runs of each module that owns some, and a row for every run and every convolution in none."""
    return _Analysis(model).result()


class _Analysis:
    """What is known of a model so far, from the innermost modules outwards."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {module: name for name, module in model.named_modules()}
        paths = Counter(module for _, module in model.named_modules(remove_duplicate=False))
        self.repeated = {module for module, count in paths.items() if count > 1}
        self.closed: set[nn.Module] = set()
        self.reasons: dict[nn.Module, str] = {}
        self.found: dict[tuple[nn.Module, ...], tuple[nn.Module, Run, str]] = {}
        for module in self.names:
            if isinstance(module, _CONVOLUTION):
                self.reasons[module] = _UNSEEN
        for owner in reversed(list(model.modules())):
            if _calls_others(owner):
                self._look(owner)

    def _look(self, owner: nn.Module) -> None:
        try:
            if "forward" in vars(owner):
                raise ValueError("it was replaced on this one module")
            with _untouched(owner), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                views = [self._view(owner, *variant) for variant in _variants(owner)]
        except Exception as error:
            self.closed.add(owner)
            told = str(error).strip().split("\n")[0][:100]
            for module in owner.modules():
                if self.reasons.get(module) == _UNSEEN:
                    where = self.names[owner] or type(owner).__name__
                    self.reasons[module] = f"the forward of {where} cannot be traced: {told}"
            return
        first, *others = views
        for view in views:
            self.repeated |= {module for module, count in view.calls.items() if count > 1}
            self.reasons.update({module: reason for module, reason in view.reasons.items() if reason})
        for run, note in first.runs.items():
            members = tuple(owner.get_submodule(name) for name in run.members)
            other = next((view for view in others if run not in view.runs), None)
            if other is not None:
                why = other.reasons.get(members[0]) or "it takes another path"
                self.reasons[members[0]] = f"in another mode or with optional arguments {why}"
            elif members not in self.found:
                self.found[members] = (owner, run, note)

    def _view(self, owner: nn.Module, training: bool, arguments: dict[str, Any]) -> "_View":
        for module in owner.modules():
            module.training = training
        tracer = _Tracer(self.closed)
        # What forward switches off shows where it is on, and the reverse.
        with torch.set_grad_enabled(training), torch.autocast("cpu", enabled=training), _autocast_on_gpus(training):
            return _View(owner, tracer.trace(owner, arguments), tracer.entered)

    def result(self) -> tuple[dict[nn.Module, list[Run]], list[Row]]:
        plans: dict[nn.Module, list[Run]] = {}
        rows: dict[nn.Module, Row] = {}
        for members, (owner, run, note) in self.found.items():
            if self.repeated.intersection(members):
                continue
            plans.setdefault(owner, []).append(run)
            row = Row(tuple(self.names[m] for m in members), _operator(members, run), note)
            rows.update(dict.fromkeys((m for m in members if m in self.reasons), row))  # the longer run, found later, counts
        for module, reason in self.reasons.items():
            rows.setdefault(module, Row((self.names[module],), "", _SHARED if module in self.repeated else reason))
        order = {row: None for module in self.names if module in rows for row in [rows[module]]}
        return plans, list(order)


def _operator(members: tuple[nn.Module, ...], run: Run) -> str:
    conv: Any = members[0]
    if len(run.units) > 1:
        return f"conv_transpose_chain of {len(run.units)}"
    return f"conv_transpose{len(conv.kernel_size)}d_bn_act" if conv.transposed else f"conv{len(conv.kernel_size)}d_bias_act"


def _calls_others(module: nn.Module) -> bool:
    """Whether the forward of a module may be one that calls convolutions below it; of torch.nn's own, that is Sequential's."""
    kind: Any = kind_of(module)
    if kind is nn.Sequential:
        return True
    own = kind.forward is not nn.Module.forward and not kind.__module__.startswith(("torch.nn.", "torch.ao.nn."))
    whole = isinstance(module, (_CONVOLUTION, nn.modules.batchnorm._NormBase, torch.jit.ScriptModule))
    return own and not whole and any(isinstance(m, _CONVOLUTION) for m in module.modules())


class _Tracer(fx.Tracer):
    """Stops at what is no owner, and notes the grad mode and the autocast of every call."""

    proxy_buffer_attributes = True

    def __init__(self, closed: set[nn.Module]) -> None:
        super().__init__()
        self.closed, self.entered = closed, set[str]()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # To step into a module with hooks would call them, with no tensors.
        leaf = m in self.closed or units.hooked(m) or not _calls_others(m)
        if not leaf:
            self.entered.add(module_qualified_name)
        return leaf

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        autocast = ((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cpu", "cuda"))
        node.meta["modes"] = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast)
        frame: Any = currentframe()
        while frame is not None and frame.f_code is not fx.Tracer.trace.__code__:
            if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
                raise ValueError("it recomputes parts in the backward pass, outside of its own call")
            frame = frame.f_back
        return node


def _autocast_on_gpus(enabled: bool) -> Any:
    return torch.autocast("cuda", enabled=enabled) if torch.cuda.is_available() else nullcontext()


def _variants(owner: nn.Module) -> list[tuple[bool, dict[str, Any]]]:
    optional = {p.name: p.default for p in signature(owner.forward).parameters.values() if p.default is not Parameter.empty}
    arguments: list[dict[str, Any]] = [{}, optional] if optional else [{}]
    return [(training, given) for training in (True, False) for given in arguments]


@contextmanager
def _untouched(owner: nn.Module) -> Iterator[None]:
    """Leave the modules and the random state as they were. Raises if forward keeps values on a module: others may take them."""
    before = {module: dict(vars(module)) for module in owner.modules()}
    inside = [(v, v.copy()) for had in before.values() for v in had.values() if isinstance(v, (list, dict, set))]
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        kept = [n for m, had in before.items() for n, v in vars(m).items() if n != "training" and had.get(n, before) is not v]
        for module, had in before.items():
            vars(module).clear()
            vars(module).update(had)
        for v, copy in inside:
            if _elements(v) != _elements(copy):
                kept.append(type(v).__name__)
                v.clear()
                v.extend(copy) if isinstance(v, list) else v.update(copy)
    if kept:
        raise ValueError(f"it keeps values on a module: {kept[0]}")


def _elements(values: list[Any] | dict[Any, Any] | set[Any]) -> list[int]:
    return [id(v) for v in (values.values() if isinstance(values, dict) else values)]


class _View:
    """The runs that one trace of an owner shows, and why other convolutions are in none."""

    def __init__(self, owner: nn.Module, graph: fx.Graph, entered: set[str]) -> None:
        self.owner = owner
        self.modules = {node: owner.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"}
        self.calls = Counter(self.modules.values())
        self.reasons: dict[nn.Module, str] = {}
        self.runs: dict[Run, str] = {}
        self.switches = tuple(_switches(owner, {"", *entered}))
        self.between: dict[fx.Node, list[str]] = {}
        heads: dict[fx.Node, tuple[list[fx.Node | None], str]] = {}
        for node, module in self.modules.items():
            if isinstance(module, _CONVOLUTION):
                self.reasons[module] = self._unfit(node)
                if not self.reasons[module]:
                    heads[node] = self._unit(node)
        while heads:
            self._chain(heads)

    def _unit(self, conv: fx.Node) -> tuple[list[fx.Node | None], str]:
        """The nodes of convolution, norm and activation, and why it goes no further."""
        norm, why = self._next(conv, NORMS, conv)
        if norm is not None and not self.modules[conv].transposed:
            return [conv, None, None], "in training a batch norm needs the statistics of the convolution's whole output first"
        act, stop = self._next(norm or conv, ACTIVATIONS, conv)
        if act is not None and self.modules[conv].transposed and isinstance(self.modules[act], nn.Softplus):
            act, stop = None, "softplus does not follow a transposed convolution in its operator"
        if act is not None:
            return [conv, norm, act], ""
        if norm is not None:
            return [conv, norm, None], f"no activation: {stop}"
        return [conv, None, None], stop if why.endswith(" follows") else why

    def _chain(self, heads: dict[fx.Node, tuple[list[fx.Node | None], str]]) -> None:
        """Make a run of the first head and the transposed convolutions that follow it."""
        head, (nodes, note) = next(iter(heads.items()))
        del heads[head]
        chain = [nodes]
        while self.modules[head].transposed:
            last = next(node for node in reversed(chain[-1]) if node is not None)
            following, _ = self._next(last, TRANSPOSED, head)
            if following not in heads:
                break
            nodes, note = heads.pop(following)
            chain.append(nodes)
        if not any(node for unit in chain for node in unit[1:]):
            for unit in chain:
                self.reasons[self.modules[unit[0]]] = note
            return
        names = tuple(tuple("" if node is None else str(node.target) for node in unit) for unit in chain)
        members = [name for unit in names for name in unit if name]
        outer = [name.rsplit(".", i)[0] for name in members for i in range(1, name.count(".") + 1)]
        identities = [name for unit in chain for node in unit if node is not None for name in self.between.get(node, ())]
        around = tuple(dict.fromkeys((*outer, *identities)))
        self.runs[Run(names, around, self.switches)] = note  # type: ignore[arg-type]

    def _next(self, node: fx.Node, kinds: tuple[type, ...], head: fx.Node) -> tuple[Any, str]:
        """The module call of one of these kinds that alone takes the result of `node` and fits to the convolution at the head of
        the run, or None and the reason."""
        passed: list[str] = []
        user = node
        while True:
            users = list(user.users)
            if len(users) != 1:
                return None, f"{len(users)} others take its result" if users else "nothing follows it"
            (user,) = users
            if user.op != "call_module":
                what = "output" if user.op == "output" else getattr(user.target, "__name__", str(user.target))
                return None, "it is the last" if what == "output" else f"{what} takes its result, which is no module"
            module = self.modules[user]
            if kind_of(module) is not nn.Identity or user.args[1:] or user.kwargs:
                break
            passed.append(str(user.target))
        if kind_of(module) not in kinds:
            return None, f"{kind_of(module).__name__} follows"
        why = self._unfit(user) or self._mismatch(self.modules[head], module)
        if user.meta["modes"] != head.meta["modes"]:
            why = "it runs in another grad mode or autocast"
        if not why:
            self.between[user] = passed
        return (None, f"{user.target}: {why}") if why else (user, "")

    def _unfit(self, node: fx.Node) -> str:
        """Why this call cannot be part of an operator."""
        module: Any = self.modules[node]
        if kind_of(module) not in (*CONVS, *TRANSPOSED, *NORMS, *ACTIVATIONS) or "forward" in vars(module):
            return f"{kind_of(module).__name__} has a forward of its own"
        hooks = [name for name in _HOOKS if getattr(module, name, None)]
        if hooks:
            return f"it has {hooks[0].strip('_').replace('_', ' ')}"
        if len(node.args) != 1 or node.kwargs:
            return "it is called with more than its input"
        if self.calls[module] > 1:
            return _SHARED
        if isinstance(module, _CONVOLUTION) and units.padding(module) is None:
            return f"padding {module.padding!r} in mode {module.padding_mode!r}"
        if isinstance(module, ACTIVATIONS) and units.activation(module) is None:
            return f"{module} has options that the operators lack"
        return ""

    def _mismatch(self, conv: Any, module: nn.Module) -> str:
        """Why a module does not go with a convolution."""
        (place, *_), there = ([t.device for t in (*m.parameters(), *m.buffers())] for m in (conv, module))
        if any(device != place for device in there):
            return f"it lies on {there[0]}, the convolution on {place}"
        dims, digits = len(conv.kernel_size), kind_of(module).__name__[-2:]
        return f"it is for other dimensions than {dims}" if digits in {"1d", "2d", "3d"} - {f"{dims}d"} else ""


def _switches(owner: nn.Module, names: set[str]) -> Iterator[tuple[str, str, Any]]:
    usual = set(vars(nn.Module()))
    for place in sorted(names):
        module = owner.get_submodule(place)
        for name, value in vars(module).items():
            if name not in usual and isinstance(value, (bool, int, float, str, type(None))):
                yield place, name, value

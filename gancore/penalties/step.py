"""The whole update of a critic under gradient penalties, by the fewest passes, in place of two nested backwards.

The penalty's derivative by the parameters is that of <v, dD/dx> for its own direction v = dP/dg held fixed: of the derivative of D
along v. So a tangent t goes forth from v, and each weight learns in one product from the pairs (h, delta) of the scores and
(t, delta) of the penalty. What is curved in between (smooth activations, norms) adds its second derivative in a last pass back.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from gancore import losses
from gancore.kernels import gradient_norm_penalty
from gancore.losses import Pair
from gancore.penalties import critics, scales
from gancore.penalties.passes import Plan, record
from gancore.penalties.passes.node import CHANNELS_LAST
from gancore.penalties.points import Inputs, Place, as_tuple, points

LOSSES: Mapping[str, Pair] = {
    "wasserstein": losses.wasserstein,
    "hinge": losses.hinge,
    "non_saturating": losses.non_saturating,
    "least_squares": losses.least_squares(),
}


class _Term(NamedTuple):
    """One penalty."""

    place: Place
    weight: float
    center: float
    one_sided: bool


def critic_step(
    critic: nn.Module,
    real: Inputs,
    fake: Inputs,
    *,
    loss: str | Pair = "wasserstein",
    penalty: float | Mapping[Place, float] = 10.0,
    at: Place = "between",
    center: float | Mapping[Place, float] = 1.0,
    one_sided: bool | Mapping[Place, bool] = False,
    norm: float = 2,
    noise: float | Tensor | None = None,
    eps: Tensor | None = None,
    conditions: tuple[Tensor, ...] = (),
    scale: float | Tensor = 1.0,
) -> dict[str, Tensor]:
    """Add the gradients of scale * (loss + sum of weight * mean penalty) to `.grad` of the critic's parameters.

    critic: a module from points, then `conditions`, to scores (N, ...), made of convolutions, linear layers, LeakyReLU, ReLU,
        ELU, SiLU, softplus, tanh, sigmoid, layer, instance and group norm, pooling, views, and sums of branches (residual blocks),
        in any nesting, as torch.nn's or gancore's layers or as calls. It is called once, with all points as one batch.
    real, fake: points (N, ...) in float32, float64, float16 or bfloat16, or tuples of them for a critic of several inputs.
    loss: "wasserstein", "hinge", "non_saturating", "least_squares" or any `gancore.losses.Pair`; the mean of its critic's side.
    penalty: the weight of the penalty at `at`, or weights by place: {"real": 5.0, "fake": 5.0} is R1 + R2 (arXiv:1801.04406) with
        center=0; {} is none. center and one_sided: for all, or by the same places. Places, norm, eps, noise and the definition of
        each penalty are those of `gradient_penalty` (arXiv:1704.00028, 1709.08894, 1705.07215).
    conditions: tensors (N, ...) such as labels, the same for data, fakes and the penalty's points.
    scale: of a loss scaler (a number or a tensor on the device). In float16 the input's gradient has a power-of-two scale of its
        own beside it, kept for each critic, starting at 1 and following that gradient's magnitude.

    Runs under the autocast that is in force. Parameters without requires_grad get nothing; behind a parametrisation (spectral
    normalisation) the gradient goes on to what it is made of. Points get no gradient.

    Returns, detached and in float32 (float64 for that): `loss` () without the penalty, `score_real` and `score_fake` (N, ...),
    `penalty` (), the mean penalty without weight and scale, summed over places, and `grad_norm` (N,), after one another in the
    order of `penalty` for several places.

    Raises NotImplementedError, with nothing added, for a critic with a step that is not among these (its message names the
    layer; `gradient_penalty` serves instead); ValueError for an unknown loss, place or norm, or unequal numbers of points.
    """
    terms = _terms(penalty, at, center, one_sided)
    model = cast(nn.Module, getattr(critic, "_orig_mod", critic))  # of torch.compile: here there is nothing for it to compile
    with torch.no_grad():
        batch = _Batch(as_tuple(real), as_tuple(fake), terms, eps, noise)
        recorder, stand_in = record(model, batch.points, batch.repeat(conditions))
        several = stand_in.dim() > 1 and stand_in[0].numel() > 1
        scored = bool({"real", "fake"} & set(batch.tail))
        score = recorder.index(stand_in)
        assert score is not None
        plan = Plan(recorder, len(batch.points), score, batch.start, scored and not several, scored and several)
        with torch.autocast(batch.points[0].device.type, enabled=False):
            step = _Step(model, batch, plan, _pair(loss), scale)
            found = step.run(terms, norm)
    operands, learned = plan.operands(), step.learned
    if learned:
        torch.autograd.backward([operands[key] for key in learned], list(learned.values()))
    return found


def _terms(penalty: Any, at: Place, center: Any, one_sided: Any) -> list[_Term]:
    weights = penalty if isinstance(penalty, Mapping) else {at: penalty}
    for name, given in (("center", center), ("one_sided", one_sided)):
        if isinstance(given, Mapping) and set(given) != set(weights):
            raise ValueError(f"{name} got places {sorted(given)}, wants those of penalty, {sorted(weights)}")
    pick = lambda given, place: given[place] if isinstance(given, Mapping) else given
    return [_Term(p, float(w), float(pick(center, p)), bool(pick(one_sided, p))) for p, w in weights.items()]


def _pair(loss: str | Pair) -> Pair:
    if isinstance(loss, Pair):
        return loss
    name = loss.replace("-", "_")
    if name not in LOSSES:
        raise ValueError(f"loss got {loss!r}, wants a gancore.losses.Pair or one of {', '.join(LOSSES)}")
    return LOSSES[name]


class _Batch:
    """All points as one batch: those of the loss alone first, from row `start` on those where a penalty is."""

    def __init__(
        self, real: tuple[Tensor, ...], fake: tuple[Tensor, ...], terms: Sequence[_Term], eps: Tensor | None, noise: Any
    ) -> None:
        self.n = len(real[0])
        if any(len(x) != self.n for x in (*real, *fake)) or len(real) != len(fake):
            raise ValueError(f"real and fake must be as many, got {[len(x) for x in real]} and {[len(x) for x in fake]}")
        places: list[str] = [t.place for t in terms]
        made: dict[str, tuple[Tensor, ...]] = {t.place: points(real, fake, t.place, eps, noise) for t in terms}
        given: dict[str, tuple[Tensor, ...]] = {**made, "real": real, "fake": fake}
        self.head = [p for p in ("real", "fake") if p not in places]
        self.tail = [p for p in ("real", "fake", "between", "around") if p in places]
        self.start = self.n * len(self.head)
        self.places = {p: slice(i * self.n, (i + 1) * self.n) for i, p in enumerate((*self.head, *self.tail))}
        self.points = [self._join([given[p][k] for p in self.places]) for k in range(len(real))]

    def _join(self, parts: list[Tensor]) -> Tensor:
        dtype = parts[0].dtype
        for part in parts[1:]:
            dtype = torch.promote_types(dtype, part.dtype)
        first = parts[0]
        kind = CHANNELS_LAST.get(first.dim(), torch.contiguous_format)
        # The fast layout of convolutions; every later tensor takes it over.
        sizes = (self.n * len(parts), *first.shape[1:])
        joined = torch.empty(sizes, dtype=dtype, device=first.device, memory_format=kind)
        for k, part in enumerate(parts):
            joined[k * self.n : (k + 1) * self.n] = part
        return joined

    def repeat(self, conditions: tuple[Any, ...]) -> tuple[Any, ...]:
        """Conditions of one set of points for all rows."""
        return tuple(torch.cat([c] * len(self.places)) if isinstance(c, Tensor) and c.dim() else c for c in conditions)


class _Step:
    """One run of a plan. learned: gradients by the id of their operands."""

    def __init__(self, critic: nn.Module, batch: _Batch, plan: Plan, pair: Pair, scale: float | Tensor) -> None:
        self.batch, self.plan, self.pair, self.scale = batch, plan, pair, scale
        self.own = _OwnScale(critic, plan, batch.points[0].device)
        self.learned: dict[int, Tensor] = {}

    def run(self, terms: Sequence[_Term], norm: float) -> dict[str, Tensor]:
        """All passes; what `critic_step` returns."""
        batch, plan = self.batch, self.plan
        score = plan.forward(batch.points)
        wide = score.to(_wide(score.dtype))
        found = {f"score_{p}": wide[batch.places[p]].clone() for p in ("real", "fake")}
        slopes = self._loss(found)
        seed = torch.empty_like(wide)
        seed[plan.tail] = self.own.value
        for p in batch.head:
            seed[batch.places[p]] = slopes[p]
        gradients = plan.back(seed.to(score.dtype))
        directions = self._penalties(gradients, terms, norm, found)
        self.own.follow(gradients)
        mine = torch.zeros_like(wide[plan.tail])
        for p in {"real", "fake"} & set(batch.tail):
            mine[self._on_tail(p)] = slopes[p]
        share = (mine / self.own.value).flatten() if plan.share else None
        self.learned = plan.forth(directions, share)
        plan.last(mine.to(score.dtype) if plan.seeded else None, self.learned)
        return found

    def _on_tail(self, place: str) -> slice:
        rows = self.batch.places[place]
        return slice(rows.start - self.batch.start, rows.stop - self.batch.start)

    def _loss(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """scale * dloss/dscore at data and fakes; puts `loss` into found."""
        at = {p: found[f"score_{p}"].detach().requires_grad_() for p in ("real", "fake")}
        with torch.enable_grad():
            loss = self.pair.critic(at["real"], at["fake"]).mean()
        found["loss"] = loss.detach()
        slopes = torch.autograd.grad(loss, list(at.values()), materialize_grads=True)
        return {p: g * self.scale for p, g in zip(at, slopes, strict=True)}

    def _penalties(
        self, gradients: list[Tensor | None], terms: Sequence[_Term], norm: float, found: dict[str, Tensor]
    ) -> list[Tensor | None]:
        """scale * weight * dP/dg by point, for the tangent pass; puts `penalty` and `grad_norm` into found."""
        points = self.batch.points
        dtype = found["loss"].dtype
        found["penalty"], found["grad_norm"] = torch.zeros_like(found["loss"]), found["loss"].new_zeros(0)
        if not terms:
            return [None for _ in points]
        tail = self.plan.tail
        flat = [
            (x.new_zeros(x[tail].shape) if g is None else g).flatten(1).to(dtype) for x, g in zip(points, gradients, strict=True)
        ]
        # By a power of two, in float32: exact.
        whole = (torch.cat(flat, 1) if len(flat) > 1 else flat[0]) / self.own.value
        directions, norms = torch.empty_like(whole), []
        for term in terms:
            rows = self._on_tail(term.place)
            g = whole[rows].detach().requires_grad_()
            with torch.enable_grad():
                cost = gradient_norm_penalty(g, term.center, term.one_sided, norm)
                mean = cost.mean()
            found["penalty"] = found["penalty"] + mean.detach()
            directions[rows] = torch.autograd.grad(mean, g)[0] * (term.weight * self.scale)
            norms.append(torch.linalg.vector_norm(whole[rows], norm, dim=1))
        found["grad_norm"] = torch.cat(norms)
        return [
            self._direction(k, part) for k, part in enumerate((directions / self.own.value).split([f.shape[1] for f in flat], 1))
        ]

    def _direction(self, k: int, part: Tensor) -> Tensor:
        """The tangent of the k-th point, in its layout; in its place in the batch where nobody needs that any more."""
        x = self.batch.points[k][self.plan.tail]
        t = x if k in self.plan.slots else torch.empty_like(x)
        return t.copy_(part.view(x.shape))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class _OwnScale:
    """The power of two that seeds the input gradient of a float16 critic (`gancore.penalties.scales`); 1 for all others."""

    def __init__(self, critic: nn.Module, plan: Plan, device: torch.device) -> None:
        self.kept: Tensor | None = None
        self.value: Any = 1.0
        if any(getattr(getattr(node, "weight", None), "dtype", None) == torch.float16 for node in plan.nodes):
            self.kept = critics.scale(critics.number(critic, device))
            self.value = self.kept.clone()

    def follow(self, gradients: Sequence[Tensor | None]) -> None:
        """Set the next step's scale by this one's gradient, which has this one's."""
        largest = [g.abs().amax().float() for g in gradients if g is not None and g.numel()]
        if self.kept is not None and largest:
            scales.adapt(self.kept, torch.stack(largest).amax())

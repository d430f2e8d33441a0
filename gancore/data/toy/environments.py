"""Control tasks as batches of tensors: `grid5`, `lqr1` and `cart`.

Each has `reset(n, generator)` -> states and `step(states, actions, generator)` -> (states, rewards (N,), done (N,)). They keep no
state: the caller does, and resets what is done.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Generator = torch.Generator | None


@dataclass(frozen=True)
class Grid5:
    """A walk on five by five fields to the corner 24. States and actions are int64 (N,); actions: right, down, left, up.

    Reaching the corner is rewarded with 1 and ends the walk. slip: probability that an action is replaced by a random one.
    """

    slip: float = 0.0
    discount: float = 0.9
    states: int = 25
    actions: int = 4
    goal: int = 24

    @cached_property
    def moves(self) -> Tensor:
        """Field (25, 4) that each action leads to; walls are stayed at."""
        row, column = torch.arange(25) // 5, torch.arange(25) % 5
        step = torch.tensor([[0, 1], [1, 0], [0, -1], [-1, 0]])
        return (row[:, None] + step[:, 0]).clamp(0, 4) * 5 + (column[:, None] + step[:, 1]).clamp(0, 4)

    @cached_property
    def transition(self) -> Tensor:
        """Probabilities (4, 25, 25): action, from, to. The goal is left no more."""
        sure = torch.nn.functional.one_hot(self.moves, 25).float().transpose(0, 1)
        mixed = (1 - self.slip) * sure + self.slip * sure.mean(0)
        mixed[:, self.goal] = 0
        mixed[:, self.goal, self.goal] = 1
        return mixed

    def reset(self, n: int, generator: Generator = None) -> Tensor:
        """States (n,) evenly drawn from all but the goal."""
        return torch.randint(self.goal, (n,), generator=generator)

    def step(self, state: Tensor, action: Tensor, generator: Generator = None) -> tuple[Tensor, Tensor, Tensor]:
        """Next states (N,), rewards (N,) float32 and done (N,) bool."""
        if self.slip:
            wild = torch.rand(len(state), generator=generator).to(state.device) < self.slip
            action = torch.where(wild, torch.randint(4, (len(state),), generator=generator).to(state.device), action)
        after = torch.where(state == self.goal, state, self.moves.to(state.device)[state, action])
        done = after == self.goal
        return after, (done & (state != self.goal)).float(), done

    def values(self) -> Tensor:
        """Value (25,) of each state under the best policy, discounted, by 200 rounds of value iteration."""
        value = torch.zeros(25)
        for _ in range(200):
            value = self._action_values(value).amax(0)
        return value

    def best_actions(self) -> Tensor:
        """Whether (25, 4) an action is one of the best in a state."""
        q = self._action_values(self.values())
        return (q >= q.amax(0) - 1e-6).T

    def _action_values(self, value: Tensor) -> Tensor:
        arrival = torch.zeros(25)
        arrival[self.goal] = 1
        alive = (torch.arange(25) != self.goal).float()
        return alive * (self.transition @ (arrival + self.discount * value * alive))


@dataclass(frozen=True)
class Lqr1:
    """One-dimensional linear plant, x' = a x + b u + noise, with cost q x² + r u². States and actions are (N, 1) float32."""

    a: float = 1.0
    b: float = 0.5
    q: float = 1.0
    r: float = 0.1
    noise: float = 0.05
    discount: float = 0.95

    def reset(self, n: int, generator: Generator = None) -> Tensor:
        """States (n, 1) of N(0, 1)."""
        return torch.randn(n, 1, generator=generator)

    def step(self, state: Tensor, action: Tensor, generator: Generator = None) -> tuple[Tensor, Tensor, Tensor]:
        """Next states (N, 1), rewards (N,) = -cost, done (N,), never. Differentiable."""
        reward = -(self.q * state**2 + self.r * action**2)[:, 0]
        kick = self.noise * torch.randn(state.shape, generator=generator).to(state.device)
        return self.a * state + self.b * action + kick, reward, torch.zeros(len(state), dtype=torch.bool, device=state.device)

    def gain(self) -> float:
        """The k of the best policy u = -k x, by 1,000 rounds of the discounted Riccati equation."""
        a, b, p = self.discount**0.5 * self.a, self.discount**0.5 * self.b, self.q
        for _ in range(1000):
            p = self.q + a * a * p - (a * b * p) ** 2 / (self.r + b * b * p)
        return a * b * p / (self.r + b * b * p)


@dataclass(frozen=True)
class Cart:
    """A pole on a cart (Barto, Sutton and Anderson, 1983). States (N, 4): position, speed, angle, angular speed.

    Actions (N,) int64 push left (0) or right (1). Every step is rewarded with 1 until the cart is 2.4 m off or the pole 12 degrees.
    """

    states: int = 4
    actions: int = 2
    force: float = 10.0
    interval: float = 0.02

    def reset(self, n: int, generator: Generator = None) -> Tensor:
        """States (n, 4), each value even in [-0.05, 0.05]."""
        return 0.1 * torch.rand(n, 4, generator=generator) - 0.05

    def step(self, state: Tensor, action: Tensor, generator: Generator = None) -> tuple[Tensor, Tensor, Tensor]:
        """Next states (N, 4) by Euler's method, rewards (N,), done (N,). Nothing is random: `generator` is not used."""
        gravity, cart, pole, half = 9.8, 1.0, 0.1, 0.5
        _, speed, angle, spin = state.unbind(1)
        push = self.force * (2 * action - 1)
        sin, cos = angle.sin(), angle.cos()
        common = (push + pole * half * spin**2 * sin) / (cart + pole)
        spin_rate = (gravity * sin - cos * common) / (half * (4 / 3 - pole * cos**2 / (cart + pole)))
        acceleration = common - pole * half * spin_rate * cos / (cart + pole)
        rate = torch.stack([speed, acceleration, spin, spin_rate], 1)
        after = state + self.interval * rate
        done = (after[:, 0].abs() > 2.4) | (after[:, 2].abs() > math.radians(12))
        return after, torch.ones(len(state), device=state.device), done

    def balance(self, state: Tensor) -> Tensor:
        """Actions (N,) int64 of an expert that keeps the pole up: a linear rule on states (N, 4)."""
        return (state @ torch.tensor([0.05, 0.2, 1.0, 0.4], device=state.device) > 0).long()


ENVIRONMENTS = {"grid5": Grid5, "lqr1": Lqr1, "cart": Cart}

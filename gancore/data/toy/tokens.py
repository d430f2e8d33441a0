"""Token strings of a frozen random recurrent network, whose likelihood is known: `tok12`."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gancore.data.dataset import Dataset

LENGTH = 12
VOCABULARY = 8
HIDDEN = 32
COUNT = 16_384


class Language(nn.Module):
    """A frozen random LSTM, the law of `tok12`: it samples strings and knows their exact likelihood."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(VOCABULARY, HIDDEN, device="meta").to_empty(device="cpu")
        self.head = nn.Linear(HIDDEN, VOCABULARY, device="meta").to_empty(device="cpu")
        generator = torch.Generator().manual_seed(seed)
        for p in self.parameters():
            nn.init.normal_(p, generator=generator)
        self.requires_grad_(False)

    def _next(self, token: Tensor | None, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        # A string begins with no token at all.
        given = F.one_hot(token, VOCABULARY).float() if token is not None else torch.zeros(len(state[0]), VOCABULARY)
        state = self.cell(given.to(state[0].device), state)
        return self.head(state[0]).log_softmax(1), state

    def _start(self, count: int) -> tuple[Tensor, Tensor]:
        zeros = torch.zeros(count, HIDDEN, device=self.head.weight.device)
        return zeros, zeros

    def nll(self, tokens: Tensor) -> Tensor:
        """Negative log-likelihood (N,), in nats for a whole string, of tokens (N, T) int64."""
        state, total, token = self._start(len(tokens)), torch.zeros(len(tokens), device=tokens.device), None
        for t in range(tokens.shape[1]):
            logp, state = self._next(token, state)
            token = tokens[:, t]
            total = total - logp.gather(1, token[:, None])[:, 0]
        return total

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Strings (count, 12) int64."""
        state, token, tokens = self._start(count), None, []
        for _ in range(LENGTH):
            logp, state = self._next(token, state)
            token = torch.multinomial(logp.exp(), 1, generator=generator)[:, 0]
            tokens.append(token)
        return torch.stack(tokens, 1)

    @property
    def uniform(self) -> float:
        """Expected negative log-likelihood per string of evenly drawn tokens, by 4,096 of them; those of a good model lie below."""
        tokens = torch.randint(VOCABULARY, (4_096, LENGTH), generator=torch.Generator().manual_seed(0))
        return float(self.nll(tokens).mean())


@cache
def tok12_oracle() -> Language:
    """The law that `tok12` is drawn from."""
    return Language(seed=12)


@cache
def tok12() -> Dataset:
    """16,384 strings x (N, 12) int64 over 8 tokens; `held_out` holds 2,048 others."""
    x = tok12_oracle().sample(COUNT + 2_048, torch.Generator().manual_seed(1))
    return Dataset("tok12", {"x": x[:COUNT]}, held_out=Dataset("tok12 held out", {"x": x[COUNT:]}))

"""The law of token strings: normalised, and what the strings are drawn from."""

import itertools

import pytest
import torch

from gancore import data
from gancore.data.toy import tokens


@pytest.mark.parametrize("length", [1, 2, 4])
def test_probabilities_of_all_strings_add_up_to_one(length):
    law = data.oracle("tok12")
    strings = torch.tensor(list(itertools.product(range(8), repeat=length)))
    total = law.nll(strings).double().neg().exp().sum().item()
    assert total == pytest.approx(1, abs=1e-5)


def test_samples_follow_the_law():
    law, strings = data.oracle("tok12"), data.load("tok12").fields["x"]
    assert strings.shape == (16_384, 12)
    assert strings.dtype == torch.int64
    assert (strings.min(), strings.max()) == (0, 7)
    pairs = torch.tensor(list(itertools.product(range(8), repeat=2)))
    probability = law.nll(pairs).neg().exp()
    share = torch.bincount(8 * strings[:, 0] + strings[:, 1], minlength=64) / len(strings)
    assert ((share - probability).abs() <= 5 * (probability / len(strings)).sqrt() + 1e-4).all()


def test_strings_depend_on_their_past():
    law, strings = data.oracle("tok12"), data.load("tok12").fields["x"]
    real = law.nll(strings).mean()
    assert law.nll(strings.flip(1)).mean() > real + 1
    share = torch.bincount(strings.flatten(), minlength=8) / strings.numel()
    assert real < 12 * -(share * share.log()).sum() - 1  # short of the law, the best that single letters can do


def test_likelihood_by_hand():
    """Two tokens, the recurrent cell written out."""
    law = data.oracle("tok12")
    cell, head = law.cell, law.head
    state, memory, total = torch.zeros(32), torch.zeros(32), 0.0
    given = torch.zeros(8)
    for token in (3, 5):
        gates = cell.weight_ih @ given + cell.bias_ih + cell.weight_hh @ state + cell.bias_hh
        i, f, g, o = gates.chunk(4)
        memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
        state = o.sigmoid() * memory.tanh()
        logits = head.weight @ state + head.bias
        total -= (logits[token] - logits.logsumexp(0)).item()
        given = torch.eye(8)[token]
    assert law.nll(torch.tensor([[3, 5]])).item() == pytest.approx(total, rel=1e-4)


def test_the_law_is_worth_learning():
    law = data.oracle("tok12")
    real = law.nll(data.load("tok12").held_out.fields["x"])
    assert real.mean() < law.uniform - 20  # the gap that acceptance checks speak of
    assert 5 < real.mean() < 12 * torch.tensor(8.0).log()  # not one string over and over
    assert len(data.load("tok12").held_out.fields["x"].unique(dim=0)) > 1_500


def test_frozen_and_repeatable():
    law = data.oracle("tok12")
    assert not any(p.requires_grad for p in law.parameters())
    again = tokens.Language(seed=12)
    strings = data.load("tok12").fields["x"][:50]
    assert torch.equal(law.nll(strings), again.nll(strings))
    assert not torch.equal(law.nll(strings), tokens.Language(seed=13).nll(strings))
    one, two = (law.sample(20, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (20, 12)

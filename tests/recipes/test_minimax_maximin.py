"""minimax-maximin: pennies 1 and -1; on ring8 D inside reaches 7 modes, G inside stays at 4 or fewer at 70 % of the counts."""

import pytest

from gancore.recipes import get
from tests.accept import Clause, at_least

demo = get("minimax-maximin", "demo").function


def accept(seed: int) -> list[Clause]:
    figures, _ = demo(stream=seed)
    return [
        at_least("min max less max min of pennies", figures["pennies: min max"] - figures["pennies: max min"], 2.0),
        at_least("D inside: modes at the end", figures["D inside: modes at the end"], 7),
        at_least("G inside: counts of at most 4 modes", figures["G inside: share of counts of at most 4 modes"], 0.7),
    ]


def test_pennies_and_the_order_of_the_players():
    figures, _ = demo(inner=2, rounds=4, every=2, batch=16)
    assert (figures["pennies: min max"], figures["pennies: max min"]) == (1, -1)


def test_both_orders_train_by_their_own_counters(monkeypatch):
    from gancore.recipes.theory import minimax_maximin as module

    asked = []
    original = module.open_run

    def watched(name, **given):
        asked.append((name, given["critic_steps"], given["generator_steps"], given["saturating"]))
        return original(name, **given)

    monkeypatch.setattr(module, "open_run", watched)
    demo(inner=3, rounds=2, every=1, batch=16)
    assert asked == [("dg-balance", 3, 1, True), ("dg-balance", 1, 3, True)]


@pytest.mark.parametrize("stream", [0, 1])
def test_the_stream_repeats(stream):
    small = {"inner": 2, "rounds": 2, "every": 1, "batch": 16, "stream": stream}
    assert demo(**small)[0] == demo(**small)[0]

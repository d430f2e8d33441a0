"""began: DIG(80, 6) with balance 0.9 and gain 0.1; M falls 5 times, 0 < k < 1 throughout; a higher balance covers more digits."""

import torch

import gancore
from tests.accept import DIG, Clause, at_least, between, dig, quiet

SETTINGS = {"gain": 0.1, "exponent": 2, "codes": 16, "lr": 2e-3}


def accept(seed: int) -> list[Clause]:
    run, clauses = dig("began", 80, 6, seed, balance=0.9, log_every=10, **SETTINGS)
    first, last = run.metrics[0]["state/convergence"], run.metrics[-1]["state/convergence"]
    trace = [record["state/k"] for record in run.metrics]
    return [
        *clauses,
        at_least("fall of the convergence measure", first / last, 5),
        between("k at the end", trace[-1], 1e-6, 1 - 1e-6),
        between("k at its highest", max(trace), 0, 1),
        between("k at its lowest", min(trace), 0, 1),
    ]


def controls(seed: int) -> list[Clause]:
    low = gancore.train("began", seed=seed, balance=0.5, **SETTINGS, **quiet(DIG)).evaluate(1797)
    high = gancore.train("began", seed=seed, balance=0.9, **SETTINGS, **quiet(DIG)).evaluate(1797)
    pinned = gancore.train("began", seed=seed, balance=0.9, **{**SETTINGS, "gain": 0.0}, **quiet(DIG)).evaluate(1797)
    missed = float(pinned["fid"] > 80 or pinned["classes"] < 6)
    return [
        at_least("digits gained by balance 0.5 -> 0.9", high["classes"] - low["classes"], 1),
        at_least("control: k pinned to 0 misses DIG(80, 6)", missed, 1),
    ]


def test_controller_moves_k_by_gain_times_lead():
    run = gancore.train("began", data="digits8", steps=1, batch_size=16, balance=0.7, gain=0.05, log_every=1)
    record = run.metrics[0]
    lead = 0.7 * record["critic/real"] - record["critic/fake"]
    assert record["state/k"] == torch.tensor(0.05 * lead).clamp(0, 1).item() or abs(record["state/k"] - 0.05 * lead) < 1e-6
    assert abs(record["state/convergence"] - (record["critic/real"] + abs(lead))) < 1e-6

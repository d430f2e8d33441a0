"""A critic's step in the fewest passes: `record` finds what its forward does, `Plan` goes through it forth and back."""

from gancore.penalties.passes.plan import Plan, record

__all__ = ["Plan", "record"]

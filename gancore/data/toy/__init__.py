"""Toy sets made in code (the handwritten digits excepted), each with its judge.

A set is a function of its own name that returns a Dataset; the judge of `ring8` is `ring8_oracle`, in the same module.
"""

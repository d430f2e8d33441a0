"""Demonstrations of the theory: densities in closed form, small players, figures that a paper or a table predicts."""

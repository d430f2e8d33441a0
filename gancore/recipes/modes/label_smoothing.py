"""Label smoothing, Salimans et al. 2016, arXiv:1606.03498, section 3.4. D is taught less certainty than 1 about data.

D: min -a log D(x) - (1 - a) log(1 - D(x)) - b log D(g) - (1 - b) log(1 - D(g)); with b = 0 (one-sided) the best D is
a p_d / (p_d + p_g), with b > 0 (a p_d + b p_g) / (p_d + p_g). G: min -log D(g).
"""

from gancore import losses
from gancore.adversarial import adversarial
from gancore.core import Recipe, adam, recipe


@recipe
def label_smoothing(real: float = 0.9, fake: float = 0.0, critic_steps: int = 1, lr: float = 2e-4) -> Recipe:
    """real: a, D's target on data. fake: b, its target on fakes. critic_steps: updates of D for each one of G. lr: Adam's rate,
    betas (0.5, 0.999)."""
    pair = losses.Pair(lambda x, g: losses.bce(x, real) + losses.bce(g, fake), losses.non_saturating.generator)
    return adversarial(pair, adam(lr), critic_steps=critic_steps)

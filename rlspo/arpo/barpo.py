"""Bilevel adversarially robust policy optimisation (arXiv 2512.01228)."""

from __future__ import annotations

from rlspo.adversary import Objective, kl_to_clean
from rlspo.arpo.arpo import ARPO
from rlspo.common.update import Minibatch, Parameters
from rlspo.policies import Distribution


class BARPO(ARPO):
    """Bilevel adversarially robust policy optimisation.

    ::

        max_theta V(pi_theta o nu)   with   nu = argmax_nu KL(pi_theta(.|s) || pi_theta(.|nu(s))),   |nu(s) - s| <= epsilon

    The adversary looks for the observation that changes the policy's behaviour most, not for the one that costs it most:
    a milder opponent, which does not cut the promising but still fragile policies off (arXiv 2512.01228). The outer step
    is :class:`ARPO`'s, and so are all arguments. The dependence of nu on theta is dropped in the outer gradient, as in the
    paper; unlike in ARPO this is an approximation, since the inner and outer objectives differ.

    >>> from rlspo import BARPO
    >>> model = BARPO("MlpPolicy", "Pendulum-v1", n_steps=64, adversary_steps=2, seed=0).learn(128)
    """

    def adversary_objective(self, parameters: Parameters, batch: Minibatch | None, clean: Distribution) -> Objective:
        """The inner problem maximises the change of the policy, KL(pi(.|s) || pi(.|s')), also while acting."""
        return kl_to_clean(lambda inputs: self.policy.action_distribution(parameters, inputs), clean)

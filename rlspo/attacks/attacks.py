"""Attacks on an agent while it acts: one class for each, and what an attack of your own must give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

from rlspo.adversary import PGD, Langevin, Objective, RandomPoint, Solver, kl_to_clean, make_solver, negative
from rlspo.common.choices import make_kind
from rlspo.common.spaces import has_images
from rlspo.policies import ActorCriticPolicy


class Attack(ABC):
    """What an adversary maximises at each step, and how it searches; what it finds is what the policy sees.

    An attack of your own defines :meth:`objective`; see :doc:`arpo_barpo`.

    :param solver: the search: a :class:`rlspo.adversary.Solver`, its class, or its name
    """

    def __init__(self, solver: str | type[Solver] | Solver) -> None:
        self.solver = make_solver(solver)

    def solver_for(self, policy: ActorCriticPolicy) -> Solver:
        """The search against one policy.

        :param policy: under attack
        """
        return self.solver

    @abstractmethod
    def objective(self, policy: ActorCriticPolicy, inputs: Any) -> Objective:
        """What the search maximises: a function from perturbed inputs to one value for each, ``(B,)``.

        :param policy: under attack; ``distribution_of(inputs)`` is pi(.|s), ``values_of(inputs)`` is V(s), ``(B,)``
        :param inputs: true network inputs, ``(B, *shape)`` or for Dict observations a dictionary of these
        """


class RandomAttack(Attack):
    """``"random"``: a uniform point of the ball, without any aim."""

    def __init__(self) -> None:
        super().__init__(RandomPoint())

    def objective(self, policy: ActorCriticPolicy, inputs: Any) -> Objective:
        return lambda perturbed: torch.zeros(())


class CriticAttack(Attack):
    """``"critic"``: lower V(s'), the agent's own value of what it sees (Zhang et al. 2020, arXiv 2003.08938, appendix D).

    :param steps: gradients of the search
    :param solver: another search, its class or name; None: :class:`~rlspo.adversary.PGD`
    """

    def __init__(self, steps: int = 10, solver: str | type[Solver] | Solver | None = None) -> None:
        super().__init__(make_solver(solver or PGD, steps=steps))

    def objective(self, policy: ActorCriticPolicy, inputs: Any) -> Objective:
        return negative(policy.values_of)


class MADAttack(Attack):
    """``"mad"``, maximal action difference: maximise KL(pi(.|s) || pi(.|s')) (arXiv 2003.08938, appendix D).

    The change of the policy is weighted by its own covariance, see :func:`~rlspo.adversary.kl_to_clean`.

    :param steps: gradients of the search
    :param solver: another search, its class or name; None: :class:`~rlspo.adversary.Langevin` of temperature 1, as published,
        and :class:`~rlspo.adversary.PGD` for images, where the gradient in a single pixel drowns in that noise. It drowns
        too where a robust policy hardly changes: there ``"power"`` finds far more (:doc:`arpo_barpo`).
    """

    def __init__(self, steps: int = 10, solver: str | type[Solver] | Solver | None = None) -> None:
        super().__init__(make_solver(solver or Langevin, steps=steps, temperature=1.0))
        self._for_images = PGD(steps) if solver is None else self.solver

    def solver_for(self, policy: ActorCriticPolicy) -> Solver:
        return self._for_images if has_images(policy.observation_space) else self.solver

    def objective(self, policy: ActorCriticPolicy, inputs: Any) -> Objective:
        return kl_to_clean(policy.distribution_of, policy.distribution_of(inputs))


#: The attacks by name.
ATTACKS: dict[str, type[Attack]] = {"random": RandomAttack, "critic": CriticAttack, "mad": MADAttack}


def make_attack(
    attack: str | type[Attack] | Attack, steps: int = 10, solver: str | type[Solver] | Solver | None = None
) -> Attack:
    """The attack of a name or a class; an object unchanged.

    :param attack: one of :data:`ATTACKS`, a subclass of :class:`Attack`, or an object of one
    :param steps: gradients of the search, for a constructor that names them
    :param solver: another search than its own, for a constructor that names it; None for its own
    :raises ValueError: for an unknown name
    :raises TypeError: for anything else
    """
    return make_kind("attack", attack, ATTACKS, Attack, steps=steps, solver=solver)

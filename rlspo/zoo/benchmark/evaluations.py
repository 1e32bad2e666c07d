"""How a trained agent is evaluated: the kinds of evaluation that a grid may ask for.

A kind is one class here and one entry in :data:`KINDS`; the grid file, the worker and the tables know kinds only by these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Gt
from pydantic import BaseModel, ConfigDict, Field

from rlspo.zoo.envs.env_kwargs import overlaid
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate import evaluation
from rlspo.zoo.runs.saved_agent import SavedAgent
from rlspo.zoo.train.attackable import check_attack
from rlspo.zoo.train.plan import Plan


class Evaluation(BaseModel, ABC):
    """One way to evaluate an agent; its fields are the keys of the grid file.

    :param deterministic: take the likeliest action, not a sample
    :param env_kwargs: arguments of the environment, over those of the training
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    deterministic: bool = True
    env_kwargs: dict[str, Any] = Field(default_factory=dict)

    @abstractmethod
    def evaluate(self, agent: SavedAgent, n_episodes: int, device: str) -> evaluation.EvaluationResult:
        """Play whole episodes from the starts that ``rlspo evaluate`` gives to all agents.

        :param agent: with :attr:`env_kwargs` in its recipe
        """

    def check(self, plan: Plan) -> None:
        """Refuse an agent that cannot be evaluated this way, before any training.

        :param plan: of the training
        :raises UserError: with the reason
        """
        if self.env_kwargs:
            recipe = plan.recipe
            given = overlaid(recipe.env_id, recipe.gym_packages, recipe.env_kwargs, self.env_kwargs)
            replace(recipe, env_kwargs=given).probe()


class Natural(Evaluation):
    """The environment as it is."""

    def evaluate(self, agent: SavedAgent, n_episodes: int, device: str) -> evaluation.EvaluationResult:
        """Play with true observations."""
        return evaluation.evaluate(agent, n_episodes, deterministic=self.deterministic, device=device)


class Attack(Evaluation):
    """Every observation perturbed by an adversary.

    :param attack: one of :data:`rlspo.attacks.ATTACKS`
    :param epsilon: radius, in units of the network's input. It is the same for all agents of a grid, whatever they were
        trained against
    :param solver: search of the critic or the mad attack, one of :data:`rlspo.adversary.SOLVERS`; None for its own
    """

    attack: Literal["random", "critic", "mad"]
    epsilon: Annotated[float, Gt(0)]
    solver: Literal["power", "pgd", "langevin", "random"] | None = None

    def evaluate(self, agent: SavedAgent, n_episodes: int, device: str) -> evaluation.EvaluationResult:
        """Play with perturbed observations."""
        return evaluation.evaluate(
            agent,
            n_episodes,
            deterministic=self.deterministic,
            attack=self.attack,
            epsilon=self.epsilon,
            device=device,
            solver=self.solver,
        )

    def check(self, plan: Plan) -> None:
        """Attacks need a policy that they can differentiate, and observations that they can shift."""
        super().check(plan)
        if self.attack == "random" and self.solver is not None:
            raise UserError("evaluations: solver is the search of an attack that searches: critic or mad.")
        try:
            check_attack(self.attack, plan)
        except UserError as error:
            raise UserError(f"{error} Say how agents are evaluated there: evaluations: [natural]") from error


#: The key that only this kind has, and the kind. Without any of these keys an evaluation is natural.
KINDS: dict[str, type[Evaluation]] = {"attack": Attack}


def kind_of(settings: dict[str, Any]) -> type[Evaluation]:
    """The kind of evaluation that a mapping describes.

    >>> kind_of({}).__name__, kind_of({"attack": "mad"}).__name__
    ('Natural', 'Attack')
    """
    return next((kind for key, kind in KINDS.items() if key in settings), Natural)

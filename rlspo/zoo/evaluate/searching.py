"""Acting by search: the flags for it, and an agent that plans each step in copies of its environments."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from rlspo.spo import SPO, Planner
from rlspo.spo.planning import SEARCH_KL
from rlspo.zoo.cli.parser import positive, radius
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.acting import Actor
from rlspo.zoo.runs.saved_agent import SavedAgent

PARTICLES, DEPTH = 64, 8
#: As in the training of SPO: steps between resamplings, for agents without a setting for it.
RESAMPLE_PERIOD = 4


@dataclass(frozen=True)
class Budget:
    """The size of the search for each step, and its greediness.

    :param n_particles: at each state
    :param depth: steps that each looks ahead
    :param temperature: in units of the value; None: that of the training of an SPO, or chosen so that searches deviate
        ``search_kl`` from the policy
    :param search_kl: in nats, below the logarithm of ``n_particles``; None: the temperature of the training, or 0.5
    :raises UserError: for settings that do not go together
    """

    n_particles: int = PARTICLES
    depth: int = DEPTH
    temperature: float | None = None
    search_kl: float | None = None

    def __post_init__(self) -> None:
        if self.temperature is not None and self.search_kl is not None:
            raise UserError("--temperature and --search-kl both set how greedy a search is; give one of them.")
        if self.search_kl is not None and self.search_kl >= math.log(self.n_particles):
            raise UserError(
                f"--search-kl {self.search_kl}: {self.n_particles} particles deviate at most {math.log(self.n_particles):.3g} "
                "nats from the policy, the logarithm of their number. Give less, or more --particles."
            )

    def __str__(self) -> str:
        how = {"temperature": self.temperature, "search_kl": self.search_kl}
        extra = [f"{name} {value:g}" for name, value in how.items() if value is not None]
        return ", ".join([f"{self.n_particles} particles", f"depth {self.depth}", *extra])


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of acting by search; :func:`budget_from` reads them."""
    group = parser.add_argument_group("acting by search")
    group.add_argument(
        "--search",
        action="store_true",
        help="plan each step in copies of the environment, with the policy and the value of any actor-critic agent",
    )
    group.add_argument("--particles", type=positive, metavar="N", help=f"of a search at each state (default: {PARTICLES})")
    group.add_argument("--depth", type=positive, metavar="N", help=f"steps that a search looks ahead (default: {DEPTH})")
    group.add_argument(
        "--temperature",
        type=radius,
        metavar="T",
        help="in units of the value; less is greedier (default: that of the training of an SPO, else by --search-kl)",
    )
    group.add_argument(
        "--search-kl",
        type=radius,
        metavar="K",
        help=f"how far searches deviate from the policy, in nats on average; more is greedier (default: {SEARCH_KL})",
    )


def budget_from(args: argparse.Namespace) -> Budget | None:
    """The search that a command line asks for; None for none.

    :param args: parsed, with the flags of :func:`add_search_flags`
    :raises UserError: for flags that do not go together
    """
    given = {"n_particles": args.particles, "depth": args.depth, "temperature": args.temperature, "search_kl": args.search_kl}
    given = {name: value for name, value in given.items() if value is not None}
    if args.search and args.particles == 1:
        raise UserError("--particles 1: a single particle acts as the policy does. Give 2 or more.")
    if args.search:
        return Budget(**given)
    if given:
        flag = "--" + next(iter(given)).replace("n_", "").replace("_", "-")
        raise UserError(f"{flag} is a setting of a search. Add --search.")
    return None


class SearchingActor:
    """An agent that acts by search, where :class:`~rlspo.zoo.evaluate.acting.Actor` acts by the policy alone.

    :param agent: from which ``model`` was loaded
    :param env: the environments that it will act in, which must be in this process
    :param deterministic: see :meth:`rlspo.spo.Planner.act`
    :param seed: of the search
    :raises UserError: for an environment that cannot be simulated, and an agent that cannot be planned with
    """

    def __init__(
        self, agent: SavedAgent, model: BaseAlgorithm, env: VecEnv, budget: Budget, deterministic: bool, seed: int
    ) -> None:
        self.env, self.budget, self.deterministic = env, budget, deterministic
        #: Steps of all environments together.
        self.real_steps = 0
        generator = torch.Generator(device=model.device).manual_seed(seed)
        try:
            self.planner = Planner(
                model,
                env,
                generator=generator,
                scale_rewards=agent.reward_scaling(),
                **_settings(model, budget),
            )
        except (TypeError, ValueError) as error:
            raise UserError(f"--search: {error}") from error

    def settings(self) -> dict[str, Any]:
        """The settings of the search, as plain data."""
        planner = self.planner
        given = {**planner.settings, "temperature": planner.temperature}
        return given if planner.temperature is not None else {**given, "search_kl": planner.search_kl}

    def __call__(self, observations: Any, starts: np.ndarray) -> np.ndarray:
        """Choose actions, see :class:`~rlspo.zoo.evaluate.acting.Actor`."""
        self.real_steps += self.env.num_envs
        actions, _ = self.planner.act(self.env, observations, self.deterministic)
        return actions


def _settings(model: BaseAlgorithm, budget: Budget) -> dict[str, Any]:
    """Arguments of the planner: the agent's own, if it searched in training, with the budget on top."""
    discount: Any = getattr(model, "gamma", 0.99)  # an agent without one is refused by the planner, with a message
    settings: dict[str, Any] = {"gamma": discount, "resample_period": RESAMPLE_PERIOD}
    temperature = budget.temperature
    search_kl: float | None = budget.search_kl or SEARCH_KL
    if isinstance(model, SPO):
        settings = model.search_settings()
        if budget.search_kl is None:
            temperature, search_kl = temperature or model.search_temperature(), model.search_kl
    search_kl = search_kl if temperature is None else None
    asked = {"n_particles": budget.n_particles, "depth": budget.depth, "temperature": temperature, "search_kl": search_kl}
    return {**settings, **asked}


def in_this_process(agent: SavedAgent) -> SavedAgent:
    """The agent, with environments in this process, where a search can copy them."""
    return replace(agent, recipe=replace(agent.recipe, vec_env="dummy"))


def actor_for(
    agent: SavedAgent, model: BaseAlgorithm, env: VecEnv, budget: Budget | None, deterministic: bool, seed: int
) -> Actor | SearchingActor:
    """An actor that follows the policy, or one that searches where a budget is given."""
    if budget is None:
        return Actor(model, env, deterministic)
    return SearchingActor(agent, model, env, budget, deterministic, seed)

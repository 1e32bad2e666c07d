"""Evaluating a saved agent over many whole episodes: the statistics, and writing them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlspo.attacks.attacks import make_attack
from rlspo.attacks.evaluation import Episodes, attacked_episodes, ball_of_training, play
from rlspo.zoo.config.atomic import whole, write_text
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.acting import Actor, own_randomness
from rlspo.zoo.evaluate.attack_report import INNER_STEPS, radius
from rlspo.zoo.evaluate.searching import Budget, SearchingActor, in_this_process
from rlspo.zoo.evaluate.statistics import interval, iqm
from rlspo.zoo.runs.folder import environment_record
from rlspo.zoo.runs.saved_agent import SavedAgent

#: Seed of the environments, unless another is asked for: the same initial states for all agents, far from the seeds of
#: training.
SEED = 1_000_000
SIDE_BY_SIDE = 16
CONFIDENCE = 0.95


def success_rate_of(episodes: Episodes) -> float | None:
    """Share of successful episodes, as reported by the environment; None where it reports nothing. An episode that reports
    nothing, where others do, is none: some environments tell of successes only."""
    silent = np.isnan(episodes.successes)
    return None if silent.all() else float(np.where(silent, 0.0, episodes.successes).mean())


def summary_of(episodes: Episodes) -> dict[str, Any]:
    """The statistics, as plain data.

    The interval is over episodes of this one agent, not over agents trained anew; it is None for a single episode.

    :raises UserError: for returns that are NaN or infinite
    """
    returns = episodes.returns
    wrong = np.flatnonzero(~np.isfinite(returns))
    if len(wrong):
        raise UserError(
            f"{len(wrong)} of {len(returns)} returns are NaN or infinite, that of episode {wrong[0]} first, so there are no "
            "statistics of them. The environment gave such a reward: mend it there."
        )
    middle = interval(returns, iqm, confidence=CONFIDENCE)
    return {
        "mean": float(returns.mean()),
        "std": float(returns.std()),
        "median": float(np.median(returns)),
        "iqm": middle.value,
        "iqm_interval": [middle.low, middle.high] if len(returns) > 1 else None,
        "confidence": CONFIDENCE,
        "min": float(returns.min()),
        "max": float(returns.max()),
        "mean_length": float(episodes.lengths.mean()),
        "success_rate": success_rate_of(episodes),
    }


@dataclass(frozen=True)
class Searched:
    """Episodes in which the agent acted by search, and the cost of the search.

    :param episodes: from the same seeds as those of the policy alone
    :param settings: of the planner
    :param real_steps: of all environments together
    :param model_steps: of the simulator
    :param seconds: spent on searches
    """

    episodes: Episodes
    settings: dict[str, Any]
    real_steps: int
    model_steps: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """All but the single episodes, as plain data."""
        return {
            "settings": self.settings,
            "real_steps": self.real_steps,
            "model_steps": self.model_steps,
            "model_steps_per_real_step": self.model_steps / self.real_steps,
            "model_steps_per_second": self.model_steps / self.seconds,
            "seconds": self.seconds,
            "summary": summary_of(self.episodes),
        }


@dataclass(frozen=True)
class EvaluationResult:
    """Episodes of one agent, and how it acted in them.

    :param episodes: their returns and lengths, ordered by environment copy
    :param n_envs: copies of the environment
    :param seed: of the first copy; the others count up from it
    :param attack: on the observations, None for none
    :param epsilon: radius of the attack in units of the policy's input, None without an attack
    :param norm: of the attack's ball
    :param searched: the same by search, None where that was not asked for
    :param solver: search of the attack, None for its own
    """

    agent: SavedAgent
    episodes: Episodes
    n_envs: int
    deterministic: bool
    seed: int
    attack: str | None
    epsilon: float | None
    norm: str | None = None
    searched: Searched | None = None
    solver: str | None = None

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted returns, ``(n_episodes,)``."""
        return self.episodes.returns

    @property
    def lengths(self) -> np.ndarray:
        """Steps, ``(n_episodes,)``."""
        return self.episodes.lengths

    @property
    def success_rate(self) -> float | None:
        """Share of successful episodes, as reported by the environment; None where it reports nothing."""
        return success_rate_of(self.episodes)

    def summary(self) -> dict[str, Any]:
        """The statistics of the policy alone, see :func:`summary_of`."""
        return summary_of(self.episodes)

    def rows(self) -> list[dict[str, Any]]:
        """One mapping of plain data for each episode; with a search those of both, distinguished by ``acts_by``."""
        if self.searched is None:
            return self._rows(self.episodes)
        both = (("policy", self.episodes), ("search", self.searched.episodes))
        return [{"acts_by": name, **row} for name, episodes in both for row in self._rows(episodes)]

    def _rows(self, of: Episodes) -> list[dict[str, Any]]:
        return [
            {
                "episode": number,
                "env": int(copy),
                "seed": self.seed + int(copy),
                "return": float(of.returns[number]),
                "length": int(of.lengths[number]),
                "success": None if np.isnan(of.successes[number]) else bool(of.successes[number]),
            }
            for number, copy in enumerate(of.copies)
        ]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data: which agent, how it was evaluated, the statistics, every episode, and versions."""
        return {
            "agent": {
                "model": str(self.agent.model_file),
                "which": self.agent.which,
                "algo": self.agent.algo,
                "env": self.agent.env,
                "env_kwargs": self.agent.recipe.env_kwargs,
                "num_timesteps": self.agent.num_timesteps,
            },
            "n_episodes": len(self.returns),
            "n_envs": self.n_envs,
            "deterministic": self.deterministic,
            "seed": self.seed,
            "attack": self._attack(),
            "summary": self.summary(),
            "search": None if self.searched is None else self.searched.as_dict(),
            "episodes": self.rows(),
            "versions": environment_record()["packages"],
        }

    def _attack(self) -> dict[str, Any] | None:
        if self.attack is None:
            return None
        search = {} if self.solver is None else {"solver": self.solver}
        return {"name": self.attack, "epsilon": self.epsilon, "norm": self.norm, "inner_steps": INNER_STEPS, **search}

    def write_json(self, file: Path) -> None:
        """Write :meth:`as_dict`, whole or not at all."""
        write_text(file, json.dumps(self.as_dict(), indent=2) + "\n")

    def write_csv(self, file: Path) -> None:
        """Write :meth:`rows`, whole or not at all; success is empty where the environment reports none."""
        rows = self.rows()
        with whole(file) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def evaluate(
    agent: SavedAgent,
    n_episodes: int = 100,
    n_envs: int | None = None,
    deterministic: bool = True,
    seed: int = SEED,
    attack: str | None = None,
    epsilon: float | None = None,
    device: str = "auto",
    on_episode: Callable[[], None] | None = None,
    search: Budget | None = None,
    solver: str | None = None,
) -> EvaluationResult:
    """Run whole episodes, the same number in each copy of the environment, so that short ones do not count more often.

    :param agent: from :func:`rlspo.zoo.runs.saved_agent.find_agent`
    :param n_episodes: how many, at least 1
    :param n_envs: copies of the environment that step side by side (default: 16, or one for each episode)
    :param deterministic: take the mode of the policy (of a mixture that of its most likely expert), not a sample
    :param seed: of the first copy, the agent's samples and the attack; the other copies count up from it
    :param attack: one of :data:`rlspo.attacks.ATTACKS`
    :param epsilon: radius of the attack (default: that of training, else 0.075, for images 1/255)
    :param device: of the networks
    :param on_episode: called after each episode
    :param search: run the same episodes once more by search, with this budget; None: by the policy alone
    :param solver: search of the attack, one of :data:`rlspo.adversary.SOLVERS`; None for its own
    :raises UserError: for an agent that cannot be loaded, does not fit the environment, or cannot be attacked; with a search,
        for one that cannot be planned with, or an environment that cannot be simulated
    """
    if search is not None and attack is not None:
        raise UserError(
            "--search does not go with --attack: an attack changes what the agent sees, a search plans from the true state."
        )
    agent = replace(agent, recipe=agent.recipe.stepped_together()) if search is None else in_this_process(agent)
    n_envs = min(n_episodes, n_envs or SIDE_BY_SIDE)
    model = agent.load(device)
    env = agent.build_env(n_envs, seed)
    searched = None
    try:
        agent.check_fit(model, env)
        planned = None if search is None else SearchingActor(agent, model, env, search, deterministic, seed)
        env.seed(seed)
        with own_randomness(model, seed):
            if attack is None:
                episodes = play(Actor(model, env, deterministic), env, n_episodes, on_episode)
            else:
                epsilon = radius(model, epsilon)
                others = {"seed": seed, "deterministic": deterministic, "on_episode": on_episode}
                episodes = _under_attack(attack, solver, model, env, epsilon, n_episodes, **others)
        if planned is not None:
            searched = _by_search(planned, n_episodes, seed, on_episode)
    finally:
        env.close()
    return EvaluationResult(
        agent,
        episodes,
        n_envs,
        deterministic,
        seed,
        attack,
        epsilon=None if attack is None else epsilon,
        norm=None if attack is None else ball_of_training(model)["norm"],
        searched=searched,
        solver=solver,
    )


def _by_search(actor: SearchingActor, n_episodes: int, seed: int, on_episode: Callable[[], None] | None) -> Searched:
    actor.env.seed(seed)
    with own_randomness(actor.planner.model, seed):
        episodes = play(actor, actor.env, n_episodes, on_episode)
    planner = actor.planner
    return Searched(episodes, actor.settings(), actor.real_steps, int(planner.model_steps), planner.seconds)


def _under_attack(attack: str, solver: str | None, model: Any, env: Any, *arguments: Any, **others: Any) -> Episodes:
    """Attacked episodes, with one clear message for an agent that cannot be attacked."""
    try:
        return attacked_episodes(model, env, make_attack(attack, INNER_STEPS, solver), *arguments, **others)
    except (TypeError, ValueError) as error:
        raise UserError(f"--attack: {error}") from error

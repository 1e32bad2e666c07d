"""One training of one seed, without a folder: evaluated on the way, and by fresh episodes at its end."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization

from rlspo.attacks import attacked_evaluation
from rlspo.attacks.evaluation import play
from rlspo.zoo.config.allowed import Allowed, check_settings
from rlspo.zoo.config.convert import merged
from rlspo.zoo.envs.of_run import evaluation_recipe
from rlspo.zoo.evaluate.acting import Actor, own_randomness
from rlspo.zoo.evaluate.attack_report import INNER_STEPS, radius
from rlspo.zoo.evaluate.statistics import iqm
from rlspo.zoo.train.plan import make_plan

_SIDE_BY_SIDE = 10  # environments of an evaluation


class Abandoned(Exception):
    """Whoever watches a training wants no more of it."""


@dataclass(frozen=True)
class EvaluationProtocol:
    """How an agent is evaluated.

    :param checkpoints: evaluations in one training, at equal distances; the last is the fresh one at the end
    :param episodes: of each evaluation on the way
    :param final_episodes: of the evaluation at the end, whose interquartile mean is the seed's score
    :param attack: one of :data:`rlspo.attacks.ATTACKS`; None for true observations
    :param epsilon: radius of the attack; None for the agent's own
    """

    checkpoints: int = 10
    episodes: int = 5
    final_episodes: int = 20
    attack: str | None = None
    epsilon: float | None = None

    def checkpoint(self, steps: int, total: int) -> int:
        """The last checkpoint on the way that a training has come to, counted from 0; -1 before the first.

        >>> [EvaluationProtocol(checkpoints=10).checkpoint(steps, 1000) for steps in (99, 100, 256, 900, 1000)]
        [-1, 0, 1, 8, 8]
        """
        return min(steps * self.checkpoints // total, self.checkpoints - 1) - 1


@dataclass(frozen=True)
class Outcome:
    """What came of one seed.

    :param score: interquartile mean of the returns at the end
    :param returns: of the fresh episodes at the end, ``(final_episodes,)``
    :param curve: steps and mean return of each evaluation on the way
    :param seconds: training and evaluations
    :param code: commit of rlspo that trained it, empty where that is not known
    """

    seed: int
    score: float
    returns: list[float]
    curve: list[tuple[int, float]]
    seconds: float
    code: str = ""

    def plain(self) -> dict[str, Any]:
        """Plain data, exact: a study that goes on tells its pruner what it told it before."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Outcome:
        """What :meth:`plain` gave."""
        return cls(**{**data, "curve": [(int(step), float(value)) for step, value in data["curve"]]})


def train_seed(
    base: dict[str, Any],
    overrides: dict[str, Any],
    seed: int,
    protocol: EvaluationProtocol,
    on_step: Callable[[int], None],
    on_evaluation: Callable[[int, float], None],
) -> Outcome:
    """Train an agent and evaluate it.

    :param base: what ``rlspo train`` would have parsed
    :param overrides: settings on top of it, merged key by key
    :param on_step: called with the steps done, at every step of the environments
    :param on_evaluation: called with the checkpoint, counted from 0, and the mean return there; one is left out where a
        single step of many environments passes it and the next
    :raises Abandoned: when a callback raised it
    :raises UserError: for settings that the agent refuses
    """
    started = time.monotonic()
    check_settings(overrides, "the settings of the trial", Allowed.of(argparse.Namespace(**base)))
    settings = merged(base["hyperparams"], overrides)
    plan = make_plan(argparse.Namespace(**{**base, "hyperparams": settings, "seed": seed}))
    config = plan.config
    env = plan.recipe.build(config.settings.n_envs, seed, training=True)
    recipe = dataclasses.replace(evaluation_recipe(config), vec_env="dummy")
    test_env = recipe.build(min(max(protocol.episodes, 1), _SIDE_BY_SIDE), config.seeds.evaluation, training=False)
    fresh_env = recipe.build(min(protocol.final_episodes, _SIDE_BY_SIDE), config.seeds.report, training=False)
    try:
        model = plan.new_agent(env, seed=seed, verbose=0, device=base["device"])
        total = config.settings.n_timesteps
        watch = _Watch(test_env, total, protocol, config.seeds.evaluation, on_step, on_evaluation)
        model.learn(total, callback=[watch, *plan.callbacks])
        returns = _returns(model, fresh_env, protocol, protocol.final_episodes, config.seeds.report)
    finally:
        for each in (env, test_env, fresh_env):
            each.close()
    return Outcome(seed, iqm(returns), returns.tolist(), watch.curve, time.monotonic() - started)


class _Watch(BaseCallback):
    """Evaluates at equal distances: at the same steps whatever the settings, so that trials compare."""

    def __init__(
        self,
        env: VecEnv,
        total: int,
        protocol: EvaluationProtocol,
        seed: int,
        on_step: Callable[[int], None],
        on_evaluation: Callable[[int, float], None],
    ) -> None:
        super().__init__()
        self.env, self.total, self.protocol, self.seed = env, total, protocol, seed
        self.tell_steps, self.tell_evaluation = on_step, on_evaluation
        self.curve: list[tuple[int, float]] = []
        self.last = -1  # checkpoint

    def _on_step(self) -> bool:
        self.tell_steps(self.num_timesteps)
        checkpoint = self.protocol.checkpoint(self.num_timesteps, self.total)
        if checkpoint > self.last:  # a step of many environments may pass several, of which it stands at the last
            self.last = checkpoint
            seed = self.seed + checkpoint * self.env.num_envs  # of episodes that no other evaluation plays
            returns = _returns(self.model, self.env, self.protocol, self.protocol.episodes, seed)
            self.curve.append((self.num_timesteps, float(returns.mean())))
            self.tell_evaluation(checkpoint, self.curve[-1][1])
        return True


def _returns(model: BaseAlgorithm, env: VecEnv, protocol: EvaluationProtocol, n_episodes: int, seed: int) -> np.ndarray:
    """Returns of whole episodes, in equal shares of the environments, deterministic."""
    env.seed(seed)
    training_env = model.get_env()
    if training_env is not None and model.get_vec_normalize_env() is not None:
        sync_envs_normalization(training_env, env)
    if protocol.attack is not None:
        epsilon = radius(model, protocol.epsilon)
        return attacked_evaluation(model, env, protocol.attack, epsilon, n_episodes, steps=INNER_STEPS, seed=seed)
    with own_randomness(model, seed):
        return play(Actor(model, env), env, n_episodes).returns

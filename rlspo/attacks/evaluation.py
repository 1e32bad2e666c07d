"""Episodes of an agent whose every observation is perturbed.

The policy acts deterministically by default. The perturbation is measured in units of the policy's own (normalised) input,
so equal radii are not equal physical disturbances across policies.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm, maybe_make_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy as SB3ActorCriticPolicy
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from rlspo.adversary import Perturbation
from rlspo.attacks.attacks import Attack, make_attack
from rlspo.common.collector import env_actions
from rlspo.common.env_memory import EnvMemory
from rlspo.common.errors import check_count, check_number
from rlspo.common.randomness import generators_seeded
from rlspo.common.settings import check_flag
from rlspo.common.trees import to_tensor
from rlspo.policies import ActorCriticPolicy, functional_policy_class
from rlspo.policies.recurrent import KNOWN_POLICIES, Recurrent
from rlspo.policies.recurrent.as_contrib import constructor_arguments
from rlspo.policies.written_for_sb3 import own_methods

#: Most ends of episodes in a row that a Monitor inside does not see, such as lives lost in a game.
_MOST_UNSEEN = 1_000
_UNSEEN = (
    f"A wrapper ended {_MOST_UNSEEN:,} episodes in a row while the episode of the Monitor inside of it went on, so none can "
    "be counted. Put what ends episodes, such as a TimeLimit, inside of the Monitor."
)


@dataclass(frozen=True)
class Episodes:
    """Results of whole episodes, ordered by environment copy and then by time.

    :param returns: undiscounted, unscaled sums of rewards, ``(n_episodes,)``
    :param lengths: steps, ``(n_episodes,)``
    :param successes: ``is_success`` in the last info: 1 for True, 0 for False, NaN where it is missing, ``(n_episodes,)``
    :param copies: which copy of the environment each was played in, ``(n_episodes,)``
    """

    returns: np.ndarray
    lengths: np.ndarray
    successes: np.ndarray
    copies: np.ndarray


def attacked_evaluation(
    model: BaseAlgorithm,
    env: Any,
    attack: str | type[Attack] | Attack | None,
    epsilon: float,
    n_eval_episodes: int = 50,
    steps: int = 10,
    seed: int = 0,
    deterministic: bool = True,
    norm: str | None = None,
    clip_to_space: bool | None = None,
    adversary_keys: list[str] | None = None,
) -> np.ndarray:
    """Returns of an actor-critic agent under attack.

    :param model: an agent of rlspo, or SB3's A2C or PPO
    :param env: an id, a gymnasium environment, or a VecEnv with as many copies as should run in parallel. Each copy plays the
        same number of episodes, so that short ones do not count more often. Statistics of a VecNormalize are not updated;
        those that the model was trained with are put around an ``env`` that has none. An environment that the model trains on
        is reset at its next ``learn``.
    :param attack: one of :data:`ATTACKS`, or an :class:`Attack` of your own, class or object; None for the natural return
    :param epsilon: radius in units of the policy's input: standard deviations where the policy normalises observations
    :param n_eval_episodes: number of episodes
    :param steps: gradient steps of the attack, each of length ``epsilon / steps``; an object has its own
    :param seed: of the attack and the environments, including those that draw from a global generator
    :param deterministic: act by the mode of the policy, not by samples
    :param norm: ``"linf"`` or ``"l2"``; None: that of the training where there was an adversary, else ``"linf"``
    :param clip_to_space: keep what is shown within the bounds of the observation space, as images always are; None: as in
        such a training, else False
    :param adversary_keys: of a Dict observation, which are perturbed; None: as in such a training, else all continuous ones
    :return: undiscounted, unscaled returns, ``(n_eval_episodes,)``
    :raises ValueError: for the name of no attack, or a negative radius
    :raises TypeError: for a model whose policy is no actor-critic, and an attack that is none
    """
    ball = (norm, clip_to_space, adversary_keys)
    return attacked_episodes(model, env, attack, epsilon, n_eval_episodes, steps, seed, deterministic, *ball).returns


def attacked_episodes(
    model: BaseAlgorithm,
    env: Any,
    attack: str | type[Attack] | Attack | None,
    epsilon: float,
    n_eval_episodes: int = 50,
    steps: int = 10,
    seed: int = 0,
    deterministic: bool = True,
    norm: str | None = None,
    clip_to_space: bool | None = None,
    adversary_keys: list[str] | None = None,
    on_episode: Callable[[], None] | None = None,
) -> Episodes:
    """Episodes of an actor-critic agent under attack: as :func:`attacked_evaluation`, with lengths and successes too.

    :param on_episode: called after each one
    """
    epsilon = check_number("epsilon", epsilon)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed is {seed!r}; it must be a whole number of at least 0, such as seed=0.")
    if clip_to_space is not None:
        check_flag("clip_to_space", clip_to_space)
    adversary = None if attack is None else make_attack(attack, steps)
    policy = _functional_policy(model)
    generator = torch.Generator(device=policy.device).manual_seed(seed)
    # Actions draw from a stream of their own, so that they are the same whatever the attack draws.
    drawn = int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1)
    samples = torch.Generator(device=policy.device).manual_seed(drawn)
    ball = ball_of_training(model, norm, clip_to_space, adversary_keys)
    perturb = None if adversary is None else _perturb(policy, adversary, epsilon, ball, generator)

    venv = _normalised(model._wrap_env(maybe_make_env(env, verbose=0), verbose=0), model)
    memory = EnvMemory(venv.num_envs, policy.memory_size)

    @torch.no_grad()
    def act(observations: Any, starts: np.ndarray) -> np.ndarray:
        seen = memory.seen(observations, starts) if isinstance(policy, Recurrent) else observations
        inputs = policy.preprocess(to_tensor(seen, policy.device))
        shown = inputs if perturb is None else perturb(inputs)
        distribution = policy.distribution_of(shown)
        actions = distribution.mode() if deterministic else distribution.sample(samples)
        if isinstance(policy, Recurrent):
            memory.after = policy.memory_after(shown).cpu().numpy()  # a victim remembers what it was shown
            memory.move_on()
        return env_actions(actions.cpu().numpy(), policy, policy.action_space)

    policy.set_training_mode(False)
    check_for_correct_spaces(venv, model.observation_space, model.action_space)
    if venv is model.env:
        model._last_obs = None
    venv.seed(seed)
    with frozen_statistics(venv), generators_seeded(seed):
        return play(act, venv, n_eval_episodes, on_episode)


def _normalised(env: VecEnv, model: BaseAlgorithm) -> VecEnv:
    """``env`` in a copy of the ``VecNormalize`` that the model was trained in, unless it has one.

    :raises ValueError: where the statistics are of other observations, as with frames stacked outside of them
    """
    own = model.get_vec_normalize_env()
    if own is None or unwrap_vec_normalize(env) is not None:
        return env
    normalize: VecNormalize = type(own).__new__(type(own))
    normalize.__setstate__(copy.deepcopy(own.__getstate__()))
    try:
        normalize.set_venv(env)
    except Exception as error:  # an assertion of SB3's, or whatever comes of other spaces
        raise ValueError(
            f"The agent was trained in a VecNormalize of {own.observation_space}, and the environment, of "
            f"{env.observation_space}, is in none. Wrap it as in training: VecNormalize.load(...), then what was around that."
        ) from error
    return normalize


@contextlib.contextmanager
def frozen_statistics(env: VecEnv) -> Iterator[None]:
    """Context in which a VecNormalize around ``env`` does not update its statistics."""
    normalize = unwrap_vec_normalize(env)
    if normalize is None:
        yield
        return
    before = normalize.training, normalize.norm_reward
    normalize.training = normalize.norm_reward = False
    try:
        yield
    finally:
        normalize.training, normalize.norm_reward = before


def play(
    act: Callable[[Any, np.ndarray], np.ndarray],
    env: VecEnv,
    n_episodes: int,
    on_episode: Callable[[], None] | None = None,
) -> Episodes:
    """Play ``n_episodes`` whole episodes. Each environment copy plays a number fixed in advance; these differ by at most one.

    Stopping after the first ``n_episodes`` to end, in whichever copy, would count short episodes more often.

    :param act: from observations ``(n_envs, *obs_shape)`` and whether each begins an episode ``(n_envs,)`` to actions
    :param on_episode: called after each episode that counts
    :raises RuntimeError: where a wrapper outside of a Monitor keeps ending episodes, and the Monitor's episode never ends
    :return: where there is a Monitor, its raw returns and its episodes (wrappers above it may cut these into pieces or
        scale rewards)
    """
    check_count("n_eval_episodes", n_episodes)
    monitored = env.env_is_wrapped(Monitor)[0]
    quota = np.array([(n_episodes + index) // env.num_envs for index in range(env.num_envs)])
    running, steps = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=int)
    unseen = np.zeros(env.num_envs, dtype=int)
    played: list[list[tuple[float, int, float]]] = [[] for _ in range(env.num_envs)]
    observations, dones = env.reset(), np.ones(env.num_envs, dtype=bool)
    while quota.any():
        observations, rewards, dones, infos = env.step(act(observations, dones))
        running += rewards
        steps += 1
        for index in np.flatnonzero(dones):
            if monitored and "episode" not in infos[index]:
                unseen[index] += 1
                if unseen[index] > _MOST_UNSEEN:
                    raise RuntimeError(_UNSEEN)
                continue
            unseen[index] = 0
            if quota[index] > 0:
                quota[index] -= 1
                whole = infos[index]["episode"] if monitored else {"r": running[index], "l": steps[index]}
                played[index].append((whole["r"], whole["l"], infos[index].get("is_success", np.nan)))
                if on_episode is not None:
                    on_episode()
            running[index] = steps[index] = 0
    returns, lengths, successes = np.array([episode for copy in played for episode in copy], dtype=float).reshape(-1, 3).T
    copies = np.repeat(np.arange(env.num_envs), [len(copy) for copy in played])
    return Episodes(returns, lengths.astype(int), successes, copies)


def ball_of_training(
    model: BaseAlgorithm,
    norm: str | None = None,
    clip_to_space: bool | None = None,
    adversary_keys: list[str] | None = None,
) -> dict[str, Any]:
    """The shape of the ball as arguments of :class:`~rlspo.adversary.Perturbation`: what is None is that of the adversary in
    training, where the agent had one."""
    return {
        "norm": getattr(model, "norm", "linf") if norm is None else norm,
        "clip_to_space": getattr(model, "clip_to_space", False) if clip_to_space is None else clip_to_space,
        "keys": getattr(model, "adversary_keys", None) if adversary_keys is None else adversary_keys,
    }


def _perturb(
    policy: ActorCriticPolicy, attack: Attack, epsilon: float, ball: dict[str, Any], generator: torch.Generator
) -> Callable[[Any], Any]:
    """A function from clean to perturbed network inputs."""
    solver = attack.solver_for(policy)
    perturbation = Perturbation(policy.preprocess, policy.observation_space, solver, **ball, device=policy.device)
    radius = torch.tensor(epsilon, device=policy.device)

    def perturb(inputs: Any) -> Any:
        noise = perturbation.draw(inputs, generator)
        return perturbation(attack.objective(policy, inputs), inputs, radius, noise)

    return perturb


def _functional_policy(model: BaseAlgorithm) -> ActorCriticPolicy:
    """The model's policy, or for an SB3 policy, a copy with the same weights and the functional methods that attacks need."""
    policy = model.policy
    own = own_methods(type(policy), ("predict", "_predict"))
    own = [name for name in own if not getattr(type(policy), name).__module__.startswith("sb3_contrib.")]
    if own or getattr(policy, "acts_as_written", False):
        raise TypeError(
            f"{type(policy).__name__} chooses actions in {(own or ['predict'])[0]}, a method of its own, which attacks do not "
            "know: they would evaluate another agent. Define _distribution(latent) or distribution_of(inputs) in its place; "
            "the natural return is that of stable_baselines3.common.evaluation.evaluate_policy."
        )
    if isinstance(policy, ActorCriticPolicy):
        return policy
    if not isinstance(policy, SB3ActorCriticPolicy):
        raise TypeError(
            f"The model's policy is a {type(policy).__name__}; these attacks need an actor-critic policy: "
            "PPO, ARPO, BARPO, PDPPO and SPO of rlspo, PPO and A2C of SB3."
        )
    try:
        twin_class = functional_policy_class(type(policy), KNOWN_POLICIES)
        twin = twin_class(**constructor_arguments(policy)).to(policy.device)
    except TypeError as error:
        raise TypeError(
            f"The model's policy is a {type(policy).__name__}, a class of its own that attacks cannot use: {error}"
        ) from error
    twin.load_state_dict(policy.state_dict())
    return twin

"""Acting by search with the policy and the value function of any agent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common import policies as sb3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from rlspo.common.collector import env_actions
from rlspo.common.errors import InvalidRolloutError, check_number, did_you_mean
from rlspo.common.normalizers import scaled_rewards
from rlspo.common.spaces import as_env_numbers, start_of
from rlspo.common.trees import tree_leaves, tree_map
from rlspo.simulators import simulator_for
from rlspo.spo.exploration import RootNoise
from rlspo.spo.search import Propose, Search, SearchSettings, Value, search
from rlspo.spo.temperature import check_divergence, temperature_for

Tensor = torch.Tensor
#: A planner without a given temperature fits it to the advantages of this many states: at each of its first searches, and
#: later once as many new states have been searched.
STATES_FITTED, FITS_AT_FIRST = 512, 10
#: Default divergence of searches from the policy, in nats.
SEARCH_KL = 0.5


def proposals(model: BaseAlgorithm, generator: Callable[[], torch.Generator | None]) -> Propose:
    """A function that samples the agent's policy (Box actions flat).

    :param generator: called at each draw; SB3's agents draw from torch's global generator
    :raises TypeError: for an agent without a distribution over actions, and for one with a memory
    """
    policy: Any = model.policy
    if getattr(policy, "lstm_actor", None) is not None:
        raise TypeError(
            f"{type(model).__name__} cannot be planned with: its {type(policy).__name__} has a memory, and a search "
            "evaluates each state by itself. Use a policy without memory."
        )
    if hasattr(policy, "distribution_of"):
        return lambda seen: policy.distribution_of(policy.preprocess(seen)).sample(generator())
    if isinstance(policy, sb3.ActorCriticPolicy):
        return lambda seen: _own_noise(policy, seen, lambda: policy.get_distribution(seen).sample())
    if hasattr(policy, "actor") and hasattr(policy.actor, "action_log_prob") and hasattr(policy.critic, "q1_forward"):
        return lambda seen: _own_noise(policy.actor, seen, lambda: policy.actor(seen, deterministic=False))
    raise TypeError(
        f"{type(model).__name__} cannot be planned with: a search draws actions from a policy and asks what states are worth, "
        "which PPO and its variants, A2C, SAC and SPO can tell."
    )


def _own_noise(actor: Any, seen: Any, draw: Callable[[], Tensor]) -> Tensor:
    """Sample with a noise matrix of generalised state-dependent exploration (gSDE) for each row; SB3 draws one for all
    rows."""
    if getattr(actor, "use_sde", False):
        actor.reset_noise(len(tree_leaves(seen)[0]))
    return draw()


def values(model: BaseAlgorithm) -> Value:
    """V of the agent's critic, ``(K,)``.

    SAC's is the lower Q of its mode, without the entropy of the state. With SAC's own V(s) = E[Q(s, a) - alpha log pi] the
    rewards of a branch would need their entropies too, and its sample is noisier. Q includes the entropies of later states. So
    values of branches deviate from SAC's objective by alpha times the entropies over ``depth`` steps.
    """
    policy: Any = model.policy
    if hasattr(policy, "values_of"):
        return lambda seen: policy.values_of(policy.preprocess(seen))
    if isinstance(policy, sb3.ActorCriticPolicy):
        return lambda seen: policy.predict_values(seen).squeeze(-1)
    return lambda seen: torch.cat(policy.critic(seen, policy.actor(seen, deterministic=True)), dim=-1).amin(dim=-1)


def check_spaces(model: BaseAlgorithm, env: Any) -> None:
    """
    :raises ValueError: where observations or actions of the environment and the agent differ in shape
    """
    for name in ("observation_space", "action_space"):
        own = getattr(model, name)
        given = getattr(env, f"single_{name}", None) or getattr(env, name)
        if _shape(given) != _shape(own):
            raise ValueError(
                f"The {name} of the environment is {given}, and that of the agent {own}. Wrap the environment as the agent's "
                "own, model.get_env(), is: around images stands a VecTransposeImage."
            )


def _shape(space: spaces.Space) -> Any:
    """Shapes that networks depend on; bounds do not matter."""
    if isinstance(space, spaces.Dict):
        return {key: _shape(part) for key, part in space.spaces.items()}
    sizes = getattr(space, "nvec", getattr(space, "n", None))
    choices = None if sizes is None else (np.asarray(sizes).tolist(), np.asarray(start_of(space)).tolist())
    return type(space), space.shape, choices


def _scaling_of_training(model: BaseAlgorithm, env: Any) -> Callable[[Tensor], Tensor] | None:
    """From rewards of ``env`` to those of the ``VecNormalize`` that the agent has; None where they are the same."""
    known = model.get_vec_normalize_env()
    around = unwrap_vec_normalize(env) if isinstance(env, VecEnv) else None
    if known is None or not known.norm_reward or (around is not None and around.norm_reward):
        return None

    return lambda rewards: scaled_rewards(rewards, float(known.ret_rms.var), known.epsilon, known.clip_reward)


def check_no_pair(observations: Any) -> None:
    """
    :raises TypeError: for an observation with its info
    """
    if isinstance(observations, tuple):
        raise TypeError("observation is a tuple, as gymnasium's reset() returns it; give its first part: env.reset()[0].")


def check_one_for_each(observations: Any, n_envs: int, space: spaces.Space) -> None:
    """
    :raises ValueError: where there is not one observation for each environment
    """
    parts: Any = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    shapes = [(n_envs, *part.shape) for part in parts]
    given = [np.shape(leaf) for leaf in tree_leaves(observations)]
    if sorted(map(tuple, given)) != sorted(map(tuple, shapes)):
        raise ValueError(f"The observations have shapes {given}, but {n_envs} environment(s) give {shapes}.")


class Planner:
    """Searches from the states of an environment with an agent's policy and value.

    :param model: PPO, ARPO, BARPO, PDPPO, SAC or SPO of rlspo; PPO, A2C or SAC of SB3
    :param env: the environment to act in, see :func:`rlspo.simulators.simulator_for`
    :param temperature: in units of V; None: fitted to recent searches, so that their mean divergence from the policy is
        ``search_kl``
    :param search_kl: in nats, below the logarithm of ``n_particles``; None: 0.5. Not together with ``temperature``, which
        fixes it
    :param root_noise: see :class:`~rlspo.spo.exploration.RootNoise`; None for none
    :param scale_rewards: from rewards of the environment to those that the agent was trained with, where these differ; None:
        as the ``VecNormalize`` that the agent has, where ``env`` has none that normalises rewards. The agent's own reward
        scaling is applied in addition
    :param generator: source of all randomness, on the model's device
    :param settings: see :class:`~rlspo.spo.SearchSettings`; ``gamma`` defaults to the agent's
    :raises NotSimulatableError: for an environment that cannot be simulated
    :raises TypeError: for an agent that cannot be planned with
    :raises ValueError: for settings out of range, for two that exclude each other, and for an environment whose observations
        or actions differ from the agent's
    """

    def __init__(
        self,
        model: BaseAlgorithm,
        env: Any,
        *,
        temperature: float | None = None,
        search_kl: float | None = None,
        root_noise: RootNoise | None = None,
        scale_rewards: Callable[[Tensor], Tensor] | None = None,
        generator: torch.Generator | None = None,
        **settings: Any,
    ) -> None:
        names = [one.name for one in fields(SearchSettings)]
        for name in settings.keys() - set(names):
            raise TypeError(f"A search has no setting {name!r}. {did_you_mean(name, names)}")
        settings = {"gamma": getattr(model, "gamma", SearchSettings.gamma), **settings}
        SearchSettings(**settings, temperature=1.0 if temperature is None else temperature)
        if temperature is not None and search_kl is not None:
            raise ValueError(
                f"temperature is {temperature} and search_kl {search_kl}; give one of them: both say how greedy a search is."
            )
        search_kl = check_number("search_kl", SEARCH_KL if search_kl is None else search_kl, positive=True)
        if temperature is None:
            check_divergence(search_kl, settings.get("n_particles", SearchSettings.n_particles))
        self.model, self.settings = model, settings
        self.temperature, self.search_kl = temperature, search_kl
        self.root_noise, self.generator = root_noise, generator
        if root_noise is not None and model.policy.squash_output:
            self.root_noise = root_noise.squashed()
        self.scale_rewards = scale_rewards or _scaling_of_training(model, env)
        proposals(model, lambda: generator)
        if root_noise is not None and not hasattr(model.policy, "distribution_of"):
            raise TypeError(f"root_noise needs the probabilities of an rlspo policy; {type(model.policy).__name__} has none.")
        self.simulator = simulator_for(env, model.device)
        check_spaces(model, env)
        #: Simulator steps of all searches, and their duration in seconds.
        self.model_steps, self.seconds = 0.0, 0.0

    @property
    def propose(self) -> Propose:
        """Samples of the agent's policy. Built on access, so that a copy of an agent plans with its own policy."""
        return proposals(self.model, lambda: self.generator)

    @property
    def value(self) -> Value:
        """V of the agent's critic, built on access."""
        return values(self.model)

    def search(self, env: Any, observations: Any) -> Search:
        """Plan from the current state of ``env``, which is not changed.

        :param env: of the same kind as the planner's environment
        :param observations: the current ones, ``(n_envs, *obs_shape)``: arrays, tensors or lists of numbers, or a dictionary
            of these
        :raises TypeError: for the pair that gymnasium's ``reset`` returns
        :raises ValueError: for another number of observations than environments
        :raises InvalidRolloutError: where all branches of a state give NaN or infinity
        """
        check_no_pair(observations)
        start = time.perf_counter()
        was_training, policy = self.model.policy.training, self.model.policy
        policy.set_training_mode(False)
        try:
            with torch.inference_mode():
                observations = tree_map(lambda leaf: leaf if isinstance(leaf, Tensor) else np.asarray(leaf), observations)
                states = self.simulator.capture(env)
                check_one_for_each(observations, len(states), self.model.observation_space)
                found = self._search(states, observations)
        finally:
            policy.set_training_mode(was_training)
        self.seconds += time.perf_counter() - start
        return found

    def act(self, env: Any, observations: Any, deterministic: bool = True) -> tuple[np.ndarray, Search]:
        """Actions for ``env``, ``(n_envs, *action_shape)``, and the search that found them.

        The search draws Box actions without bounds and clips them for the branches. So actions are clipped here before their
        mean is taken, and the weights of actions that are equal after clipping are added up.

        :param deterministic: the action with the largest weight; for Box actions and one expert, the weighted mean (for a
            mixture, the mean between its modes may be a bad action). False: an action drawn with the weights, as in training
        """
        found = self.search(env, observations)
        taken = found._replace(actions=self._clipped(found.actions))
        if not deterministic:
            actions = taken.draw(self.generator)
        elif isinstance(self.model.action_space, spaces.Box) and getattr(self.model.policy, "n_experts", 1) == 1:
            actions = taken.mean()
        else:
            actions = taken.best()
        return env_actions(actions.cpu().numpy(), self.model.policy, self.model.action_space), found

    def _search(self, states: Any, observations: Any) -> Search:
        if self.temperature is not None:
            return self._search_at(self.temperature, states, observations, self.settings)
        if self._fitted is None:  # the spread of values is not known yet: search once without resampling
            probe = {**self.settings, "resample_period": None, "ess_threshold": None, "as_published": False}
            self._fit(self._search_at(1.0, states, observations, probe))
        assert self._fitted is not None
        found = self._search_at(self._fitted, states, observations, self.settings)
        self._fit(found)
        return found

    @property
    def temperature_in_use(self) -> float:
        """The given temperature, or else the fitted one; 1 before the first search."""
        return self.temperature or self._fitted or 1.0

    #: The fitted temperature, the advantages and corrections that it was fitted to, and the number of searches in these.
    _fitted: float | None = None
    _seen: Tensor | None = None
    _searches = 0

    def _fit(self, found: Search) -> None:
        """One temperature for all recently searched states, so that states where actions make no difference change little."""
        new = torch.stack([found.advantages, found.corrections])
        self._seen = new if self._seen is None else torch.cat([self._seen, new], dim=1)[:, -STATES_FITTED:]
        self._searches += 1
        if self._searches <= FITS_AT_FIRST or self._searches % FITS_AT_FIRST == 0:
            self._fitted = temperature_for(self._seen[0], self.search_kl, self._seen[1])

    def _search_at(self, temperature: float, states: Any, observations: Any, settings: dict[str, Any]) -> Search:
        found = search(
            self.simulator,
            states,
            observations,
            self.propose,
            self.value,
            temperature=temperature,
            propose_root=None if self.root_noise is None else self._noisy,
            to_env=self._to_env,
            scale_rewards=self._scaled,
            generator=self.generator,
            device=self.model.device,
            **settings,
        )
        self.model_steps += float(found.model_steps)
        if not bool(torch.isfinite(found.values).all()):
            raise InvalidRolloutError(
                "A search met rewards, observations or values that are NaN or infinite in all branches of a state, which the "
                "environment itself has not taken. Nothing was learned from it. Let episodes end where the environment "
                "diverges, clip its output, or give more n_particles: a branch alone that diverges counts as a bad one."
            )
        return found

    def _noisy(self, seen: Any) -> tuple[Tensor, Tensor]:
        policy: Any = self.model.policy
        assert self.root_noise is not None
        n_particles = self.settings.get("n_particles", SearchSettings.n_particles)
        return self.root_noise(policy.distribution_of(policy.preprocess(seen)), n_particles, self.generator)

    def _to_env(self, actions: Tensor) -> Any:
        """Discrete actions stay on their device, for simulators on that device."""
        if not isinstance(self.model.action_space, spaces.Box):
            return as_env_numbers(actions, self.model.action_space)
        return env_actions(actions.cpu().numpy(), self.model.policy, self.model.action_space)

    def _clipped(self, actions: Tensor) -> Tensor:
        """Box actions, ``(B, N, size)``, within the bounds. Squashed ones lie in [-1, 1] already."""
        space: Any = self.model.action_space
        if not isinstance(space, spaces.Box) or self.model.policy.squash_output:
            return actions
        low, high = (
            torch.as_tensor(end.reshape(-1), dtype=actions.dtype, device=actions.device) for end in (space.low, space.high)
        )
        return actions.clamp(low, high)

    def _scaled(self, rewards: Tensor) -> Tensor:
        """Rewards in the units of V."""
        if self.scale_rewards is not None:
            rewards = self.scale_rewards(rewards)
        scaler = getattr(self.model, "reward_scaler", None)
        if scaler is None or not scaler.known:  # in the first rollout, where rewards of any size are to tell branches apart
            return rewards
        return (rewards / scaler.scale).clamp(-scaler.clip, scaler.clip)

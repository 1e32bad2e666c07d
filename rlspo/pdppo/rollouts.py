"""Rollouts with their post-decision states: what PDPPO learns from, and how it is read, checked and evaluated."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.collector import Actor, in_batches
from rlspo.common.errors import check_finite
from rlspo.common.rollout_buffer import Field, RolloutBuffer, action_field, observation_fields
from rlspo.pdppo.credit import ComponentCredit
from rlspo.pdppo.policies import PostDecisionPolicy
from rlspo.pdppo.post_decisions import PostDecisions
from rlspo.policies.actor_critic import adopted_policy_class
from rlspo.ppo import PPO

Tensor = torch.Tensor


class PostDecisionRollouts(PPO):
    """PPO whose rollouts hold, beside the usual fields, s^x, r^x and what the critic of s^x and the actor said of them.

    A subclass sets ``critics``, ``ratio`` and ``credit`` before the constructor, and forms advantages and loss.
    """

    critics: str
    ratio: str
    credit: str
    #: The form of the targets and of the advantage.
    targets: str
    advantage: str
    #: Whether each component of an action has its own credit.
    credits_components: bool = False
    post_decisions: PostDecisions
    post_decision_space: spaces.Space
    component_credit: ComponentCredit | None = None

    @property
    def credit_fits(self) -> bool:
        """Whether the other settings go with credit for each component."""
        kinds = (self.targets, self.ratio, self.use_sde)
        return kinds == ("textbook", "component", False) and self.advantage != "pre"

    def _setup_model(self) -> None:
        self.policy_class = adopted_policy_class(self.policy_class, self.policy_aliases)
        if not issubclass(self.policy_class, PostDecisionPolicy):
            raise TypeError(
                f"policy is {self.policy_class.__name__}, which has no critic of post-decision states. It is 'MlpPolicy', "
                "'CnnPolicy', 'MultiInputPolicy', one of these with 'Moe' before it, or a subclass of "
                "SB3's ActorCriticPolicy or of rlspo.pdppo.PostDecisionPolicy."
            )
        if self.env is not None:
            self._read_from(self.env)
        self.policy_kwargs = {
            **self.policy_kwargs,
            "post_decision_space": self.post_decision_space,
            "single_critic": self.critics == "single",
        }
        components = (int(np.prod(action_field(self.action_space).shape)),)
        self.extra_fields = {
            "post_observations": observation_fields(self.post_decision_space),
            "post_rewards": Field(for_loss=False),
            "post_values": Field(for_loss=False),
            "post_returns": Field(),
            "component_log_probs": Field(components),
            "component_advantages": Field(components),
            "credit_rewards": Field(components, for_loss=False),
            "credit_values": Field(components, for_loss=False),
        }
        super()._setup_model()

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """As SB3's.

        :raises ValueError: for an environment with other post-decision observations, or one that cannot look ahead for an
            agent that was told to
        """
        env = self._wrap_env(env, self.verbose)
        self._read_from(env)
        super().set_env(env, force_reset)

    def _read_from(self, env: VecEnv) -> None:
        post_decisions = PostDecisions(env)
        expected = getattr(self, "post_decision_space", post_decisions.space)
        if post_decisions.space != expected:
            raise ValueError(
                f"The environment's post-decision observations are {post_decisions.space}; this agent was made for "
                f"{expected}. Set an environment that has the same."
            )
        if self.credit == "component" and not post_decisions.can_look_ahead:
            raise ValueError(
                "credit is 'component', but the environment does not say where actions lead that are not taken. Give it a "
                "method post_decision(action), see rlspo.envs.post_decision, or take credit='joint'."
            )
        choices = env.action_space if isinstance(env.action_space, spaces.MultiDiscrete | spaces.MultiBinary) else None
        several_choices = choices is not None and int(np.prod(choices.shape)) > 1
        wanted = self.credit == "component" or (self.credit == "auto" and self.credit_fits and several_choices)
        self.credits_components = wanted and post_decisions.can_look_ahead
        if self.credit == "auto" and self.verbose >= 1:
            print(f"credit='auto': credit is {'for each component' if self.credits_components else 'joint'} here.")
        self.post_decisions, self.post_decision_space = post_decisions, post_decisions.space

    def make_actor(self) -> Actor:
        self.component_credit = None
        act = super().make_actor()
        if not self.credits_components:
            return act
        self.component_credit = ComponentCredit(self.post_decisions, self._post_values, self.policy, self.action_space)
        return self.component_credit.actor(act)

    def _step_env(self, env: VecEnv, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        self.post_decisions.before_step()
        return super()._step_env(env, actions)

    def step_fields(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        step = self.num_timesteps // self.n_envs - 1
        observations, rewards = self.post_decisions.read(infos, step)
        check_finite(observations, rewards, step, what=("a post-decision observation", "a post-decision reward"))
        credit = {} if self.component_credit is None else self.component_credit.fields(infos, step)
        return {"post_observations": observations, "post_rewards": rewards, **credit}

    def _post_values(self, observations: Any) -> np.ndarray:
        """V^x of many post-decision observations, ``(N,)``."""

        def evaluate(seen: Any) -> tuple[Tensor]:
            return (self.policy.post_values_of(self.policy.preprocess_post(seen)),)

        return in_batches(evaluate, self.device, observations)[0]

    def evaluate_decisions(self, buffer: RolloutBuffer) -> None:
        """V^x of the post-decision states, and log pi of each component of the actions."""

        def log_probs(seen: Any, taken: Tensor) -> tuple[Tensor]:
            return (self.policy.distribution_of(self.policy.preprocess(seen)).log_probs(taken),)

        buffer.flat("post_values")[:] = self._post_values(buffer.flat("post_observations"))
        if self.ratio == "component":
            rows = buffer.flat("observations"), buffer.flat("actions")
            (buffer.flat("component_log_probs")[:],) = in_batches(log_probs, self.device, *rows)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "post_decisions", "component_credit"]

"""Post-decision proximal policy optimisation with dual critics (arXiv 2504.05150)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.collector import Actor
from rlspo.common.errors import check_choice
from rlspo.common.rollout_buffer import RolloutBuffer
from rlspo.common.sequences import MEMORY
from rlspo.common.settings import fixed_setting
from rlspo.common.update import Minibatch, Parameters
from rlspo.pdppo.advantages import ADVANTAGES, TARGETS, HalfSteps
from rlspo.pdppo.moe import MoePostDecisionCnnPolicy, MoePostDecisionMultiInputPolicy, MoePostDecisionPolicy
from rlspo.pdppo.policies import PostDecisionCnnPolicy, PostDecisionMultiInputPolicy, PostDecisionPolicy
from rlspo.pdppo.published import PUBLISHED
from rlspo.pdppo.recorder import Recorder, post_values, recorded_fields
from rlspo.pdppo.recurrent import LSTM_POLICIES
from rlspo.policies import Distribution
from rlspo.policies.actor_critic import adopted_policy_class
from rlspo.policies.moe.settings import experts_in
from rlspo.ppo import PPO, losses
from rlspo.ppo.settings import PPOSettings

Tensor = torch.Tensor


class PDPPO(PPO):
    """PPO for decisions that are followed by chance, with a critic for the state between the two.

    ::

        s^x = f(s, a)  earns r^x,   then chance   s' = g(s^x, w)  earns r^w                         (arXiv 2504.05150)

        V(s)     = E_a[ r^x(s, a) + V^x(f(s, a)) ]
        V^x(s^x) = E_w[ r^w(s^x, w) + gamma V(g(s^x, w)) ]

    V^x averages over the chance that follows a decision, and many (s, a) share one s^x. So the advantage

    ::

        A^x = r^x + V^x(s^x) - V(s)

    holds no luck of this step, while that of PPO, A = GAE(r, V), holds all of it and has no bias of V^x. ``advantage`` says
    which of them, or what of both, the policy follows. The environment tells s^x and r^x (:mod:`rlspo.envs.post_decision`).

    With ``credit="component"``, each component k of an action (each machine) is judged against the same action with that
    component drawn again, a'_k ~ pi (a counterfactual baseline as in COMA, arXiv 1705.08926), for which the environment must
    tell where actions lead that are not taken

    ::

        A^x_k = Q(s, a) - Q(s, (a_-k, a'_k)),   Q(s, a) = r^x(s, a) + V^x(f(s, a))

    Arguments are those of :class:`rlspo.PPO` (reward scaling is the default here), and from ``targets`` on:

    :param targets: ``"textbook"``: the recursion above. ``"split"``: as published, V learns from the stream of r^w alone and
        V^x from that of r^x, see :func:`rlspo.pdppo.advantages.split`
    :param advantage: ``"sum"`` of both, their ``"max"`` (published), ``"post"``: A^x alone, or ``"pre"``: that of V alone,
        which with textbook targets is PPO
    :param critics: ``"dual"``: V and V^x are networks of their own; ``"single"``: one network is asked at s and at s^x
        (for comparison; both observations must be alike)
    :param ratio: ``"component"``: as published, importance ratio and clipping for each component of the action (machine,
        joint, choice) on its own; ``"joint"``: PPO's, one for the whole action. With many components the joint ratio leaves
        the clip range at once and stops all of them
    :param credit: ``"joint"``: A^x for all components; ``"component"``: A^x_k above, which needs textbook targets, a ratio for
        each component, an environment that looks ahead, and a policy that is no mixture; ``"auto"``: the latter for actions
        of at least two choices (MultiDiscrete, MultiBinary) where all of that is there, else the former. A single component's
        A^x_k is A^x and noise
    :raises MissingPostDecisionError: at the first step, where an environment does not tell s^x and r^x
    :raises ValueError: for values out of range

    Learning rates of the critics and layers of V^x are arguments of the policy: :class:`rlspo.pdppo.PostDecisionPolicy`.

    >>> from rlspo import PDPPO
    >>> model = PDPPO("MlpPolicy", "rlspo/FrozenLakePostDecision-v0", n_steps=64, seed=0).learn(128)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": PostDecisionPolicy,
        "CnnPolicy": PostDecisionCnnPolicy,
        "MultiInputPolicy": PostDecisionMultiInputPolicy,
        "MoeMlpPolicy": MoePostDecisionPolicy,
        "MoeCnnPolicy": MoePostDecisionCnnPolicy,
        "MoeMultiInputPolicy": MoePostDecisionMultiInputPolicy,
        **LSTM_POLICIES,
    }
    saved_settings: ClassVar[set[str]] = PPO.saved_settings | {"targets", "advantage"}
    changed_defaults: ClassVar[PPOSettings] = {"normalize_rewards": True}
    targets = fixed_setting()
    advantage = fixed_setting()
    critics = fixed_setting(in_weights=True)
    ratio = fixed_setting()
    credit = fixed_setting()
    policy: PostDecisionPolicy
    recorder: Recorder
    post_decision_space: spaces.Space

    def __init__(
        self,
        policy: str | type[PostDecisionPolicy],
        env: Any,
        *args: Any,
        targets: str = "textbook",
        advantage: str = "sum",
        critics: str = "dual",
        ratio: str = "component",
        credit: str = "auto",
        **settings: Unpack[PPOSettings],
    ) -> None:
        self.targets = check_choice("targets", targets, tuple(TARGETS))
        self.advantage = check_choice("advantage", advantage, tuple(ADVANTAGES))
        self.critics = check_choice("critics", critics, ("dual", "single"))
        self.ratio = check_choice("ratio", ratio, ("component", "joint"))
        self.credit = check_choice("credit", credit, ("auto", "joint", "component"))
        use_sde = settings.get("use_sde", False)
        if credit == "component" and not credit_fits(targets, advantage, ratio, use_sde):
            raise ValueError(
                f"credit is 'component' with targets={targets!r}, ratio={ratio!r}, advantage={advantage!r}, "
                f"use_sde={use_sde}; it needs targets='textbook', ratio='component', an advantage that V^x has a part in, and "
                "noise that is drawn anew at each step (use_sde=False)."
            )
        super().__init__(policy, env, *args, **settings)

    @property
    def _credit_fits(self) -> bool:
        """Whether settings and policy go with credit for each component."""
        return self._chooses_apart and credit_fits(self.targets, self.advantage, self.ratio, self.use_sde)

    @property
    def _chooses_apart(self) -> bool:
        """Whether components of an action are drawn independently of each other. Those of a mixture are not: what is left of
        an action without one component tells of its expert, so that Q of it is no baseline for that component."""
        return experts_in(self.policy_class, self.policy_kwargs) == 1

    @classmethod
    def as_published(cls, policy: str | type[PostDecisionPolicy], env: Any, **changes: Any) -> PDPPO:
        """The published method and its settings for lot sizing, see :data:`rlspo.pdppo.published.PUBLISHED`.

        What differs from the released code: its actor's hidden layers never learn, its buffer holds six rollouts, of which the
        oldest is six policies old, and a time limit is an end to it, where here the value of what would have come is added.
        Its agents see stock in units and no setups (``scale_inventory=False, observe_setups=False`` of
        ``rlspo/LotSizing-v0``).

        Its batches are full with one environment; with more, ``batch_size`` is to be 400 times as many.

        :param changes: of these settings; of ``policy_kwargs``, those named
        """
        policy_kwargs = {**PUBLISHED["policy_kwargs"], **(changes.get("policy_kwargs") or {})}
        return cls(policy, env, **{**PUBLISHED, **changes, "policy_kwargs": policy_kwargs})

    # The paper.

    def estimate_advantages(
        self, buffer: RolloutBuffer, rewards: np.ndarray, last_values: np.ndarray, dones: np.ndarray, cut: np.ndarray
    ) -> None:
        data, scaler = buffer.data, self.reward_scaler
        self.evaluate_decisions(buffer)
        # One scale for a whole rollout, and one clipping, so that r^x + r^w = r in the units of the values, too.
        decision_rewards = scaler(data["post_rewards"]) if scaler else data["post_rewards"]
        found = TARGETS[self.targets](
            HalfSteps(
                decision_rewards=decision_rewards,
                chance_rewards=rewards - decision_rewards,
                values=data["values"],
                post_values=data["post_values"],
                last_values=last_values,
                continues=buffer.continues(dones),
                cut=cut,
                gamma=self.gamma,
                gae_lambda=self.gae_lambda,
            )
        )
        data["returns"][:], data["post_returns"][:] = found.returns, found.post_returns
        pre, post = found.pre[..., None], found.post[..., None]
        if self.recorder.credits_components:
            foreseen = scaler(data["credit_rewards"]) if scaler else data["credit_rewards"]
            post = foreseen[..., -1:] - foreseen[..., :-1] + data["credit_values"]
        data["component_advantages"][:] = ADVANTAGES[self.advantage](pre, post)
        data["advantages"][:] = data["component_advantages"].mean(axis=-1)
        if self.advantage == "max":
            self.logger.record("train/post_advantage_share", float((post > pre)[data["valid"]].mean()))

    def evaluate_decisions(self, buffer: RolloutBuffer) -> None:
        """V^x of the rollout's post-decision states."""
        memory = None if self._env_memory is None else self._env_memory.after_each(buffer.data[MEMORY])
        buffer.flat("post_values")[:] = post_values(self.policy, buffer.flat("post_observations"), memory)

    def surrogate(self, distribution: Distribution, batch: Minibatch) -> tuple[Tensor, Tensor]:
        """PPO's; with ``ratio="component"`` each component of the action is clipped on its own and their sum is maximised."""
        if self.ratio == "joint":
            return super().surrogate(distribution, batch)
        log_ratio = distribution.log_probs(batch.actions) - batch.extra["component_log_probs"]
        advantages = batch.extra["component_advantages"]
        if self.normalize_advantage:
            advantages = losses.standardize(advantages)
        return losses.clipped_surrogate(log_ratio, advantages, batch.scalars["clip_range"]).sum(dim=-1), log_ratio

    def loss(self, parameters: Parameters, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, stats = super().loss(parameters, batch)
        before = self.policy.preprocess(batch.observations) if self.policy.n_remembered else None
        post = self.policy.preprocess_post(batch.extra["post_observations"])
        post_values = self.policy.post_values(parameters, post, before)
        post_value_loss = (batch.extra["post_returns"] - post_values).square().mean()
        return loss + batch.scalars["vf_coef"] * post_value_loss, {**stats, "post_value_loss": post_value_loss}

    def action_returns(self, batch: Minibatch) -> Tensor:
        """With split targets each critic has a part of the rewards alone; an action is worth both."""
        return batch.returns + batch.extra["post_returns"] if self.targets == "split" else batch.returns

    def after_update(self, data: dict[str, Any], scalars: dict[str, Tensor]) -> None:
        """Log how much of its targets V^x explains."""
        buffer = self.rollout_buffer
        valid = buffer.flat("valid")
        explained = explained_variance(buffer.flat("post_values")[valid], buffer.flat("post_returns")[valid])
        self.logger.record("train/post_explained_variance", float(explained))

    # Around it.

    def _setup_model(self) -> None:
        self.policy_class = adopted_policy_class(self.policy_class, self.policy_aliases)
        if not issubclass(self.policy_class, PostDecisionPolicy):
            raise TypeError(
                f"policy is {self.policy_class.__name__}, which has no critic of post-decision states. It is 'MlpPolicy', "
                "'CnnPolicy', 'MultiInputPolicy', one of these with 'Moe' before it or with memory ('MlpLstmPolicy'), or a "
                "subclass of SB3's ActorCriticPolicy or of rlspo.pdppo.PostDecisionPolicy."
            )
        if self.credit == "component" and not self._chooses_apart:
            raise ValueError(
                "credit is 'component' and the policy a mixture of experts, which make the components of an action depend on "
                "each other, so that none can be drawn again by itself. Use credit='joint', n_experts=1 or a plain policy."
            )
        if self.env is not None:
            self._record_from(self.env)
        own = {"post_decision_space": self.post_decision_space, "single_critic": self.critics == "single"}
        self.policy_kwargs = {**self.policy_kwargs, **own}
        self.extra_fields = recorded_fields(self.post_decision_space, self.action_space, self.ratio)
        super()._setup_model()

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        """As SB3's.

        :raises ValueError: for an environment with other post-decision observations, or one that cannot look ahead for an
            agent that was told to
        """
        env = self._wrap_env(env, self.verbose)
        self._record_from(env)
        super().set_env(env, force_reset)

    def _record_from(self, env: VecEnv) -> None:
        recorder = Recorder(env, self.credit if self._credit_fits else "joint")
        space = recorder.post_decisions.space
        expected = getattr(self, "post_decision_space", space)
        if space != expected:
            raise ValueError(
                f"The environment's post-decision observations are {space}; this agent was made for {expected}. Set an "
                "environment that has the same."
            )
        if self.credit == "auto" and self.verbose >= 1:
            print(f"credit='auto': credit is {'for each component' if recorder.credits_components else 'joint'} here.")
        self.recorder, self.post_decision_space = recorder, space

    def make_actor(self) -> Actor:
        memory = self._env_memory
        return self.recorder.actor(super().make_actor(), self.policy, None if memory is None else lambda: memory.after)

    def step_fields(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        return self.recorder.fields(infos, self.num_timesteps // self.n_envs - 1)

    def adopt_state(self, state: Mapping[str, Any]) -> None:
        super().adopt_state(state)
        self.post_decision_space = self.policy_kwargs["post_decision_space"]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "recorder"]


def credit_fits(targets: str, advantage: str, ratio: str, use_sde: bool) -> bool:
    """Whether the settings go with credit for each component."""
    return (targets, ratio, use_sde) == ("textbook", "component", False) and advantage != "pre"

"""Post-decision proximal policy optimisation with dual critics (arXiv 2504.05150)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.collector import in_batches
from rlspo.common.errors import check_choice, check_finite
from rlspo.common.rollout_buffer import Field, RolloutBuffer, action_field, observation_fields
from rlspo.common.update import Minibatch, Parameters
from rlspo.pdppo.advantages import ADVANTAGES, TARGETS, HalfSteps
from rlspo.pdppo.policies import PostDecisionCnnPolicy, PostDecisionMultiInputPolicy, PostDecisionPolicy
from rlspo.pdppo.post_decisions import PostDecisions
from rlspo.policies import Distribution
from rlspo.ppo import PPO

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

    Arguments as in :class:`rlspo.PPO` (reward scaling is the default here), and:

    :param targets: ``"textbook"``: the recursion above. ``"split"``: as published, V learns from the stream of r^w alone and
        V^x from that of r^x, see :func:`rlspo.pdppo.advantages.split`
    :param advantage: ``"sum"`` of both, their ``"max"`` (published), ``"post"``: A^x alone, or ``"pre"``: that of V alone,
        which with textbook targets is PPO
    :param critics: ``"dual"``: V and V^x are networks of their own; ``"single"``: one network is asked at s and at s^x
        (for comparison; both observations must be alike)
    :param ratio: ``"component"``: as published, importance ratio and clipping for each component of the action (machine,
        joint, choice) on its own; ``"joint"``: PPO's, one for the whole action. With many components the joint ratio leaves
        the clip range at once and stops all of them
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
    }
    post_decisions: PostDecisions | None = None
    saved_settings: ClassVar[set[str]] = PPO.saved_settings | {"targets", "advantage"}

    def __init__(
        self,
        policy: str | type[PostDecisionPolicy],
        env: Any,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float | Schedule = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[Any] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        normalize_observations: bool = False,
        normalize_rewards: bool = True,
        compile: str | bool = "auto",
        precision: str = "float32",
        targets: str = "textbook",
        advantage: str = "sum",
        critics: str = "dual",
        ratio: str = "component",
        _init_setup_model: bool = True,
    ) -> None:
        self.targets = check_choice("targets", targets, tuple(TARGETS))
        self.advantage = check_choice("advantage", advantage, tuple(ADVANTAGES))
        self.critics = check_choice("critics", critics, ("dual", "single"))
        self.ratio = check_choice("ratio", ratio, ("component", "joint"))
        super().__init__(
            policy,
            env,
            learning_rate,
            n_steps,
            batch_size,
            n_epochs,
            gamma,
            gae_lambda,
            clip_range,
            clip_range_vf,
            normalize_advantage,
            ent_coef,
            vf_coef,
            max_grad_norm,
            use_sde,
            sde_sample_freq,
            rollout_buffer_class,
            rollout_buffer_kwargs,
            target_kl,
            stats_window_size,
            tensorboard_log,
            policy_kwargs,
            verbose,
            seed,
            device,
            normalize_observations,
            normalize_rewards,
            compile,
            precision,
            _init_setup_model,
        )

    @classmethod
    def as_published(cls, policy: str | type[PostDecisionPolicy], env: Any, **changes: Any) -> PDPPO:
        """The published method and its settings for lot sizing (released code): split targets, the larger advantage.

        Two things of the released code are left out: its hidden layers of the actor never learn, and its window of six
        rollouts, of which the oldest is six policies old. Networks are those of the policy, Tanh throughout.

        :param changes: of these settings
        """
        settings: dict[str, Any] = {
            "targets": "split",
            "advantage": "max",
            "ratio": "component",
            "learning_rate": 5.5e-4,
            "n_steps": 400,
            "batch_size": 400,
            "n_epochs": 40,
            "gamma": 0.9,
            "gae_lambda": 1.0,
            "ent_coef": 0.001,
            "normalize_advantage": False,
            "normalize_rewards": False,
            "max_grad_norm": 1e9,
            "policy_kwargs": {"net_arch": [128, 128], "vf_lr_scale": 1e-3 / 5.5e-4, "post_vf_lr_scale": 1e-3 / 5.5e-4},
        }
        return cls(policy, env, **{**settings, **changes})

    # The paper.

    def estimate_advantages(
        self, buffer: RolloutBuffer, rewards: np.ndarray, last_values: np.ndarray, dones: np.ndarray, cut: np.ndarray
    ) -> None:
        data = buffer.data
        self._evaluate_decisions(buffer)
        # One scale for a whole rollout, so that r^x + r^w = r in the units of the values, too.
        decision_rewards = data["post_rewards"] / (self.reward_scaler.scale if self.reward_scaler else 1.0)
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
        data["advantages"][:] = ADVANTAGES[self.advantage](found)
        if self.advantage == "max":
            self.logger.record("train/post_advantage_share", float((found.post > found.pre)[data["valid"]].mean()))

    def surrogate(self, distribution: Distribution, batch: Minibatch) -> tuple[Tensor, Tensor]:
        """PPO's; with ``ratio="component"`` each component of the action is clipped on its own and their sum is maximised."""
        if self.ratio == "joint":
            return super().surrogate(distribution, batch)
        log_ratio = distribution.log_probs(batch.actions) - batch.extra["component_log_probs"]
        return self.clipped(log_ratio, self.advantages(batch)[:, None], batch).sum(dim=-1), log_ratio

    def loss(self, parameters: Parameters, batch: Minibatch) -> tuple[Tensor, dict[str, Tensor]]:
        loss, stats = super().loss(parameters, batch)
        post_values = self.policy.post_values(parameters, self.policy.preprocess_post(batch.extra["post_observations"]))
        post_value_loss = (batch.extra["post_returns"] - post_values).square().mean()
        return loss + self.vf_coef * post_value_loss, {**stats, "post_value_loss": post_value_loss}

    # What the rollout holds for it.

    def _setup_model(self) -> None:
        if not hasattr(self, "post_decision_space"):  # a saved agent has its own
            assert self.env is not None
            self.post_decisions = PostDecisions(self.env)
            self.post_decision_space = self.post_decisions.space
        self.policy_kwargs = {
            **self.policy_kwargs,
            "post_decision_space": self.post_decision_space,
            "single_critic": self.critics == "single",
        }
        components = int(np.prod(action_field(self.action_space).shape))
        self.extra_fields = {
            "post_observations": observation_fields(self.post_decision_space),
            "post_rewards": Field(),
            "post_values": Field(),
            "post_returns": Field(),
            "component_log_probs": Field((components,)),
        }
        super()._setup_model()

    def _step_env(self, env: VecEnv, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        if self.post_decisions is None or self.post_decisions.env is not env:
            self.post_decisions = PostDecisions(env)
            if self.post_decisions.space != self.post_decision_space:
                raise ValueError(
                    f"The environment's post-decision observations are {self.post_decisions.space}; this agent was made for "
                    f"{self.post_decision_space}. Set an environment that has the same."
                )
        self.post_decisions.before_step()
        return super()._step_env(env, actions)

    def step_fields(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        assert self.post_decisions is not None
        step = self.num_timesteps // self.n_envs - 1
        observations, rewards = self.post_decisions.read(infos, step)
        check_finite(observations, rewards, step)
        return {"post_observations": observations, "post_rewards": rewards}

    def _evaluate_decisions(self, buffer: RolloutBuffer) -> None:
        """V^x of the post-decision states, and log pi of each component of the actions."""

        def post_values(seen: Any) -> tuple[Tensor]:
            return (self.policy.post_values_of(self.policy.preprocess_post(seen)),)

        def log_probs(seen: Any, taken: Tensor) -> tuple[Tensor]:
            return (self.policy.distribution_of(self.policy.preprocess(seen)).log_probs(taken),)

        (buffer.flat("post_values")[:],) = in_batches(post_values, self.device, buffer.flat("post_observations"))
        if self.ratio == "component":
            rows = buffer.flat("observations"), buffer.flat("actions")
            (buffer.flat("component_log_probs")[:],) = in_batches(log_probs, self.device, *rows)

    def after_update(self, data: dict[str, Any], hyper: dict[str, Tensor]) -> None:
        """Log how much of its targets V^x explains."""
        buffer = self.rollout_buffer
        valid = buffer.flat("valid")
        explained = explained_variance(buffer.flat("post_values")[valid], buffer.flat("post_returns")[valid])
        self.logger.record("train/post_explained_variance", float(explained))

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "post_decisions"]

"""Post-decision proximal policy optimisation with dual critics (arXiv 2504.05150)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecEnv

from rlspo.common.collector import Actor, env_actions, in_batches
from rlspo.common.errors import check_choice, check_finite
from rlspo.common.rollout_buffer import Field, RolloutBuffer, action_field, observation_fields
from rlspo.common.trees import tree_map
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

    Where it also tells them for actions that are not taken, each component k of an action (each machine) gets credit of its
    own, against the same action with that component drawn again, a'_k ~ pi (a counterfactual baseline as in COMA, arXiv
    1705.08926)

    ::

        A^x_k = Q(s, a) - Q(s, (a_-k, a'_k)),   Q(s, a) = r^x(s, a) + V^x(f(s, a))

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
    :param credit: ``"component"``: A^x_k above in place of A^x, which needs textbook targets, a ratio for each component and
        an environment that looks ahead; ``"joint"``: A^x for all; ``"auto"``: the first where it can be had and actions have
        several components
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
    _others: Mapping[str, np.ndarray] = {}
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
        credit: str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        self.targets = check_choice("targets", targets, tuple(TARGETS))
        self.advantage = check_choice("advantage", advantage, tuple(ADVANTAGES))
        self.critics = check_choice("critics", critics, ("dual", "single"))
        self.ratio = check_choice("ratio", ratio, ("component", "joint"))
        self.credit = check_choice("credit", credit, ("auto", "component", "joint"))
        if credit == "component" and (targets, ratio) != ("textbook", "component"):
            raise ValueError(
                f"credit is 'component' with targets {targets!r} and ratio {ratio!r}; it needs targets='textbook' and "
                "ratio='component'. Give these, or credit='joint'."
            )
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
        post = found.post[..., None]
        if self.looks_ahead:
            others = data["other_rewards"] / (self.reward_scaler.scale if self.reward_scaler else 1.0) + data["other_values"]
            post = (decision_rewards + data["post_values"])[..., None] - others
        data["component_advantages"][:] = ADVANTAGES[self.advantage](found.pre[..., None], post)
        data["advantages"][:] = data["component_advantages"].mean(axis=-1)
        if self.advantage == "max":
            self.logger.record("train/post_advantage_share", float((post > found.pre[..., None])[data["valid"]].mean()))

    def surrogate(self, distribution: Distribution, batch: Minibatch) -> tuple[Tensor, Tensor]:
        """PPO's; with ``ratio="component"`` each component of the action is clipped on its own and their sum is maximised."""
        if self.ratio == "joint":
            return super().surrogate(distribution, batch)
        log_ratio = distribution.log_probs(batch.actions) - batch.extra["component_log_probs"]
        advantages = self.standardized(batch.extra["component_advantages"])
        return self.clipped(log_ratio, advantages, batch).sum(dim=-1), log_ratio

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
        each_component = Field((int(np.prod(action_field(self.action_space).shape)),))
        self.extra_fields = {
            "post_observations": observation_fields(self.post_decision_space),
            "post_rewards": Field(),
            "post_values": Field(),
            "post_returns": Field(),
            "component_log_probs": each_component,
            "component_advantages": each_component,
            "other_rewards": each_component,
            "other_values": each_component,
        }
        super()._setup_model()
        if self.credit == "component" and self.post_decisions is not None and not self.post_decisions.can_look_ahead:
            raise ValueError(
                "credit is 'component', but the environment does not say where actions lead that are not taken. Give it a "
                "method post_decision(action), see rlspo.envs.post_decision, or take credit='joint'."
            )

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

    @property
    def looks_ahead(self) -> bool:
        """Whether each component of an action gets credit of its own."""
        if self.credit != "auto":
            return self.credit == "component"
        several = self.extra_fields["component_advantages"].shape[0] > 1  # type: ignore[union-attr]
        fits = (self.targets, self.ratio) == ("textbook", "component") and self.advantage != "pre"
        return several and fits and self.post_decisions is not None and self.post_decisions.can_look_ahead

    def make_actor(self) -> Actor:
        act = super().make_actor()
        if not self.looks_ahead:
            return act

        def act_and_look_ahead(observations: Any) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
            decided = act(observations)
            self._others = self._look_ahead(decided[0], act(observations)[0])
            return decided

        return act_and_look_ahead

    def _look_ahead(self, actions: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
        """r^x and V^x, ``(n_envs, K)``, of ``actions``, ``(n_envs, *action_shape)``, with one component from ``others``."""
        assert self.post_decisions is not None
        count, components = len(actions), int(np.prod(actions.shape[1:]))
        mine, theirs = actions.reshape(count, 1, components), others.reshape(count, 1, components)
        mixed = np.where(np.eye(components, dtype=bool), theirs, mine).reshape(-1, *actions.shape[1:])
        taken = env_actions(mixed, self.policy, self.action_space)
        seen, rewards = self.post_decisions.look_ahead(taken.reshape(count, components, *taken.shape[1:]))
        (values,) = in_batches(self._post_values, self.device, tree_map(lambda part: part.reshape(-1, *part.shape[2:]), seen))
        return {"other_rewards": rewards, "other_values": values.reshape(count, components)}

    def _post_values(self, seen: Any) -> tuple[Tensor]:
        return (self.policy.post_values_of(self.policy.preprocess_post(seen)),)

    def step_fields(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        assert self.post_decisions is not None
        step = self.num_timesteps // self.n_envs - 1
        observations, rewards = self.post_decisions.read(infos, step)
        check_finite(observations, rewards, step)
        return {"post_observations": observations, "post_rewards": rewards, **self._others}

    def _evaluate_decisions(self, buffer: RolloutBuffer) -> None:
        """V^x of the post-decision states, and log pi of each component of the actions."""

        def log_probs(seen: Any, taken: Tensor) -> tuple[Tensor]:
            return (self.policy.distribution_of(self.policy.preprocess(seen)).log_probs(taken),)

        (buffer.flat("post_values")[:],) = in_batches(self._post_values, self.device, buffer.flat("post_observations"))
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
        return [*super()._excluded_save_params(), "post_decisions", "_others"]

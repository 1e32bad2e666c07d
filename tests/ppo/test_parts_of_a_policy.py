"""An optimiser that was given a part of the parameters trains that part, as in SB3, and keeps what is not the policy's."""

from typing import Any

import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from rlspo import PDPPO, PPO, SAC, SPO
from tests.rollouts import give_rollout
from tests.spaces import SpacesEnv

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 3, "seed": 1, "device": "cpu", "learning_rate": 1e-2}
OFF: dict[str, Any] = {"learning_starts": 5, "batch_size": 8, "seed": 1, "device": "cpu", "policy_kwargs": {"net_arch": [16]}}


class Heads(ActorCriticPolicy):
    """Its optimiser has the heads alone."""

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        heads = [*self.action_net.parameters(), *self.value_net.parameters()]
        self.optimizer = self.optimizer_class(heads, lr=lr_schedule(1), **self.optimizer_kwargs)


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def changed(module: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    """Names of layers whose parameters are not what they were."""
    return {name.rsplit(".", 1)[0] for name, p in module.named_parameters() if not torch.equal(p, before[name])}


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
@pytest.mark.parametrize("agent", [PPO, PDPPO])
def test_only_what_the_optimizer_has_is_trained(agent: Any, kind: Any) -> None:
    env = SpacesEnv() if agent is PPO else "rlspo/FrozenLakePostDecision-v0"
    model = agent("MlpPolicy", env, **SMALL)
    model.policy.optimizer = kind(model.policy.action_net.parameters(), lr=1e-2)
    before = snapshot(model.policy)
    model.learn(64)
    assert changed(model.policy, before) == {"action_net"}
    assert [len(group["params"]) for group in model.policy.optimizer.param_groups] == [2]


def test_of_spo_and_of_an_average_of_its_parameters() -> None:
    model = SPO("MlpPolicy", "CartPole-v1", n_particles=2, depth=2, n_steps=16, batch_size=8, seed=1, device="cpu")
    model.policy.optimizer = torch.optim.Adam(model.policy.action_net.parameters(), lr=1e-2)
    before = snapshot(model.policy)
    model.learn(16)
    assert changed(model.policy, before) == {"action_net"}


def test_a_policy_that_builds_such_an_optimizer(tmp_path: Any) -> None:
    model = PPO(Heads, SpacesEnv(), **SMALL)
    before = snapshot(model.policy)
    model.learn(64)
    assert changed(model.policy, before) == {"action_net", "value_net"}
    model.save(tmp_path / "heads")
    loaded = PPO.load(tmp_path / "heads", env=SpacesEnv())
    before = snapshot(loaded.policy)
    loaded.learn(32)
    assert changed(loaded.policy, before) == {"action_net", "value_net"}


def test_of_an_actor_and_of_critics() -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **OFF)
    model.actor.optimizer = torch.optim.Adam(model.actor.mu.parameters(), lr=1e-2)
    model.critic.optimizer = torch.optim.Adam(model.critic.qf0.parameters(), lr=1e-2)
    before = snapshot(model.policy)
    model.learn(20)
    trained = changed(model.policy, before)
    assert trained == {"actor.mu", "critic.qf0.0", "critic.qf0.2", "critic_target.qf0.0", "critic_target.qf0.2"}


def test_one_update_on_the_same_rollout_is_that_of_sb3() -> None:
    """The norm of the gradient is of what is trained; in SB3 it is of all parameters, so here it is not clipped."""
    options = {**SMALL, "max_grad_norm": 1e6, "n_epochs": 1, "policy_kwargs": {"net_arch": [16]}}
    ours, theirs = PPO(Heads, SpacesEnv(), **options), sb3.PPO(Heads, SpacesEnv(), **options)
    theirs.policy.load_state_dict(ours.policy.state_dict())
    ours.learn(32)
    theirs._setup_learn(32)
    give_rollout(ours, theirs)
    theirs.train()
    for (name, got), expected in zip(ours.policy.named_parameters(), theirs.policy.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5, msg=name)


def test_what_is_not_the_policys_stays_in_the_optimizer() -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    other = nn.Linear(3, 3)
    count = len([*model.policy.parameters()])
    model.policy.optimizer.add_param_group({"params": [*other.parameters()]})
    before, policy = snapshot(other), snapshot(model.policy)
    model.learn(64)
    assert [len(group["params"]) for group in model.policy.optimizer.param_groups] == [count, 2]
    assert not changed(other, before)
    assert "action_net" in changed(model.policy, policy)


def test_a_replaced_layer_takes_the_place_of_a_trained_one_only() -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    model.policy.optimizer = torch.optim.Adam(model.policy.action_net.parameters(), lr=1e-2)
    model.learn(32)
    model.policy.value_net = nn.Linear(64, 1)  # was not trained
    model.policy.action_net = nn.Linear(64, 2)
    before = snapshot(model.policy)
    model.learn(32)
    trained = changed(model.policy, before)
    assert "action_net" in trained
    assert not any("mlp_extractor" in name for name in trained)


def test_nothing_to_train() -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    model.policy.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        model.learn(32)


def test_the_parts_act_on() -> None:
    model = PPO("MlpPolicy", SpacesEnv(), **SMALL)
    model.policy.optimizer = torch.optim.Adam(model.policy.action_net.parameters(), lr=1e-2)
    observation = model.env.reset()
    before = model.predict(observation, deterministic=True)[0]
    model.learn(64)
    assert not np.array_equal(before, model.predict(observation, deterministic=True)[0])

"""Acting on the CPU with a copy of a policy whose update is on a GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from rlspo import BARPO, PDPPO, PPO
from rlspo.common import acting, on_policy
from rlspo.policies import ActorCriticPolicy
from tests.conftest import DEVICES

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 2, "seed": 0}


def copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the policy were on a GPU."""
    monkeypatch.setattr(on_policy, "pays", lambda policy, n_envs: True)


@pytest.mark.parametrize(
    ("agent", "policy", "env"),
    [
        (PPO, "MlpPolicy", "CartPole-v1"),
        (PPO, "MoeMlpPolicy", "Pendulum-v1"),
        (PPO, "MlpLstmPolicy", "CartPole-v1"),
        (BARPO, "MlpPolicy", "Pendulum-v1"),
        (PDPPO, "MlpPolicy", "rlspo/LotSizing-v0"),
    ],
)
def test_the_copy_learns_the_same_numbers(agent: Any, policy: str, env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    itself = agent(policy, make_vec_env(env, 2, seed=0), **SMALL).learn(256)
    copied(monkeypatch)
    model = agent(policy, make_vec_env(env, 2, seed=0), **SMALL).learn(256)
    assert (model._copy_on_cpu is not None) == (policy != "MlpLstmPolicy")
    weights = itself.policy.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.policy.state_dict().items())


def test_it_has_the_weights_and_statistics_of_the_last_update(monkeypatch: pytest.MonkeyPatch) -> None:
    copied(monkeypatch)
    model: Any = PPO("MlpPolicy", "Pendulum-v1", normalize_observations=True, **SMALL).learn(64)
    old = {name: tensor.clone() for name, tensor in model._copy_on_cpu.policy.state_dict().items()}
    now = model.policy.state_dict()
    assert not torch.equal(
        old["preprocess.parts.observation.normalizer.mean"], now["preprocess.parts.observation.normalizer.mean"]
    )
    model.make_actor()
    followed = model._copy_on_cpu.policy.state_dict()
    assert all(torch.equal(followed[name], tensor) for name, tensor in now.items())
    assert all(one.data_ptr() != two.data_ptr() for one, two in zip(followed.values(), now.values(), strict=True))


def test_layers_that_are_replaced_act(monkeypatch: pytest.MonkeyPatch) -> None:
    copied(monkeypatch)
    model: Any = PPO("MlpPolicy", "CartPole-v1", **SMALL).learn(32)
    layers = model.policy.mlp_extractor.policy_net
    layers[1] = torch.nn.ReLU()
    model.learn(32)
    assert isinstance(model._copy_on_cpu.policy.mlp_extractor.policy_net[1], torch.nn.ReLU)


def test_it_is_not_in_files(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(monkeypatch)
    model: Any = PPO("MlpPolicy", "CartPole-v1", **SMALL).learn(64)
    model.save(tmp_path / "agent")
    again: Any = PPO.load(tmp_path / "agent", env="CartPole-v1")
    assert again._copy_on_cpu is None and again.acting_device == "auto"
    again.learn(64)


def test_the_rule() -> None:
    def policy(device: str, weights: int) -> Any:
        parameters = [torch.empty(weights, device="meta")]
        return SimpleNamespace(device=torch.device(device), parameters=lambda: parameters)

    few, many = 10_000, 20_000_000
    assert acting.pays(policy("cuda", few), 8)
    assert not acting.pays(policy("cuda", few), 4096)
    assert not acting.pays(policy("cuda", many), 1)
    assert not acting.pays(policy("cpu", few), 8)


def test_where_it_may_act() -> None:
    with pytest.raises(ValueError, match="acting_device is 'gpu'"):
        PPO("MlpPolicy", "CartPole-v1", acting_device="gpu", **SMALL)


@pytest.mark.parametrize("device", DEVICES)
def test_a_policy_acts_where_it_is_when_told_to(device: str) -> None:
    model: Any = PPO("MlpPolicy", "CartPole-v1", acting_device="policy", device=device, **SMALL).learn(64)
    assert model._copy_on_cpu is None
    assert isinstance(model.policy, ActorCriticPolicy)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_small_network_on_a_gpu_acts_on_the_cpu() -> None:
    model: Any = PPO("MlpPolicy", "CartPole-v1", device="cuda", **SMALL).learn(64)
    assert model._copy_on_cpu.policy.device.type == "cpu" and model.policy.device.type == "cuda"

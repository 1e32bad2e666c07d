"""Batch normalisation in custom networks: SB3's numbers, training and evaluation modes, eager and compiled, in every agent."""

import functools
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

import rlspo
from rlspo import PPO, SAC
from rlspo.common import compilation
from tests.ppo import test_parity_with_sb3 as ppo
from tests.sac import test_parity_with_sb3 as sac
from tests.spaces import SpacesEnv


class Normed(BaseFeaturesExtractor):
    """Batch normalisation after a layer, whose bias it would take away again."""

    def __init__(self, space: Any, features_dim: int = 8) -> None:
        super().__init__(space, features_dim)
        first = nn.Linear(spaces.flatdim(space), features_dim, bias=False)
        self.net = nn.Sequential(first, nn.BatchNorm1d(features_dim), nn.Tanh())

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.net(observations)


NORMED = {"features_extractor_class": Normed}
SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "seed": 2, "device": "cpu"}


def statistics(model: Any) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.policy.named_buffers() if ".net.1." in name}


def assert_same_statistics(reference: Any, ours: Any) -> None:
    expected, got = statistics(reference), statistics(ours)
    assert expected.keys() == got.keys()
    for name, buffer in expected.items():
        torch.testing.assert_close(got[name], buffer, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"policy_kwargs": {**NORMED, "share_features_extractor": False}},
        {"target_kl": 0.004, "learning_rate": 3e-3, "n_epochs": 6},
        {"policy_kwargs": {**NORMED, "optimizer_class": torch.optim.RMSprop}},
    ],
    ids=["shared", "apart", "target_kl", "optimizer outside"],
)
def test_ppo_equals_sb3(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    reference, ours = ppo.check("box", "box", monkeypatch, **{"policy_kwargs": NORMED, **options})
    assert_same_statistics(reference, ours)
    assert all(int(count) > 1 for name, count in statistics(ours).items() if name.endswith("tracked"))


@pytest.mark.parametrize("shared", [False, True])
def test_sac_equals_sb3(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kwargs = {**NORMED, "share_features_extractor": shared}
    reference, ours = sac.check("box", monkeypatch, policy_kwargs=kwargs, target_update_interval=2)
    assert_same_statistics(reference, ours)


def test_target_critics_that_stand_still_have_the_critics_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, ours = sac.pair("box", policy_kwargs=NORMED, tau=0.0)
    sac.train_both(reference, ours, monkeypatch)
    assert_same_statistics(reference, ours)
    weights = ours.get_parameters()["policy"]
    means = [name for name in weights if name.startswith("critic.") and name.endswith("running_mean")]
    assert means
    assert all(torch.equal(weights[name], weights[name.replace("critic.", "critic_target.")]) for name in means)


AGENTS: dict[str, tuple[type[Any], str, str, dict[str, Any]]] = {
    "PPO": (PPO, "MlpPolicy", "CartPole-v1", {}),
    "ARPO": (rlspo.ARPO, "MlpPolicy", "CartPole-v1", {"adversary_steps": 2, "rollouts": "attacked"}),
    "BARPO": (rlspo.BARPO, "MlpPolicy", "CartPole-v1", {"adversary_steps": 2}),
    "PDPPO": (rlspo.PDPPO, "MlpPolicy", "rlspo/AdmissionControl-v0", {}),
    "SPO": (rlspo.SPO, "MlpPolicy", "CartPole-v1", {"gradient_steps": 2, "n_particles": 4, "depth": 2}),
    "mixture": (PPO, "MoeMlpPolicy", "CartPole-v1", {}),
    "SAC": (SAC, "MlpPolicy", "Pendulum-v1", {"learning_starts": 20}),
    "mixture in SAC": (SAC, "MoeMlpPolicy", "Pendulum-v1", {"learning_starts": 20}),
}


@pytest.mark.parametrize("case", AGENTS)
def test_every_agent_learns_and_keeps_its_statistics(case: str, tmp_path: Any) -> None:
    agent, policy, env, options = AGENTS[case]
    own = {key: value for key, value in SMALL.items() if key != "n_steps" or agent is not SAC}
    kwargs = {**NORMED, "net_arch": [8]}
    model = agent(policy, env, **{**own, **options}, policy_kwargs=kwargs).learn(64)
    found = statistics(model)
    learned = {name: buffer for name, buffer in found.items() if not name.startswith("critic_target.")}
    assert learned
    assert all(int(count) > 1 for name, count in learned.items() if name.endswith("tracked"))
    assert all(buffer.isfinite().all() for buffer in found.values())
    assert not model.policy.training or agent is SAC
    observations = np.stack([model.observation_space.sample() for _ in range(4)])
    actions, _ = model.predict(observations, deterministic=True)
    alone = [model.predict(observation, deterministic=True)[0] for observation in observations]
    np.testing.assert_allclose(np.stack(alone), actions, atol=1e-5)  # each by the running statistics, not by the batch's
    assert all(torch.equal(buffer, found[name]) for name, buffer in statistics(model).items())
    model.save(tmp_path / "model")
    loaded = agent.load(tmp_path / "model")
    assert all(torch.equal(buffer, found[name]) for name, buffer in statistics(loaded).items())


COMPILED: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "PPO": (PPO, {"n_steps": 32, "n_epochs": 2, "target_kl": 1e9}),
    "SAC": (SAC, {"learning_starts": 28}),  # traced as a whole, without the time that machine code takes
}


@pytest.mark.parametrize("case", COMPILED)
def test_compiled_equals_eager(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if case == "SAC":
        traced = functools.partial(torch.compile, backend="aot_eager", fullgraph=True, dynamic=False)
        monkeypatch.setattr(compilation, "compile_whole", lambda function, *_: traced(function))
    agent, own = COMPILED[case]
    own = {**own, "batch_size": 16, "seed": 2, "device": "cpu", "policy_kwargs": {**NORMED, "net_arch": [8]}}
    eager, compiled = (
        agent("MlpPolicy", SpacesEnv("box", "box"), compile=choice, **own).learn(32) for choice in (False, True)
    )
    assert compiled.update.compiled
    for name, buffer in statistics(eager).items():
        torch.testing.assert_close(statistics(compiled)[name], buffer, rtol=1e-2, atol=1e-3)

"""What is left for others: gradients in ``grad``, pickles of the size of their weights, files that SB3 goes on from."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import stable_baselines3
import torch

from rlspo import BARPO, PPO, SAC
from tests.ppo.test_parity_with_sb3 import pair, train_both
from tests.spaces import SpacesEnv

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 1, "device": "cpu"}
OFF: dict[str, Any] = {"learning_starts": 10, "batch_size": 8, "buffer_size": 100, "seed": 0, "device": "cpu"}


def ppo(**kwargs: Any) -> PPO:
    return PPO("MlpPolicy", SpacesEnv(), **{**SMALL, **kwargs})


def sac(**kwargs: Any) -> SAC:
    return SAC("MlpPolicy", SpacesEnv(), **{**OFF, **kwargs})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer_kwargs": {"weight_decay": 0.3}},
        {"optimizer_class": torch.optim.AdamW},
        {"optimizer_class": torch.optim.SGD},
    ],
    ids=["adam", "decay", "adamw", "sgd"],
)
def test_gradients_are_those_of_sb3(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last minibatch, clipped, in each parameter's ``grad``; hooks are called at each minibatch, before clipping."""
    reference, ours = pair("box", "box", policy_kwargs=options, learning_rate=1e-3)
    seen: tuple[list[float], list[float]] = ([], [])
    for model, norms in zip((reference, ours), seen, strict=True):
        model.policy.action_net.weight.register_hook(lambda gradient, norms=norms: norms.append(float(gradient.norm())))
    train_both(reference, ours, monkeypatch)
    for expected, got in zip(reference.policy.parameters(), ours.policy.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-3, atol=1e-5)
    assert len(seen[0]) > 1
    assert seen[1] == pytest.approx(seen[0], rel=1e-3)


def test_gradients_of_sac() -> None:
    model = sac()
    seen: list[torch.Tensor] = []
    model.learn(12)
    assert all(p.grad is not None for part in (model.actor, model.critic) for p in part.parameters())
    model.actor.mu.weight.register_hook(seen.append)
    model.learn(3, reset_num_timesteps=False)
    assert len(seen) == 3
    assert all(gradient.isfinite().all() and gradient.norm() > 0 for gradient in seen)


def size(what: Any, dump: Callable[[Any], bytes] = pickle.dumps) -> int:
    return len(dump(what))


def saved(what: Any) -> bytes:
    file = io.BytesIO()
    torch.save(what, file)
    return file.getvalue()


@pytest.mark.parametrize("make", [ppo, sac, lambda **kw: BARPO("MoeMlpPolicy", SpacesEnv(), **{**SMALL, **kw})])
def test_pickles_are_as_large_as_what_they_hold(make: Callable[..., Any]) -> None:
    """Weights before training; weights and two moments after it, as in SB3; of one layer, that layer."""
    model = make(policy_kwargs={"net_arch": [128, 128]})
    weights = 4 * sum(parameter.numel() for parameter in model.policy.parameters())
    for dump in (pickle.dumps, cloudpickle.dumps, saved):
        assert size(model.policy, dump) < 1.3 * weights + 60_000, dump
    model.learn(32)
    for what in (model.policy, copy.deepcopy(model.policy)):
        assert size(what) < 3.5 * weights + 60_000
    net = model.actor.latent_pi[0] if isinstance(model, SAC) else model.policy.value_net
    own = 4 * sum(parameter.numel() for parameter in net.parameters())
    for what in (net.state_dict(), net, net.weight, copy.deepcopy(net)):
        assert size(what, saved) < own + 5_000
        assert size(what) < own + 5_000


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda policy: pickle.loads(pickle.dumps(policy))], ids=["copy", "pickle"])
def test_a_copied_policy_acts_and_learns_alike(copied: Callable[[Any], Any]) -> None:
    model, twin = (PPO("MlpPolicy", "CartPole-v1", **SMALL).learn(32) for _ in range(2))
    twin.policy = copied(twin.policy)
    twin.policy.generator = twin.randomness.predict
    observations = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    np.testing.assert_array_equal(*(one.predict(observations, deterministic=True)[0] for one in (model, twin)))
    for one in (model, twin):
        one.learn(64, reset_num_timesteps=False)
    for expected, got in zip(model.policy.parameters(), twin.policy.parameters(), strict=True):
        assert torch.equal(expected, got)
    steps = {float(state["step"]) for state in twin.policy.optimizer.state.values()}
    assert steps == {12.0}


@pytest.mark.parametrize(("ours", "theirs"), [(ppo, stable_baselines3.PPO), (sac, stable_baselines3.SAC)], ids=["ppo", "sac"])
def test_a_file_goes_on_in_sb3_and_back(ours: Callable[..., Any], theirs: Any, tmp_path: Path) -> None:
    model = ours().learn(32)
    model.save(tmp_path / "model")
    continued = theirs.load(tmp_path / "model", env=SpacesEnv(), device="cpu")
    for expected, got in zip(model.policy.parameters(), continued.policy.parameters(), strict=True):
        assert torch.equal(expected, got)
    assert continued._n_updates == model._n_updates
    continued.learn(40, reset_num_timesteps=False)
    assert not all(torch.equal(a, b) for a, b in zip(model.policy.parameters(), continued.policy.parameters(), strict=True))
    optimizer = continued.policy.actor.optimizer if theirs is stable_baselines3.SAC else continued.policy.optimizer
    mine = model.policy.actor.optimizer if theirs is stable_baselines3.SAC else model.policy.optimizer
    taken = [float(next(iter(one.state_dict()["state"].values()))["step"]) for one in (mine, optimizer)]
    assert 0 < taken[0] < taken[1]
    continued.save(tmp_path / "continued")
    back = type(model).load(tmp_path / "continued", env=SpacesEnv(), device="cpu")
    for expected, got in zip(continued.policy.parameters(), back.policy.parameters(), strict=True):
        assert torch.equal(expected, got)
    assert back.learn(40, reset_num_timesteps=False).num_timesteps > continued.num_timesteps

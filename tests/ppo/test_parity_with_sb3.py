"""rlspo.PPO against SB3's PPO: same weights, same rollout, same minibatch order, same parameters afterwards."""

from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import LinearSchedule, configure_logger
from stable_baselines3.common.vec_env import DummyVecEnv

from rlspo import PPO
from rlspo.common.trees import tree_map
from tests.spaces import ACTIONS, OBSERVATIONS, SpacesEnv, policy_name

#: On CUDA sums come out in another order (and SB3 and we call different kernels), which Adam's division then magnifies.
TOLERANCE = {"cpu": 1e-4, "cuda": 1e-3}
SMALL = {"n_steps": 32, "batch_size": 16, "n_epochs": 3, "seed": 3, "device": "cpu"}


def quiet(model: Any) -> Any:
    model.set_logger(configure_logger(verbose=0))
    model._current_progress_remaining = 0.7
    return model


def pair(observation: str, action: str, n_envs: int = 1, **kwargs: Any) -> tuple[Any, PPO]:
    """An SB3 model with a rollout in its buffer, and ours with the same weights and rollout."""
    kwargs = {**SMALL, **kwargs}

    def env() -> DummyVecEnv:
        return DummyVecEnv([lambda: SpacesEnv(observation, action)] * n_envs)

    reference = stable_baselines3.PPO(policy_name(observation), env(), **kwargs)
    _, callback = reference._setup_learn(32)
    reference.collect_rollouts(reference.env, callback, reference.rollout_buffer, 32)
    ours = PPO(policy_name(observation), env(), **kwargs)
    ours.set_parameters(reference.get_parameters())
    copy_rollout(reference, ours)
    return quiet(reference), quiet(ours)


def copy_rollout(reference: Any, ours: PPO) -> None:
    source, target = reference.rollout_buffer, ours.rollout_buffer.data
    names = {"observations": "observations", "actions": "actions", "values": "values", "log_probs": "log_probs"}
    for name in [*names, "advantages", "returns", "rewards", "episode_starts"]:
        tree_map(lambda new, old: new.__setitem__(..., old.reshape(new.shape)), target[name], getattr(source, name))


def train_both(reference: Any, ours: PPO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both see the same minibatches: row ``env * n_steps + step`` of SB3's buffer is ``step * n_envs + env`` of ours."""
    n_rows = ours.n_steps * ours.n_envs
    orders = [np.random.default_rng(i).permutation(n_rows) for i in range(20)]
    theirs = iter(orders)
    mine = (order % ours.n_steps * ours.n_envs + order // ours.n_steps for order in orders)
    monkeypatch.setattr(np.random, "permutation", lambda n: next(theirs))
    monkeypatch.setattr(ours, "minibatches", lambda: next(mine).reshape(-1, ours.batch_size))
    reference.train()
    ours.train()


def assert_same_parameters(reference: Any, ours: PPO) -> None:
    for (name, expected), (other, got) in zip(
        reference.policy.named_parameters(), ours.policy.named_parameters(), strict=True
    ):
        assert name == other
        difference = (expected - got).norm() / expected.norm().clamp(min=1e-3)
        assert difference <= TOLERANCE[ours.device.type], f"{name}: relative difference {difference:.2e}"


def logged(model: Any) -> dict[str, float]:
    logger: Logger = model.logger
    return {key: float(value) for key, value in logger.name_to_value.items() if key.startswith("train/")}


def check(observation: str, action: str, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> tuple[Any, PPO]:
    reference, ours = pair(observation, action, **kwargs)
    before = [parameter.clone() for parameter in reference.policy.parameters()]
    train_both(reference, ours, monkeypatch)
    moved = sum((new - old).abs().sum() for new, old in zip(reference.policy.parameters(), before, strict=True))
    assert moved > 0.1, "the update did nothing, so agreement would mean nothing"
    assert_same_parameters(reference, ours)
    expected, got = logged(reference), logged(ours)
    assert expected.keys() <= got.keys()
    tolerance = 10 * TOLERANCE[ours.device.type]
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, rel=tolerance, abs=tolerance / 10), name
    return reference, ours


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", ["box", "discrete", "dict"])
def test_every_action_kind(observation: str, action: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(observation, action, monkeypatch)


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_every_observation_kind(observation: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(observation, "box", monkeypatch, device=device)


@pytest.mark.parametrize(("observation", "action"), [("box", "box"), ("dict", "multi_discrete")])
def test_several_environments(observation: str, action: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, ours = check(observation, action, monkeypatch, n_envs=3, device=device)
    # SB3 flattened its buffer in place during training: the rows that were taken for the same are the same.
    rows = np.arange(96)
    theirs, mine = reference.rollout_buffer.advantages.ravel(), ours.rollout_buffer.flat("advantages")
    np.testing.assert_array_equal(theirs[rows], mine[rows % 32 * 3 + rows // 32])
    assert not np.array_equal(theirs, mine)


@pytest.mark.parametrize(
    "options",
    [
        {"clip_range_vf": 0.1},
        {"ent_coef": 0.03, "vf_coef": 0.9},
        {"learning_rate": LinearSchedule(1e-3, 1e-4, 1.0), "clip_range": LinearSchedule(0.3, 0.1, 1.0)},
        {"normalize_advantage": False, "max_grad_norm": 0.05},
        {"target_kl": 0.004, "learning_rate": 2e-3, "n_epochs": 6},
        {"use_sde": True},
        {"use_sde": True, "policy_kwargs": {"squash_output": True, "full_std": False, "use_expln": True}},
        {"policy_kwargs": {"net_arch": [32], "activation_fn": torch.nn.ReLU, "share_features_extractor": False}},
        {"policy_kwargs": {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}},
        {"policy_kwargs": {"optimizer_class": torch.optim.Adam, "optimizer_kwargs": {"weight_decay": 0.1}}},
        {"policy_kwargs": {"optimizer_class": torch.optim.RMSprop}},
        {"policy_kwargs": {"optimizer_class": torch.optim.RMSprop}, "target_kl": 0.004, "learning_rate": 2e-3},
    ],
    ids=lambda options: "-".join(f"{k}" for k in options),
)
def test_every_option(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check("box", "box", monkeypatch, **options)


def test_target_kl_stops_where_sb3_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, ours = check("box", "discrete", monkeypatch, target_kl=0.002, learning_rate=3e-3, n_epochs=8)
    assert ours._n_updates == reference._n_updates < 8


def test_optimizer_state_moves_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second update starts from the moments of the first, also after they were set from SB3's state dict."""
    reference, ours = check("box", "box", monkeypatch)
    ours.set_parameters(reference.get_parameters())
    train_both(reference, ours, monkeypatch)
    assert_same_parameters(reference, ours)
    expected = reference.policy.optimizer.state_dict()["state"]
    got = ours.get_parameters()["policy.optimizer"]["state"]
    for index, state in expected.items():
        assert float(got[index]["step"]) == float(state["step"])
        torch.testing.assert_close(got[index]["exp_avg"], state["exp_avg"], rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("action", ["box", "multi_binary"])
def test_rollout_quantities(action: str) -> None:
    """Given the same actions and rewards, values, log-probabilities, advantages and returns are SB3's."""
    kwargs = {**SMALL, "n_steps": 64}
    reference = stable_baselines3.PPO("MlpPolicy", SpacesEnv("box", action), **kwargs)
    _, callback = reference._setup_learn(64)
    reference.collect_rollouts(reference.env, callback, reference.rollout_buffer, 64)
    expected = reference.rollout_buffer

    ours = PPO("MlpPolicy", SpacesEnv("box", action), **kwargs)
    ours.set_parameters(reference.get_parameters())
    recorded = iter(expected.actions)
    ours.make_actor = lambda: lambda observations: (next(recorded).astype(np.float32), None, None)  # type: ignore[method-assign]
    _, callback = ours._setup_learn(64)
    ours.collect_rollouts(ours.env, callback, ours.rollout_buffer, 64)
    got = ours.rollout_buffer
    assert isinstance(ours.action_space, spaces.Box | spaces.MultiBinary)
    np.testing.assert_allclose(got.observations, expected.observations, rtol=1e-6)
    for name in ("values", "log_probs", "advantages", "returns"):
        np.testing.assert_allclose(got.data[name], getattr(expected, name), rtol=1e-4, atol=1e-5, err_msg=name)

"""rlspo.SAC against SB3's SAC: same weights, same transitions, same noise, same parameters afterwards."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.utils import LinearSchedule, configure_logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize, VecTransposeImage
from torch.distributions import normal

from rlspo import SAC
from rlspo.common.replay_buffer import ReplayBuffer
from tests.spaces import OBSERVATIONS, SpacesEnv, policy_name

TOLERANCE = {"cpu": 1e-4, "cuda": 1e-3}
SMALL = {"batch_size": 16, "buffer_size": 500, "learning_starts": 40, "seed": 3, "device": "cpu", "learning_rate": 1e-3}
STEPS = 60


def quiet(model: Any) -> Any:
    model.set_logger(configure_logger(verbose=0))
    model._current_progress_remaining = 0.7
    return model


def pair(observation: str, normalize: bool = False, **kwargs: Any) -> tuple[Any, SAC]:
    """An SB3 model with random transitions in its buffer, and ours with the same weights and transitions."""

    def env() -> Any:
        plain = DummyVecEnv([lambda: SpacesEnv(observation, "box")])
        if not normalize:
            return plain
        keys = {"norm_obs_keys": ["vector"]} if observation == "dict" else {}
        return VecNormalize(VecTransposeImage(plain) if keys else plain, **keys)  # the order that SB3's buffers need

    shared = env()
    kwargs = {**SMALL, **kwargs}
    kwargs["policy_kwargs"] = {"net_arch": [32, 32], **kwargs.get("policy_kwargs", {})}
    reference = stable_baselines3.SAC(policy_name(observation), shared, **{**kwargs, "learning_starts": 1000})
    reference.learn(STEPS)
    ours = SAC(policy_name(observation), shared, **kwargs)
    ours.set_parameters(reference.get_parameters())
    copy_transitions(reference.replay_buffer, ours.replay_buffer)
    return quiet(reference), quiet(ours)


def copy_transitions(source: Any, target: Any) -> None:
    if not isinstance(target, ReplayBuffer):
        for name, value in vars(source).items():
            setattr(target, name, value)
        return
    for row in range(STEPS):
        part = {
            name: {key: array[row] for key, array in value.items()} if isinstance(value, dict) else value[row]
            for name, value in ((n, getattr(source, n)) for n in ("observations", "next_observations"))
        }
        infos = [{"TimeLimit.truncated": bool(cut)} for cut in source.timeouts[row]]
        target.add(
            part["observations"],
            part["next_observations"],
            source.actions[row],
            source.rewards[row],
            source.dones[row],
            infos,
        )


def train_both(reference: Any, ours: SAC, monkeypatch: pytest.MonkeyPatch, gradient_steps: int = 5) -> None:
    """Both see the same rows and the same standard normal numbers, in SB3's order: now, then next."""
    size = ours.batch_size
    generator = torch.Generator().manual_seed(7)
    rows = [torch.randint(STEPS, (size,), generator=generator) for _ in range(gradient_steps)]
    theirs = iter(rows)
    get = reference.replay_buffer._get_samples
    monkeypatch.setattr(reference.replay_buffer, "sample", lambda n, env=None: get(next(theirs).numpy(), env))
    mine = iter(rows)
    buffer = ours.replay_buffer
    if isinstance(buffer, ReplayBuffer):
        monkeypatch.setattr(buffer, "rows", lambda n, generator=None: next(mine).to(ours.device))
    else:
        monkeypatch.setattr(buffer, "sample", lambda n, env=None: get(next(mine).numpy(), env))
    drawn: list[torch.Tensor] = []
    own = ours.policy.draw_noise

    def draw(batch_size: int, _: Any) -> Any:
        noise = own(batch_size, torch.Generator(ours.device).manual_seed(len(drawn)))
        drawn.append(noise)
        return noise

    monkeypatch.setattr(ours.policy, "draw_noise", draw)
    ours.train(gradient_steps, size)
    for part in (ours.critic, ours.critic_target, ours.actor):
        assert all(parameter.isfinite().all() for parameter in part.parameters())
    numbers = sb3_draws(drawn, ours.use_sde)
    monkeypatch.setattr(normal, "_standard_normal", lambda shape, dtype, device: next(numbers).reshape(shape))
    reference.train(gradient_steps, size)


def sb3_draws(drawn: list[torch.Tensor], use_sde: bool) -> Iterator[torch.Tensor]:
    if not use_sde:
        yield from drawn
    for matrix in drawn[::2]:  # reset_noise draws one matrix to use, and one for each environment, which training ignores
        yield matrix
        yield matrix


def check(observation: str, monkeypatch: pytest.MonkeyPatch, gradient_steps: int = 5, **kwargs: Any) -> tuple[Any, SAC]:
    reference, ours = pair(observation, **kwargs)
    before = [parameter.clone() for parameter in ours.policy.parameters()]
    train_both(reference, ours, monkeypatch, gradient_steps)
    assert all(not torch.equal(old, new) for old, new in zip(before, ours.policy.parameters(), strict=True))
    pairs = zip(reference.policy.named_parameters(), ours.policy.named_parameters(), strict=True)
    for (name, expected), (other, got) in pairs:
        assert name == other
        difference = (expected - got).norm() / expected.norm().clamp(min=1e-3)
        assert difference <= TOLERANCE[ours.device.type], f"{name}: relative difference {difference:.2e}"
    for name, value in reference.logger.name_to_value.items():
        if name.startswith("train/"):
            assert ours.logger.name_to_value[name] == pytest.approx(float(value), rel=1e-3, abs=1e-4), name
    return reference, ours


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_every_observation_kind(observation: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(observation, monkeypatch, device=device)


@pytest.mark.parametrize(
    "options",
    [
        {"ent_coef": 0.2},
        {"ent_coef": "auto_0.1", "target_entropy": -1.0},
        {"tau": 0.1, "target_update_interval": 3},
        {"learning_rate": LinearSchedule(3e-3, 1e-4, 1.0), "gamma": 0.9},
        {"use_sde": True},
        {"use_sde": True, "policy_kwargs": {"use_expln": True, "clip_mean": 0.5, "log_std_init": -1.0}},
        {"policy_kwargs": {"net_arch": {"pi": [16], "qf": [24, 24]}, "activation_fn": torch.nn.Tanh, "n_critics": 3}},
        {"policy_kwargs": {"optimizer_class": torch.optim.AdamW, "optimizer_kwargs": {"weight_decay": 0.1}}},
        {"normalize": True},
        {"n_steps": 3},
        {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_option(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check("box", monkeypatch, **options)


@pytest.mark.parametrize("observation", ["image", "dict"])
def test_a_shared_features_extractor(observation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(observation, monkeypatch, policy_kwargs={"share_features_extractor": True})


def test_normalised_dict_observations(monkeypatch: pytest.MonkeyPatch) -> None:
    check("dict", monkeypatch, normalize=True)


def test_optimizer_state_moves_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second training starts from the moments of the first, also after they were set from SB3's state dicts."""
    reference, ours = check("box", monkeypatch)
    ours.set_parameters(reference.get_parameters())
    with monkeypatch.context() as patch:
        train_both(reference, ours, patch)
    for (_, expected), (_, got) in zip(reference.policy.named_parameters(), ours.policy.named_parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    theirs, mine = (
        reference.ent_coef_optimizer.state_dict()["state"][0],
        ours.get_parameters()["ent_coef_optimizer"]["state"][0],
    )
    assert float(mine["step"]) == float(theirs["step"]) == 10
    torch.testing.assert_close(ours.log_ent_coef.data, reference.log_ent_coef.data)


def test_acts_like_sb3(monkeypatch: pytest.MonkeyPatch) -> None:
    reference, ours = pair("box")
    observations = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    np.testing.assert_allclose(
        ours.predict(observations, deterministic=True)[0], reference.predict(observations, deterministic=True)[0], atol=1e-6
    )


def test_loads_what_sb3_saved(tmp_path: Any) -> None:
    reference, _ = pair("box")
    reference.save(tmp_path / "model")
    ours = SAC.load(tmp_path / "model", device="cpu")
    for (_, expected), (_, got) in zip(reference.policy.named_parameters(), ours.policy.named_parameters(), strict=True):
        assert torch.equal(expected, got)

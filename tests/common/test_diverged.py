"""Learning that turns into NaN or infinity stops, names itself, and leaves the agent as it was when numbers were finite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rlspo import BARPO, PDPPO, PPO, SAC, SPO
from rlspo.common.errors import DivergedError
from rlspo.common.last_good import LastGood
from tests.spaces import SpacesEnv

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 2, "seed": 1, "device": "cpu"}
SEARCH: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "gradient_steps": 3, "n_particles": 4, "depth": 2, "seed": 0}
OFF: dict[str, Any] = {
    "learning_starts": 10,
    "batch_size": 8,
    "buffer_size": 100,
    "seed": 0,
    "policy_kwargs": {"net_arch": [8]},
}
AGENTS: dict[str, Callable[..., Any]] = {
    "ppo, choices": lambda **kw: PPO("MlpPolicy", SpacesEnv("box", "discrete"), **{**SMALL, **kw}),
    "ppo, numbers": lambda **kw: PPO("MlpPolicy", SpacesEnv(), **{**SMALL, **kw}),
    "mixture": lambda **kw: PPO("MoeMlpPolicy", SpacesEnv(), **{**SMALL, **kw}),
    "rmsprop": lambda **kw: PPO(
        "MlpPolicy", SpacesEnv(), **{**SMALL, **kw}, policy_kwargs={"optimizer_class": torch.optim.RMSprop}
    ),
    "barpo": lambda **kw: BARPO("MlpPolicy", SpacesEnv("box", "discrete"), **{**SMALL, **kw}),
    "pdppo": lambda **kw: PDPPO("MlpPolicy", "rlspo/FrozenLakePostDecision-v0", **{**SMALL, **kw}),
    "spo": lambda **kw: SPO("MlpPolicy", "CartPole-v1", **{**SEARCH, **kw}),
    "sac": lambda **kw: SAC("MlpPolicy", SpacesEnv(), **{**OFF, **kw}),
}


def everything(model: Any) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in model.policy.state_dict().values()]


@pytest.mark.parametrize("make", AGENTS.values(), ids=list(AGENTS))
@pytest.mark.parametrize("rate", [1e30, 1e39])
def test_an_absurd_learning_rate_is_named(make: Callable[..., Any], rate: float) -> None:
    """1e30 makes weights that are finite and of no use; 1e39 is infinite in float32, and so are the weights after a step."""
    model = make().learn(40)
    before = everything(model)
    model.learning_rate = rate
    with (
        np.errstate(all="ignore"),
        pytest.raises(DivergedError, match=r"^Learning diverged at update .*learning rate ") as error,
    ):
        model.learn(40, reset_num_timesteps=False)
    assert f"learning rate {rate:.3g}. It is far above what is usual" in str(error.value)
    assert all(tensor.isfinite().all() for tensor in model.policy.state_dict().values())
    assert max(float(tensor.abs().max()) for tensor in model.policy.parameters()) < 1e3
    for old, new in zip(before, model.policy.state_dict().values(), strict=True):
        torch.testing.assert_close(new, old, rtol=0.1, atol=0.3)
    optimizers = [model.actor.optimizer, model.critic.optimizer] if isinstance(model, SAC) else [model.policy.optimizer]
    states = [state for optimizer in optimizers for state in optimizer.state_dict()["state"].values()]
    assert all(torch.as_tensor(value).isfinite().all() for state in states for value in state.values())
    model.learning_rate = 1e-4
    model.learn(40, reset_num_timesteps=False)
    assert all(tensor.isfinite().all() for tensor in model.policy.parameters())


def test_one_minibatch_to_a_rollout() -> None:
    """What a last step has done shows in the next rollout alone: the environment is not to blame for what it was told."""
    model = PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "batch_size": 16, "n_epochs": 1}, learning_rate=1e-3).learn(32)
    before = everything(model)
    model.learning_rate = 1e30
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match="learning rate 1e"):
        model.learn(64, reset_num_timesteps=False)
    for old, new in zip(before, everything(model), strict=True):
        assert torch.equal(old, new)


def test_a_loss_that_is_nan_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, moments, the statistics of observations and the scale of rewards are those of before the round."""
    model = BARPO("MlpPolicy", SpacesEnv(), **SMALL).learn(32)
    flat, scaler = model.update.flat, model.reward_scaler
    before = [*everything(model), flat.first_moment.clone(), flat.second_moment.clone(), flat.steps.clone()]
    scale = scaler.scale
    loss, calls = model.update.loss, []

    def nan_once(parameters: Any, batch: Any) -> Any:
        calls.append(1)
        value, stats = loss(parameters, batch)
        return value * (float("nan") if len(calls) == 3 else 1.0), stats

    monkeypatch.setattr(model.update, "loss", nan_once)
    with pytest.raises(DivergedError, match=r"at update 6, minibatch 1 of 2: loss nan, gradient norm nan, largest return"):
        model.learn(16, reset_num_timesteps=False)
    after = [*everything(model), flat.first_moment, flat.second_moment, flat.steps]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert model.reward_scaler.scale == scale


def test_weights_that_were_set_meanwhile_are_the_ones_that_count() -> None:
    model, other = (PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "seed": seed}).learn(32) for seed in (1, 2))
    model.set_parameters(other.get_parameters())
    model.learning_rate = 1e39
    with np.errstate(all="ignore"), pytest.raises(DivergedError):
        model.learn(16, reset_num_timesteps=False)
    assert torch.equal(model.update.flat.values, other.update.flat.values)


BAD = [float("nan"), -1e-3, float("inf")]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["learning_rate", "clip_range", "clip_range_vf", "ent_coef"])
def test_schedules_are_refused_by_name_when_they_are_read(name: str, bad: float) -> None:
    model = PPO("MlpPolicy", SpacesEnv("box", "discrete"), **SMALL, **{name: lambda left: 0.1 if left > 0.6 else bad})
    start = everything(model)
    with pytest.raises(ValueError, match=rf"^{name} is a schedule that returned {bad} at remaining progress 0.5"):
        model.learn(64)
    assert not all(torch.equal(old, new) for old, new in zip(start, everything(model), strict=True))
    assert all(tensor.isfinite().all() for tensor in everything(model))


def test_schedules_of_sac_too() -> None:
    model = SAC("MlpPolicy", SpacesEnv(), **{**OFF, "learning_rate": lambda left: 1e-3 if left > 0.5 else float("nan")})
    with pytest.raises(ValueError, match=r"^learning_rate is a schedule that returned nan"):
        model.learn(40)
    assert all(tensor.isfinite().all() for tensor in everything(model))


def test_a_falling_schedule_ends_at_zero_where_rollouts_go_beyond_the_end() -> None:
    """SB3 asks it for less than nothing left there: the last update would climb."""
    rates = []

    def falling(left: float) -> float:
        rates.append(left)
        return 1e-3 * left

    PPO("MlpPolicy", SpacesEnv(), **SMALL, learning_rate=falling).learn(20)
    assert rates[-1] == 0.0


def test_what_is_restored_was_trusted() -> None:
    tensor = torch.zeros(1)
    good = LastGood(lambda: [tensor])
    good.note()
    tensor.fill_(1.0)
    good.restore()
    assert tensor == 0.0, "nothing was trusted yet"
    good.note()
    good.trust()
    tensor.fill_(2.0)
    good.note()
    good.restore()
    assert tensor == 0.0


def test_the_alpha_of_sac() -> None:
    model = AGENTS["sac"]().learn(20)
    with torch.no_grad():
        model.log_ent_coef.fill_(float("inf"))
    with pytest.raises(DivergedError, match="ent_coef inf"):
        model.learn(20, reset_num_timesteps=False)
    assert all(tensor.isfinite().all() for tensor in [*everything(model), model.log_ent_coef])


def test_the_saved_agent_is_the_last_good_one(tmp_path: Path) -> None:
    model = AGENTS["ppo, choices"](learning_rate=lambda left: 1e-3 if left > 0.6 else 1e39)
    with np.errstate(all="ignore"), pytest.raises(DivergedError):
        model.learn(64)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model")
    assert all(tensor.isfinite().all() for tensor in everything(loaded))
    assert loaded.num_timesteps == 32

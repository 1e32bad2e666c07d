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


ELU = {"activation_fn": torch.nn.ELU}
ONE: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "seed": 1, "device": "cpu"}
FROM_TORCH: dict[str, Callable[[], Any]] = {
    "elu": lambda: PPO("MlpPolicy", SpacesEnv("box", "discrete"), **ONE, policy_kwargs=ELU),
    "elu, numbers": lambda: PPO("MlpPolicy", SpacesEnv(), **ONE, policy_kwargs=ELU),
    "dict": lambda: PPO("MultiInputPolicy", SpacesEnv("dict", "multi_discrete"), **ONE),
    "mixture": lambda: PPO("MoeMlpPolicy", SpacesEnv("box", "discrete"), **ONE, policy_kwargs=ELU),
    "matrices": lambda: PPO("MlpPolicy", SpacesEnv(), **ONE, policy_kwargs=ELU, use_sde=True),
    "attacked": lambda: BARPO("MlpPolicy", SpacesEnv(), **ONE, policy_kwargs=ELU, rollouts="attacked"),
    "credit": lambda: PDPPO("MlpPolicy", "rlspo/FrozenLakePostDecision-v0", **ONE, policy_kwargs=ELU),
    "search": lambda: SPO("MlpPolicy", "CartPole-v1", **{**SEARCH, "gradient_steps": 1}, policy_kwargs=ELU),
    "sac, matrices": lambda: SAC("MlpPolicy", SpacesEnv(), **OFF, use_sde=True),
}


@pytest.mark.parametrize("make", FROM_TORCH.values(), ids=list(FROM_TORCH))
@pytest.mark.parametrize("further", [64, 1])
def test_who_acts_by_torch_is_named_too(make: Callable[[], Any], further: int) -> None:
    """In the rollout after the one update of a rollout; and where no rollout follows, at the end of learning."""
    model = make().learn(32)
    before = everything(model)
    model.learning_rate = 1e30
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match=r"learning rate 1e\+30.*are those with which"):
        model.learn(further, reset_num_timesteps=False)
    for old, new in zip(before, everything(model), strict=True):
        torch.testing.assert_close(new, old, rtol=0.1, atol=0.3)
    model.learning_rate = 1e-4
    model.learn(16, reset_num_timesteps=False)
    assert all(tensor.isfinite().all() for tensor in everything(model))


def test_errors_of_others_stay_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that fails in sound health, and callbacks whatever the policy does."""
    model = PPO("MlpPolicy", SpacesEnv(), **ONE, policy_kwargs=ELU).learn(16)
    with monkeypatch.context() as patch, pytest.raises(KeyError, match="mine"):
        patch.setattr(model.policy, "evaluation_of", lambda inputs: {}["mine"])
        model.learn(16)

    def stop(*_: Any) -> bool:
        with torch.no_grad():
            model.policy.value_net.weight.fill_(1e30)
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        model.learn(16, callback=stop)


@pytest.mark.parametrize("change", ["load", "moments"])
def test_sac_keeps_a_copy_from_the_first_update_on(change: str, tmp_path: Path) -> None:
    model = AGENTS["sac"]().learn(20)
    if change == "load":
        model.save(tmp_path / "sac")
        model = SAC.load(tmp_path / "sac", env=SpacesEnv())
        model.learning_starts = 0
    else:
        model.critic.optimizer.state.clear()
    before = everything(model)
    model.learning_rate = 1e30
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match="are those with which"):
        model.learn(20, reset_num_timesteps=False)
    assert all(torch.equal(old, new) for old, new in zip(before, everything(model), strict=True))


@pytest.mark.parametrize("name", ["ppo, numbers", "sac"])
def test_where_nothing_is_kept_nothing_is_claimed(name: str) -> None:
    model = AGENTS[name]()
    parts = model.policy.parameters() if name != "sac" else model.actor.parameters()
    with torch.no_grad():
        for parameter in parts:
            parameter.fill_(float("nan"))
    if name == "sac":
        model.learning_starts = 0
    with pytest.raises(DivergedError, match="There are no earlier weights to restore"):
        model.learn(20)


class WithStatistics(torch.nn.Module):
    """Layers that keep running statistics, in front of actor and critic."""

    def __init__(self, space: Any) -> None:
        super().__init__()
        self.features_dim = int(np.prod(space.shape))
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(self.features_dim))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


@pytest.mark.parametrize("name", ["ppo, numbers", "rmsprop", "spo", "sac"])
def test_running_statistics_and_targets_go_back_too(name: str) -> None:
    optimizer = {"optimizer_class": torch.optim.RMSprop} if name == "rmsprop" else {}
    model = AGENTS["ppo, numbers" if optimizer else name](
        policy_kwargs={"features_extractor_class": WithStatistics, **optimizer}
    )
    model.learn(40).update.last_good.forget()
    before = {key: tensor.clone() for key, tensor in model.policy.state_dict().items()}
    assert sum("running_mean" in key and bool(tensor.any()) for key, tensor in before.items()) > 0
    model.learning_rate = 1e39
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match="are those with which"):
        model.learn(40, reset_num_timesteps=False)
    for key, tensor in model.policy.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_a_loss_that_is_nan_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, moments, the statistics of observations and the scale of rewards are those of before the round."""
    model = BARPO("MlpPolicy", SpacesEnv(), **SMALL).learn(32)
    flat, scaler = model.update.vector, model.reward_scaler
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
    assert torch.equal(model.update.vector.weights, other.update.vector.weights)


BAD = [float("nan"), -1e-3, float("inf")]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["learning_rate", "clip_range", "clip_range_vf", "ent_coef"])
def test_schedules_are_rejected_by_name_when_they_are_read(name: str, bad: float) -> None:
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

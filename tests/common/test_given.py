"""What is given to ``load`` beside a file counts as if the agent had been made with it, or is refused by name."""

import pathlib
import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import stable_baselines3
import torch
from stable_baselines3.common.buffers import NStepReplayBuffer

from rlspo import ARPO, BARPO, PDPPO, PPO, SAC, SPO
from rlspo.common.errors import constructor_arguments
from rlspo.common.settings import of_class
from tests.spaces import SpacesEnv

ON: dict[str, Any] = {"n_steps": 16, "batch_size": 8, "n_epochs": 1}
OFF: dict[str, Any] = {"buffer_size": 100, "learning_starts": 4, "batch_size": 8}
TREE: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "gradient_steps": 1, "n_particles": 4, "depth": 2}
MAKERS: dict[str, tuple[type[Any], Callable[[], Any], dict[str, Any]]] = {
    "ppo": (PPO, SpacesEnv, ON),
    "arpo": (ARPO, SpacesEnv, {**ON, "adversary_steps": 2}),
    "barpo": (BARPO, SpacesEnv, {**ON, "adversary_steps": 2}),
    "pdppo": (PDPPO, lambda: gym.make("rlspo/FrozenLakePostDecision-v0"), ON),
    "sac": (SAC, lambda: gym.make("Pendulum-v1"), OFF),
    "spo": (SPO, lambda: gym.make("CartPole-v1"), TREE),
}
#: Another value for every setting that an agent is built for.
OTHERS: dict[str, Any] = {
    "n_steps": 4,
    "use_sde": True,
    "normalize_observations": True,
    "normalize_rewards": True,
    "policy_kwargs": {"net_arch": [5]},
    "precision": "bfloat16",
    "sequence_length": 2,
    "burn_in": 2,
    "norm": "l2",
    "solver": "pgd",
    "adversary_steps": 3,
    "step_size": 0.3,
    "temperature": 0.1,
    "restarts": 2,
    "rollouts": "attacked",
    "clip_to_space": True,
    "adversary_keys": [],
    "targets": "split",
    "advantage": "max",
    "critics": "single",
    "ratio": "joint",
    "credit": "joint",
    "buffer_size": 50,
    "n_particles": 8,
    "replay_rollouts": 1,
    "root_noise": 0.2,
    "root_alpha": 0.7,
    "dual_learning_rate": 0.5,
}
#: Where this other value needs something that these agents have not.
ELSEWHERE = {("arpo", "adversary_keys"), ("barpo", "adversary_keys")}


def make(agent: str, **more: Any) -> Any:
    cls, env, settings = MAKERS[agent]
    return cls("MlpPolicy", env(), **{**settings, "seed": 0, "device": "cpu", "policy_kwargs": {"net_arch": [4]}, **more})


def fixed_settings(cls: type) -> list[str]:
    found = [(name, of_class(cls, name)) for name in dir(cls)]
    return [name for name, setting in found if setting is not None and setting.fixed]


CASES = [
    (agent, name) for agent, (cls, _, _) in MAKERS.items() for name in fixed_settings(cls) if (agent, name) not in ELSEWHERE
]


def learned(model: Any) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(model.policy.parameters())


@pytest.mark.parametrize(("agent", "name"), CASES)
def test_the_remedy_for_a_fixed_setting_works_where_it_is_named(agent: str, name: str, tmp_path: pathlib.Path) -> None:
    """It names ``load`` only where an agent of the same weights, made with the new value, learns the same."""
    model = make(agent)
    before, other = getattr(model, name), OTHERS[name]
    if isinstance(before, bool):
        other = not before
    with pytest.raises(ValueError, match=f"^{name} is ") as refused:
        setattr(model, name, other)
    model.save(tmp_path / "model")
    load: Callable[..., Any] = type(model).load
    if "load" not in str(refused.value):
        with pytest.raises(ValueError, match=rf"^{name} is {re.escape(repr(before))} in the file.*make a new agent"):
            load(tmp_path / "model", **{name: other})
        return
    loaded = load(tmp_path / "model", env=model.get_env(), device="cpu", **{name: other})
    assert getattr(loaded, name) == other
    made = make(agent, **{name: other})
    made.policy.load_state_dict(model.policy.state_dict())
    for one in (made, loaded):
        one.set_random_seed(3)
        one.learn(24)
    assert torch.equal(learned(loaded), learned(made))


@pytest.mark.parametrize("agent", MAKERS)
def test_every_argument_of_the_constructor_is_taken(agent: str, tmp_path: pathlib.Path) -> None:
    """The values that a file has are fine, one by one, and each lands where the agent looks for it."""
    model = make(agent).learn(16)
    model.save(tmp_path / "model")
    names = (constructor_arguments(type(model)) or set()) - {"policy", "env", "device", "_init_setup_model", "policy_kwargs"}
    for name in names:
        attribute = name if name in vars(model) else f"_{name}"
        assert attribute in vars(model), name
    same = {name: vars(model).get(name, vars(model).get(f"_{name}")) for name in names}
    loaded = type(model).load(tmp_path / "model", env=model.get_env(), **same)
    for name in names - {"clip_range"}:
        assert vars(loaded).get(name, vars(loaded).get(f"_{name}")) == same[name], name
    loaded.learn(16)


@pytest.mark.parametrize(
    ("agent", "given", "message"),
    [
        ("ppo", {"gamma": 7.0}, "^gamma is 7.0"),
        ("ppo", {"batch_size": 0}, "^batch_size is 0"),
        ("ppo", {"batch_size": 1}, "normalize_advantage needs"),
        ("ppo", {"n_epochs": -3}, "^n_epochs is -3"),
        ("ppo", {"learning_rate": "fast"}, "^learning_rate is 'fast'"),
        ("ppo", {"compile": "perhaps"}, "^compile is 'perhaps'"),
        ("ppo", {"learning_rat": 1e-3}, r"'learning_rat', which is neither.*Did you mean 'learning_rate'\?"),
        ("ppo", {"policy": "MlpPolicy"}, "'policy', which is neither"),
        ("ppo", {"custom_objects": {"gamma": 7.0}}, "^gamma is 7.0"),
        ("barpo", {"norm": "l7"}, "^norm is 'l7'"),
        ("pdppo", {"credit": "component", "ratio": "joint"}, "^credit is 'component'"),
        ("spo", {"n_particles": 0}, "^n_particles is 0"),
        ("spo", {"n_epochs": -3}, "^n_epochs is -3"),
        ("sac", {"precision": "float8"}, "^precision is 'float8'"),
        ("sac", {"buffer_size": 0}, "^buffer_size is 0"),
        ("sac", {"ent_coef": 0.1}, r"^ent_coef cannot change to 0.1: it is learned.*load_state_dict"),
        ("sac", {"ent_coef": "auto_0.3"}, r"^ent_coef cannot change to 'auto_0.3': it is learned"),
    ],
)
def test_what_the_constructor_rejects_is_rejected(
    agent: str, given: dict[str, Any], message: str, tmp_path: pathlib.Path
) -> None:
    model = make(agent)
    model.save(tmp_path / "model")
    with pytest.raises((ValueError, TypeError), match=message):
        type(model).load(tmp_path / "model", **given)


def test_observations_stay_as_the_weights_know_them(tmp_path: pathlib.Path) -> None:
    for chosen in (False, True):
        model = make("ppo", normalize_observations=chosen)
        model.save(tmp_path / "model")
        with pytest.raises(ValueError, match=f"normalize_observations is {chosen} in the file"):
            PPO.load(tmp_path / "model", normalize_observations=not chosen)
        assert (
            PPO.load(tmp_path / "model", normalize_observations=chosen, policy_kwargs={"net_arch": [4]}).normalize_observations
            == chosen
        )
    stable_baselines3.PPO("MlpPolicy", SpacesEnv(), n_steps=16).save(tmp_path / "theirs")
    with pytest.raises(ValueError, match="normalize_observations is False in the file"):
        PPO.load(tmp_path / "theirs", normalize_observations=True)


def test_settings_reach_what_a_file_keeps_beside_them(tmp_path: pathlib.Path) -> None:
    """The discount of the reward scale, a fixed coefficient's tensor, the multipliers' rate, the length of the window."""
    make("ppo", normalize_rewards=True).learn(16).save(tmp_path / "ppo")
    assert PPO.load(tmp_path / "ppo", gamma=0.5).reward_scaler.gamma == 0.5
    assert PPO.load(tmp_path / "ppo", normalize_rewards=False).reward_scaler is None
    assert PPO.load(tmp_path / "ppo", stats_window_size=7)._stats_window_size == 7
    make("sac", ent_coef=0.1).save(tmp_path / "sac")
    assert float(SAC.load(tmp_path / "sac", ent_coef=0.4).ent_coef_tensor) == pytest.approx(0.4)
    assert SAC.load(tmp_path / "sac", train_freq=[2, "step"]).train_freq.frequency == 2
    with pytest.raises(ValueError, match="it is fixed"):
        SAC.load(tmp_path / "sac", ent_coef="auto")
    make("spo").save(tmp_path / "spo")
    loaded = SPO.load(tmp_path / "spo", learning_rate=1e-3, dual_learning_rate=0.1)
    assert loaded.policy.optimizer.param_groups[-1]["lr_scale"] == pytest.approx(100.0)


def test_returns_over_other_steps(tmp_path: pathlib.Path) -> None:
    stable_baselines3.SAC("MlpPolicy", "Pendulum-v1", n_steps=3, buffer_size=50, gamma=0.9).save(tmp_path / "model")
    assert isinstance(SAC.load(tmp_path / "model", env="Pendulum-v1").replay_buffer, NStepReplayBuffer)
    fewer = SAC.load(tmp_path / "model", env="Pendulum-v1", n_steps=1)
    assert not isinstance(fewer.replay_buffer, NStepReplayBuffer)
    assert SAC.load(tmp_path / "model", env="Pendulum-v1", n_steps=2).replay_buffer.n_steps == 2


# Seeds.


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_a_seed_that_is_given_counts(agent: str, tmp_path: pathlib.Path) -> None:
    model = make(agent).learn(16)
    model.save(tmp_path / "model")

    def draws(**given: Any) -> list[float]:
        loaded = type(model).load(tmp_path / "model", device="cpu", **given)
        samples = [torch.rand(1, generator=getattr(loaded.randomness, name)).item() for name in ("torch", "predict")]
        return [*samples, loaded.randomness.numpy.random()]

    saved = [torch.rand(1, generator=getattr(model.randomness, name)).item() for name in ("torch", "predict")]
    assert draws()[:2] == saved
    first, second = draws(seed=1), draws(seed=2)
    assert first == draws(seed=1) and len({*first, *second, *saved}) == 8
    assert draws(custom_objects={"seed": 1}) == first


@pytest.mark.parametrize("agent", ["ppo", "sac"])
def test_policy_kwargs_of_the_file_may_be_repeated(agent: str, tmp_path: pathlib.Path) -> None:
    for kwargs in (None, {"net_arch": [4]}):
        make(agent, policy_kwargs=kwargs).save(tmp_path / "model")
        MAKERS[agent][0].load(tmp_path / "model", policy_kwargs=kwargs)


def test_what_weights_belong_to_is_refused_in_custom_objects_too(tmp_path: pathlib.Path) -> None:
    make("ppo", normalize_observations=True).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"^normalize_observations is True in the file"):
        PPO.load(tmp_path / "model", custom_objects={"normalize_observations": False})

"""PDPPO as an agent: settings, loss, logs, saving, spaces."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_util import make_vec_env

from rlspo import PDPPO
from rlspo.common.update import MINIBATCH_FIELDS, gather
from rlspo.envs import PostDecision
from rlspo.pdppo.advantages import ADVANTAGES, TARGETS
from rlspo.pdppo.published import PUBLISHED
from tests.pdppo.chain import VectorChainEnv
from tests.spaces import SpacesEnv, policy_name

SMALL: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "seed": 3}


def world(observation: str = "box", action: str = "box") -> gym.Env:
    """Any spaces, with a post-decision state that is the observation and a reward of the action's size."""
    return PostDecision(SpacesEnv(observation, action), lambda seen, taken: (seen, float(np.sum(taken))))


def parameters(model: PDPPO) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


@pytest.mark.parametrize("observation", ["box", "discrete", "multi_binary", "image", "dict"])
@pytest.mark.parametrize("action", ["box", "discrete", "multi_discrete", "multi_binary"])
def test_every_kind_of_space(observation: str, action: str) -> None:
    model = PDPPO(policy_name(observation), world(observation, action), **SMALL)
    before = parameters(model).clone()
    model.learn(32)
    moved = dict(model.policy.named_parameters())["post_value_net.0.weight"]
    assert (parameters(model) != before).any() and moved.isfinite().all()
    taken, _ = model.predict(model.env.reset(), deterministic=True)
    assert model.action_space.contains(taken[0])


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("advantage", ADVANTAGES)
@pytest.mark.parametrize("critics", ["dual", "single"])
def test_every_variant_runs_and_is_another(targets: str, advantage: str, critics: str) -> None:
    settings = {**SMALL, "targets": targets, "advantage": advantage, "critics": critics}
    model = PDPPO("MlpPolicy", VectorChainEnv(), **settings).learn(64)
    default = PDPPO("MlpPolicy", VectorChainEnv(), **SMALL).learn(64)
    assert parameters(model).isfinite().all()
    same = torch.equal(parameters(model)[:50], parameters(default)[:50])
    assert same == ((targets, advantage, critics) == ("textbook", "sum", "dual"))


def test_gsde_and_squashing() -> None:
    PDPPO("MlpPolicy", world(), **SMALL, use_sde=True, policy_kwargs={"squash_output": True}).learn(64)


def batch_of(model: PDPPO) -> Any:
    """The first minibatch's worth of the last rollout."""
    scalars = {name: torch.tensor(value) for name, value in model.scalars().items()}
    data = model.rollout_buffer.tensors((*MINIBATCH_FIELDS.values(), *model.extra_fields))
    return gather(data, torch.arange(model.batch_size), scalars, None)


def test_the_loss_is_that_of_the_paper() -> None:
    """Each component of the action has its ratio and is clipped on its own; both critics learn by squared error."""
    options = {"ent_coef": 0.02, "vf_coef": 0.7, "normalize_advantage": False, "clip_range": 0.05}
    model = PDPPO("MlpPolicy", world("box", "multi_discrete"), **SMALL, **options).learn(32)
    batch = batch_of(model)
    weights = dict(model.policy.named_parameters())
    loss, stats = model.loss(weights, batch)
    policy = model.policy
    distribution, values = policy.evaluation_of(policy.preprocess(batch.observations))
    logits = distribution.logits.split([2, 3], dim=-1)
    total = torch.zeros(model.batch_size)
    for k in range(2):
        log_prob = torch.log_softmax(logits[k], -1)[torch.arange(16), batch.actions[:, k]]
        ratio = (log_prob - batch.extra["component_log_probs"][:, k]).exp()
        advantage = batch.extra["component_advantages"][:, k]
        total += torch.minimum(advantage * ratio, advantage * ratio.clamp(0.95, 1.05))
    post_values = policy.post_values_of(policy.preprocess_post(batch.extra["post_observations"]))
    v_loss, vx_loss = (values - batch.returns).square().mean(), (post_values - batch.extra["post_returns"]).square().mean()
    expected = -total.mean() - 0.02 * distribution.entropy().mean() + 0.7 * (v_loss + vx_loss)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(stats["post_value_loss"], vx_loss)
    torch.testing.assert_close(batch.extra["component_log_probs"].sum(-1), batch.old_log_prob)


def test_eager_and_compiled_give_the_same_numbers() -> None:
    settings = {**SMALL, "n_epochs": 3}
    eager, compiled = (
        PDPPO("MlpPolicy", world("box", "multi_discrete"), **settings, compile=choice).learn(64) for choice in (False, True)
    )
    assert compiled.update.compiled and not eager.update.compiled
    torch.testing.assert_close(parameters(compiled), parameters(eager), rtol=1e-4, atol=1e-5)


def test_what_tensorboard_shows(tmp_path: Path) -> None:
    from stable_baselines3.common.logger import configure

    model = PDPPO("MlpPolicy", VectorChainEnv(), **SMALL, advantage="max", targets="split")
    model.set_logger(configure(str(tmp_path), ["json"]))
    model.learn(96)
    last = json.loads((tmp_path / "progress.json").read_text().splitlines()[-1])
    for key in ("value_loss", "post_value_loss", "explained_variance", "post_explained_variance"):
        assert np.isfinite(last[f"train/{key}"])
    assert 0 < last["train/post_advantage_share"] < 1


def test_max_takes_the_larger_of_both() -> None:
    models = {
        name: PDPPO("MlpPolicy", VectorChainEnv(), **SMALL, advantage=name, targets="split") for name in ("max", "pre", "post")
    }
    found = {}
    for name, model in models.items():
        model._setup_learn(32)
        model.collect_rollouts(model.env, model._init_callback(None), model.rollout_buffer, 32)
        found[name] = model.rollout_buffer.data["advantages"]
    np.testing.assert_array_equal(found["max"], np.maximum(found["pre"], found["post"]))
    assert (found["pre"] > found["post"]).any() and (found["post"] > found["pre"]).any()


def test_a_saved_agent_acts_without_an_environment_and_goes_on_with_one(tmp_path: Path) -> None:
    model = PDPPO("MlpPolicy", VectorChainEnv(), **SMALL, normalize_observations=True, targets="split").learn(64)
    model.save(tmp_path / "agent")
    alone = PDPPO.load(tmp_path / "agent")
    seen = np.eye(4, dtype=np.float32)
    np.testing.assert_array_equal(alone.predict(seen, deterministic=True)[0], model.predict(seen, deterministic=True)[0])
    assert alone.targets == "split" and alone.post_decision_space == model.post_decision_space
    torch.testing.assert_close(parameters(alone), parameters(model), rtol=0, atol=0)
    on = PDPPO.load(tmp_path / "agent", env=VectorChainEnv())
    on.learn(32, reset_num_timesteps=False)
    assert on.num_timesteps == 96 and on.normalize_observations


def test_one_seed_gives_one_result() -> None:
    first, second = (PDPPO("MlpPolicy", VectorChainEnv(), **SMALL).learn(64) for _ in range(2))
    assert torch.equal(parameters(first), parameters(second))


def test_as_published() -> None:
    env = make_vec_env("rlspo/LotSizing-v0", n_envs=1, env_kwargs={"instance": "2x1"})
    model = PDPPO.as_published("MlpPolicy", env, n_epochs=2, seed=0)
    assert (model.targets, model.advantage, model.ratio, model.critics) == ("split", "max", "component", "dual")
    assert (model.gamma, model.gae_lambda, model.n_steps, model.batch_size) == (0.9, 1.0, 400, 400)
    assert not model.normalize_advantage and not model.normalize_rewards
    rates = [group.get("lr_scale", 1.0) * 5.5e-4 for group in model.policy.optimizer.param_groups]
    np.testing.assert_allclose(rates, [5.5e-4, 1e-3, 1e-3])
    model.learn(400)
    assert model._n_updates == 2
    changed = PDPPO.as_published("MlpPolicy", env, policy_kwargs={"activation_fn": torch.nn.ReLU})
    assert changed.policy.net_arch == [128, 128] and changed.policy.activation_fn is torch.nn.ReLU
    assert [group.get("lr_scale") for group in changed.policy.optimizer.param_groups][1:] == [pytest.approx(1 / 0.55)] * 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"targets": "both"}, "targets is 'both'; it must be one of 'textbook', 'split'"),
        ({"advantage": "mean"}, "advantage is 'mean'; it must be one of 'max', 'sum', 'post', 'pre'"),
        ({"critics": 2}, "critics is 2; it must be one of 'dual', 'single'"),
        ({"credit": "each"}, "credit is 'each'; it must be one of 'auto', 'joint', 'component'"),
        ({"ratio": "each"}, "ratio is 'each'; it must be one of 'component', 'joint'"),
    ],
)
def test_bad_settings(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PDPPO("MlpPolicy", VectorChainEnv(), **setting)


def test_box_actions_have_a_ratio_for_each_dimension() -> None:
    model = PDPPO("MlpPolicy", world(), **SMALL).learn(32)
    assert isinstance(model.action_space, spaces.Box)
    assert model.rollout_buffer.data["component_log_probs"].shape == (32, 1, 2)
    np.testing.assert_allclose(
        model.rollout_buffer.data["component_log_probs"].sum(-1), model.rollout_buffer.data["log_probs"], rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("ratio", ["component", "joint"])
def test_the_actor_is_evaluated_once_for_each_rollout(ratio: str) -> None:
    """Values, log-probabilities and those of the components come from one pass."""
    model = PDPPO("MlpPolicy", VectorChainEnv(), **SMALL, ratio=ratio, device="cpu")
    evaluated: list[int] = []
    plain = model.policy.mlp_extractor.forward_actor

    def counted(features: torch.Tensor) -> torch.Tensor:
        evaluated.append(len(features))
        return plain(features)

    model.policy.mlp_extractor.forward_actor = counted
    model._setup_learn(32)
    model.collect_rollouts(model.env, model._init_callback(None), model.rollout_buffer, 32)
    assert evaluated == [32]


class Knobs(gym.Env[Any, Any]):
    """Two knobs that are paid apart: the first costs its position, the second earns it; chance adds noise for both.

    :param batched: offer the look-ahead for several actions at once, too
    """

    def __init__(self, batched: bool = False) -> None:
        self.observation_space: Any = spaces.Box(-1, 1, (1,), np.float32)
        self.action_space: Any = spaces.MultiDiscrete([3, 3])
        self.post_decision_space: Any = spaces.Box(0, 2, (2,), np.float32)
        self.render_mode = None
        if batched:
            self.post_decisions = self._several

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def post_decision(self, action: Any) -> tuple[Any, float]:
        return np.asarray(action, np.float32), -float(action[0])

    def _several(self, actions: Any) -> tuple[Any, Any]:
        return actions.astype(np.float32), -actions[:, 0].astype(float)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        post, reward = self.post_decision(action)
        earned = float(action[1]) + 5 * self.np_random.standard_normal()
        info = {"post_decision_obs": post, "post_decision_reward": reward}
        return np.zeros(1, np.float32), reward + earned, False, self.steps == 10, info


@pytest.mark.parametrize("batched", [False, True])
def test_each_component_gets_its_own_credit(batched: bool) -> None:
    """With V^x exact, the credit of a knob is what it alone pays, less what another draw of it would: no noise at all."""
    model = PDPPO(
        "MlpPolicy",
        make_vec_env(lambda: Knobs(batched), n_envs=3),
        n_steps=64,
        batch_size=192,
        n_epochs=1,
        seed=0,
        gamma=0.0,
        advantage="post",
        credit="component",
        normalize_rewards=False,
        policy_kwargs={"net_arch": []},
    )
    layer = model.policy.post_value_net[0]
    layer.weight.data.copy_(torch.tensor([[0.0, 1.0]]))  # V^x(s^x) = E[r^w] = the position of the second knob
    layer.bias.data.zero_()
    drawn: list[np.ndarray] = []
    fast = type(model.policy).fast_actor

    def recorded(policy: Any, generator: np.random.Generator) -> Any:
        act = fast(policy, generator)

        def act_and_keep(observations: Any) -> np.ndarray:
            drawn.append(act(observations))
            return drawn[-1]

        return act_and_keep

    model.policy.fast_actor = lambda generator: recorded(model.policy, generator)
    model._setup_learn(192)
    model.collect_rollouts(model.env, model._init_callback(None), model.rollout_buffer, 64)
    taken, others = np.stack(drawn[::2]).astype(float), np.stack(drawn[1::2]).astype(float)
    np.testing.assert_array_equal(model.rollout_buffer.data["actions"], taken)
    credit = np.stack([others[..., 0] - taken[..., 0], taken[..., 1] - others[..., 1]], axis=-1)
    np.testing.assert_allclose(model.rollout_buffer.data["component_advantages"], credit, atol=1e-5)
    assert len(np.unique(credit)) == 5


SETTINGS_THAT_DO_NOT_FIT = [{"targets": "split"}, {"ratio": "joint"}, {"advantage": "pre"}, {"use_sde": True}]


@pytest.mark.parametrize("settings", SETTINGS_THAT_DO_NOT_FIT, ids=str)
def test_component_credit_needs_what_it_is_made_of(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it needs targets='textbook', ratio='component', an advantage that V"):
        PDPPO("MlpPolicy", make_vec_env(Knobs, n_envs=1), **SMALL, credit="component", **settings)


class Blind(Knobs):
    """Does not look ahead."""

    post_decision = None  # type: ignore[assignment]

    def step(self, action: Any) -> Any:
        info = {"post_decision_obs": np.asarray(action, np.float32), "post_decision_reward": 0.0}
        return np.zeros(1, np.float32), 0.0, False, False, info


def test_credit_is_each_components_own_where_it_can_be() -> None:
    """By default: for several choices, in an environment that looks ahead, with settings that go with it."""
    knobs, blind = (make_vec_env(cls, n_envs=1) for cls in (Knobs, Blind))
    assert PDPPO("MlpPolicy", knobs, **SMALL).learn(32).recorder.credits_components
    assert not PDPPO("MoeMlpPolicy", knobs, **SMALL).learn(32).recorder.credits_components, "experts tie components together"
    one = PDPPO("MoeMlpPolicy", knobs, **SMALL, policy_kwargs={"n_experts": 1}).learn(32)
    assert one.recorder.credits_components
    with pytest.raises(ValueError, match="the policy a mixture of experts"):
        PDPPO("MoeMlpPolicy", knobs, **SMALL, credit="component")
    for env, settings in ((blind, {}), (knobs, {"targets": "split"}), (knobs, {"credit": "joint"}), (world(), {})):
        assert not PDPPO("MlpPolicy", env, **SMALL, **settings).learn(32).recorder.credits_components


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_nobody_looks_ahead_where_an_episode_is_over(mode: AutoresetMode) -> None:
    class Strict(Knobs):
        def post_decision(self, action: Any) -> tuple[Any, float]:
            assert self.steps < 10, "this episode is over"
            return super().post_decision(action)

        def step(self, action: Any) -> Any:
            post, reward = self.post_decision(action)
            self.steps += 1
            info = {"post_decision_obs": post, "post_decision_reward": reward}
            return np.zeros(1, np.float32), reward, False, self.steps == 10, info

    model = PDPPO("MlpPolicy", SyncVectorEnv([Strict] * 2, autoreset_mode=mode), **SMALL, credit="component").learn(64)
    assert np.isfinite(model.rollout_buffer.data["component_advantages"]).all()
    assert model.rollout_buffer.data["valid"].all() == (mode is not AutoresetMode.NEXT_STEP)


def test_environments_that_cannot_be_asked_one_by_one_do_not_look_ahead() -> None:
    env = AsyncVectorEnv([Knobs] * 2)
    with pytest.raises(ValueError, match="does not say where actions lead that are not taken"):
        PDPPO("MlpPolicy", env, **SMALL, credit="component")
    env.close()


def test_look_ahead_that_is_asked_for_must_be_there() -> None:
    env = make_vec_env(Blind, n_envs=1)
    PDPPO("MlpPolicy", env, **SMALL).learn(32)
    with pytest.raises(ValueError, match="does not say where actions lead that are not taken"):
        PDPPO("MlpPolicy", env, **SMALL, credit="component")
    model = PDPPO("MlpPolicy", make_vec_env(Knobs, n_envs=1), **SMALL, credit="component").learn(32)
    with pytest.raises(ValueError, match="does not say where actions lead that are not taken"):
        model.set_env(env)


def test_component_credit_goes_on_after_loading_and_in_another_environment(tmp_path: Path) -> None:
    """The first rollout asks the environment that it plays in."""

    class Asked(Knobs):
        times = 0

        def post_decision(self, action: Any) -> tuple[Any, float]:
            self.times += 1
            return super().post_decision(action)

    model = PDPPO("MlpPolicy", make_vec_env(Asked, n_envs=1), **SMALL, credit="component").learn(32)
    model.save(tmp_path / "agent")
    env = make_vec_env(Asked, n_envs=1)
    loaded = PDPPO.load(tmp_path / "agent", env=env).learn(32)
    assert env.envs[0].unwrapped.times == 32 * 4, "three looks ahead and the step itself"  # type: ignore[attr-defined]
    assert np.ptp(loaded.rollout_buffer.data["credit_rewards"]) > 0
    other = make_vec_env(Asked, n_envs=1)
    loaded.set_env(other)
    loaded.learn(32)
    assert env.envs[0].unwrapped.times == 32 * 4 and other.envs[0].unwrapped.times == 32 * 4  # type: ignore[attr-defined]


class Swapped(gym.ActionWrapper):
    """The first knob is the second."""

    def action(self, action: Any) -> Any:
        return action[::-1]


class Free(Knobs):
    """What the decision leads to costs nothing."""

    def post_decision(self, action: Any) -> tuple[Any, float]:
        return super().post_decision(action)[0], 0.0


@pytest.mark.parametrize("cls", [Knobs, Free])
def test_actions_that_are_changed_on_the_way_are_found_out(cls: type[Knobs]) -> None:
    model = PDPPO("MlpPolicy", make_vec_env(lambda: Swapped(cls()), n_envs=1), **SMALL, credit="component")
    with pytest.raises(ValueError, match="A wrapper changes actions on their way to the environment"):
        model.learn(64)


def test_the_grid_has_the_published_settings() -> None:
    """The benchmark's agent "as published" is that of ``as_published``."""
    yaml = pytest.importorskip("yaml")
    grid = yaml.safe_load((Path(__file__).parents[2] / "zoo/grids/lot_sizing.yml").read_text())
    params = grid["agents"]["pdppo-published"]["params"]
    assert params.pop("n_envs") == 1
    params = {key: float(value) if isinstance(value, str) and value[0].isdigit() else value for key, value in params.items()}
    kwargs, published = params.pop("policy_kwargs"), {**PUBLISHED, "ratio": "component"}
    expected = published.pop("policy_kwargs")
    assert {**params, "ratio": "component"} == published
    assert kwargs.pop("net_arch") == expected["net_arch"]
    assert all(value == pytest.approx(expected[key], rel=1e-3) for key, value in kwargs.items())

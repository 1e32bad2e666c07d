"""Choices that do not start at 0 reach environments as their own; spaces that agents cannot take are refused at once."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy

from rlspo import ARPO, BARPO, PDPPO, PPO, SAC, SPO
from rlspo.attacks import attacked_evaluation
from rlspo.envs.post_decision import OBSERVATION_KEY, REWARD_KEY
from rlspo.policies.preprocessing import SpaceInput
from rlspo.spo import Planner

STARTS = {"discrete": spaces.Discrete(3, start=-4), "multi_discrete": spaces.MultiDiscrete([2, 3], start=[5, -7])}
SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "seed": 0, "device": "cpu"}


class Numbered(gym.Env[Any, Any]):
    """Takes elements of its action space only; the reward says which, and they lead to the post-decision state."""

    observation_space = spaces.Box(-10, 10, (2,), np.float32)
    post_decision_space = observation_space
    render_mode = None

    def __init__(self, action_space: spaces.Space) -> None:
        self.action_space = action_space

    def look(self) -> Any:
        return np.full(2, self.t, np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.look(), {}

    def post_decision(self, action: Any) -> tuple[Any, float]:
        assert self.action_space.contains(action), action
        return self.look() + np.sum(action), float(np.sum(action))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward = self.post_decision(action)
        self.t += 1
        return self.look(), reward, self.t == 5, False, {OBSERVATION_KEY: seen, REWARD_KEY: reward}


def agents() -> dict[str, Any]:
    fast = {"n_epochs": 1, "compile": False}
    searching = {"gradient_steps": 1, "n_particles": 4, "depth": 2, "compile": False}
    moe = {"policy_kwargs": {"n_experts": 2}}
    return {
        "PPO": lambda env: PPO("MlpPolicy", env, **SMALL, **fast),
        "PPO, mixture": lambda env: PPO("MoeMlpPolicy", env, **SMALL, **fast, **moe),
        "ARPO": lambda env: ARPO("MlpPolicy", env, **SMALL, **fast, epsilon=0.1),
        "BARPO": lambda env: BARPO("MlpPolicy", env, **SMALL, **fast, epsilon=0.1),
        "PDPPO": lambda env: PDPPO("MlpPolicy", env, **SMALL, **fast),
        "SPO": lambda env: SPO("MlpPolicy", env, **SMALL, **searching),
    }


@pytest.mark.parametrize("name", [*agents()])
@pytest.mark.parametrize("kind", [*STARTS])
def test_actions_are_elements_of_their_space(name: str, kind: str) -> None:
    space = STARTS[kind]
    model = agents()[name](Numbered(space)).learn(16)
    kept = model.rollout_buffer.actions.reshape(16, -1)
    sizes, start = np.reshape(getattr(space, "nvec", getattr(space, "n", 0)), -1), np.reshape(space.start, -1)  # type: ignore[attr-defined]
    assert (kept >= start).all() and (kept < start + sizes).all()
    # The reward says what the environment was given: the start was added, and once.
    np.testing.assert_allclose(model.rollout_buffer.rewards.reshape(-1), kept.sum(axis=1))
    for deterministic in (True, False):
        assert space.contains(model.predict(np.zeros(2, np.float32), deterministic=deterministic)[0].astype(space.dtype))
        assert space.contains(
            model.predict(np.zeros((3, 2), np.float32), deterministic=deterministic)[0][2].astype(space.dtype)
        )


class Acted(BaseCallback):
    """Keeps what was done, by each name that SB3 has for it."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def _on_step(self) -> bool:
        locals_ = self.locals
        assert (locals_["actions"] == locals_["clipped_actions"]).all() and (
            dict(locals_)["actions"] == locals_["actions"]
        ).all()
        observations, actions = locals_["obs_tensor"], torch.as_tensor(locals_["actions"])
        torch.testing.assert_close(locals_["log_probs"], self.model.policy.evaluate_actions(observations, actions)[1])
        self.kept.append(locals_["actions"])
        return True


@pytest.mark.parametrize("name", ["PPO", "PPO, mixture", "PDPPO"])
@pytest.mark.parametrize("kind", [*STARTS])
def test_all_that_is_public_speaks_elements(name: str, kind: str) -> None:
    space: Any = STARTS[kind]
    acted = Acted()
    model = agents()[name](Numbered(space)).learn(16, callback=acted)
    buffer, policy = model.rollout_buffer, model.policy
    np.testing.assert_array_equal(np.reshape(acted.kept, -1), buffer.actions.reshape(-1))
    with pytest.raises(ValueError, match="read-only"):
        buffer.actions[0] = 0  # would not reach the field
    samples = next(buffer.get())
    given = samples.actions.long().flatten() if kind == "discrete" else samples.actions
    from_0 = given - torch.as_tensor(space.start)
    expected = policy.get_distribution(samples.observations).log_prob(from_0)
    torch.testing.assert_close(policy.evaluate_actions(samples.observations, given)[1], expected)
    seen = np.zeros((3, 2), np.float32)
    for actions in (torch.as_tensor(model.predict(seen)[0]), policy(torch.as_tensor(seen))[0]):
        assert all(space.contains(one) for one in actions.numpy().astype(space.dtype))
        policy.evaluate_actions(torch.as_tensor(seen), actions)
    for wrong in (actions - 100, actions + 100):
        with pytest.raises(ValueError, match="must be elements of"):
            policy.evaluate_actions(torch.as_tensor(seen), wrong)
    # What SB3's add takes are elements, too.
    before = buffer.data["actions"][0].copy()
    done = buffer.actions[0]
    buffer.reset()
    buffer.add(seen[:1], done, np.zeros(1), np.zeros(1), torch.zeros(1), torch.zeros(1))
    np.testing.assert_array_equal(buffer.data["actions"][0], before)
    with pytest.raises(ValueError, match="must be elements of"):
        buffer.add(seen[:1], done + 100, np.zeros(1), np.zeros(1), torch.zeros(1), torch.zeros(1))


def test_what_is_cloned_is_what_was_done() -> None:
    """Behavioural cloning by SB3's methods: one action everywhere, learned and predicted by the same name."""
    policy = PPO("MlpPolicy", Numbered(spaces.Discrete(3, start=1)), **SMALL).policy
    seen, wanted = torch.zeros(8, 2), torch.full((8,), 3)
    optimizer = torch.optim.Adam(policy.parameters(), 0.05)
    for _ in range(30):
        optimizer.zero_grad()
        (-policy.evaluate_actions(seen, wanted)[1].mean()).backward()
        optimizer.step()
    assert policy.predict(np.zeros(2, np.float32), deterministic=True)[0] == 3


@pytest.mark.parametrize("kind", [*STARTS])
def test_every_way_to_act(kind: str, tmp_path: Path) -> None:
    space = STARTS[kind]
    model = PPO("MlpPolicy", SyncVectorEnv([lambda: Numbered(space)] * 2), **SMALL, n_epochs=1).learn(32)
    evaluate_policy(model, Numbered(space), n_eval_episodes=1, warn=False)
    attacked_evaluation(model, Numbered(space), "mad", 0.1, n_eval_episodes=1)
    env = Numbered(space)
    observation, _ = env.reset(seed=0)
    planner = Planner(model, env, n_particles=4, depth=2)
    assert space.contains(planner.act(env, observation[None])[0][0])
    model.save(tmp_path / "model")
    again = PPO.load(tmp_path / "model", Numbered(space))
    assert again.predict(observation)[0].tolist() == model.predict(observation)[0].tolist()
    # A file of SB3 loads, and its choices are those of the space from here on.
    theirs = sb3.PPO("MlpPolicy", Numbered(space), n_steps=16, batch_size=16, seed=0)
    theirs.save(tmp_path / "theirs")
    ours = PPO.load(tmp_path / "theirs", Numbered(space)).learn(16)
    theirs.policy.load_state_dict(ours.policy.state_dict())
    number, _ = theirs.predict(observation, deterministic=True)
    assert (ours.predict(observation, deterministic=True)[0] == number + space.start).all()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(3, start=2), spaces.MultiDiscrete([3, 2], start=[-1, 4]), spaces.MultiDiscrete([2, 2], start=[9, 0])],
)
@pytest.mark.parametrize("agent", [PPO, SAC])
def test_observations_are_one_hot_from_their_start(space: Any, agent: Any) -> None:
    part = SpaceInput(space, normalize_images=True, normalize=False, clip=10.0)
    reference = type(space)(space.n if isinstance(space, spaces.Discrete) else space.nvec)
    plain = SpaceInput(reference, normalize_images=True, normalize=False, clip=10.0)
    rows = np.stack([np.asarray(space.sample()) for _ in range(9)])
    assert torch.equal(part(torch.as_tensor(rows)), plain(torch.as_tensor(rows - space.start)))

    class Seen(Numbered):
        observation_space = space
        post_decision_space = space

        def look(self) -> Any:
            return space.sample()

    actions = spaces.Box(-1, 1, (1,)) if agent is SAC else STARTS["discrete"]
    small = {"learning_starts": 4, "batch_size": 4, "buffer_size": 20} if agent is SAC else SMALL
    agent("MlpPolicy", Seen(actions), **small).learn(12)


VECTOR, CHOICE = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
REFUSED: dict[str, tuple[spaces.Space, spaces.Space, str]] = {
    "text": (spaces.Text(5), CHOICE, "Text.*FlattenObservation"),
    "text in a Dict": (spaces.Dict(a=VECTOR, mission=spaces.Text(5)), CHOICE, "'mission', Text.*FilterObservation"),
    "tuple": (spaces.Tuple((CHOICE, CHOICE)), CHOICE, "Tuple.*FlattenObservation"),
    "nested": (spaces.Dict(a=spaces.Dict(b=VECTOR)), CHOICE, "'a'.*without nesting"),
    "empty": (spaces.Dict(), CHOICE, "without keys"),
    "scalar": (spaces.Box(-1, 1, ()), CHOICE, "ReshapeObservation"),
    "no numbers": (spaces.Dict(a=spaces.Box(-1, 1, (0,))), CHOICE, r"'a'.*shape \(0,\)"),
    "tables of choices": (spaces.MultiDiscrete([[2, 3], [2, 2]]), CHOICE, "2 axes"),
    "whole numbers": (VECTOR, spaces.Box(0, 5, (2,), np.int64), "MultiDiscrete"),
    "tables to choose": (VECTOR, spaces.MultiDiscrete([[2, 3], [2, 2]]), "2 axes"),
    "bits in a table": (VECTOR, spaces.MultiBinary((2, 3)), "MultiBinary.*2 axes"),
    "actions by name": (VECTOR, spaces.Dict(a=CHOICE), "action space.*TransformAction"),
    "small image": (spaces.Box(0, 255, (7, 9, 3), np.uint8), CHOICE, "7 by 9.*36 by 36"),
    "small image in a Dict": (spaces.Dict(a=spaces.Box(0, 255, (40, 9, 3), np.uint8)), CHOICE, "40 by 9.*36 by 36"),
}


@pytest.mark.parametrize("case", [*REFUSED])
@pytest.mark.parametrize("agent", [PPO, SAC])
def test_other_spaces_are_rejected_at_once(case: str, agent: Any) -> None:
    observation_space, action_space, words = REFUSED[case]
    env = Numbered(spaces.Box(-1, 1, (1,)) if agent is SAC and action_space == CHOICE else action_space)
    env.observation_space = observation_space  # type: ignore[assignment]
    policy = "MultiInputPolicy" if isinstance(observation_space, spaces.Dict) else "CnnPolicy"
    with pytest.raises(ValueError, match=f"(?s){words}"):
        agent(policy if "image" in case or policy != "CnnPolicy" else "MlpPolicy", env)


def test_box_actions_without_an_axis_work_as_in_sb3() -> None:
    PPO("MlpPolicy", Numbered(spaces.Box(-1, 1, (), np.float32)), **SMALL, n_epochs=1).learn(16)

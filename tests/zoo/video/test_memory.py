"""`rlspo enjoy` and `rlspo record` carry what an agent remembers, and let it forget where an episode begins."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env

from rlspo import PPO
from rlspo.zoo.video import enjoy, record

SEED = 1_000_000


def returns(model: PPO, remembers: bool, episodes: int) -> list[float]:
    """As ``predict`` is documented to be used; without memory each step is the first."""
    env: Any = make_vec_env("CartPole-v1", 1)
    env.seed(SEED)
    observations, state, starts, found = env.reset(), None, np.ones(1, bool), []
    while len(found) < episodes:
        actions, state = model.predict(observations, state, starts, deterministic=True)
        observations, _, starts, infos = env.step(actions)
        starts = starts if remembers else np.ones(1, bool)
        found += [info["episode"]["r"] for info in infos if "episode" in info]
    return found


@pytest.fixture
def expected(workplace: Any) -> list[float]:
    """Returns of eight episodes of the agent in ``agent.zip``."""
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "seed": 0, "device": "cpu"}
    model = PPO("MlpLstmPolicy", "CartPole-v1", **settings, policy_kwargs={"lstm_hidden_size": 8})
    with torch.no_grad():  # else a young memory changes nothing
        for parameter in model.policy.lstm_actor.parameters():
            parameter.mul_(3)
        model.policy.action_net.weight.mul_(1000)
    model.save("agent.zip")
    found = returns(model, True, 8)
    assert found != returns(model, False, 8)
    return found


def test_enjoy(call: Any, expected: list[float]) -> None:
    code, out, _ = call(enjoy.main, "agent.zip", "--env", "CartPole-v1", "--episodes", "8", "--no-render", "--json")
    assert code == 0
    assert [episode["return"] for episode in json.loads(out)["episodes"]] == expected


def test_record(call: Any, expected: list[float]) -> None:
    pytest.importorskip("imageio_ffmpeg")
    steps = str(int(sum(expected)))
    code, out, _ = call(record.main, "agent.zip", "--env", "CartPole-v1", "--steps", steps, "--json", "-o", "video.mp4")
    assert code == 0
    assert [episode["return"] for episode in json.loads(out)["agents"][0]["episodes"]] == expected

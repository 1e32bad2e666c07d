"""The agents of ``zoo/agents``: each loads, acts at recorded observations as it did, and plays a recorded episode again."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

import rlspo
from rlspo.common.exports.lookup import trained_agents
from rlspo.zoo.export.replay import Recorded, play_one
from rlspo.zoo.runs.saved_agent import find_agent

ROOT = Path(__file__).resolve().parents[3]
AGENTS = {name: folder for name, folder in trained_agents().items() if folder.is_relative_to(ROOT)}
#: Bytes of weights: small networks only.
MOST = 2 * 2**20
#: Steps in which physics with contacts stays alike on other processors: differences in the last bits double with each step of
#: a HalfCheetah, and are a thousandth after 13 to 17 of them.
ALIKE = 10


def read(name: str, file: str) -> Any:
    return json.loads((AGENTS[name] / file).read_text())


def in_mujoco(name: str) -> bool:
    return read(name, "agent.json")["environment"]["id"].split("-v")[0] in {
        *("Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum", "InvertedPendulum"),
        *("Pusher", "Reacher", "Swimmer", "Walker2d"),
    }


def test_there_are_some() -> None:
    assert "ppo/CartPole-v1" in AGENTS


@pytest.mark.parametrize("name", AGENTS)
def test_loads_and_acts_as_recorded(name: str) -> None:
    model, recorded = rlspo.load(name, device="cpu"), Recorded.read(AGENTS[name])
    actions = recorded.actions_of(model)
    if isinstance(model.action_space, spaces.Box):
        np.testing.assert_allclose(actions, recorded.played.actions, atol=1e-4)
        assert np.ptp(actions, axis=0).max() > 1e-2, "an agent that does the same everywhere would pass"
    else:
        np.testing.assert_array_equal(actions, recorded.played.actions)
        assert len({*map(str, actions)}) > 1, "an agent that does the same everywhere would pass"
    assert (AGENTS[name] / "weights.safetensors").stat().st_size <= MOST


@pytest.mark.parametrize("name", AGENTS)
def test_plays_the_recorded_episode_again(name: str) -> None:
    """To the same return; in MuJoCo, whose last bits depend on the processor, at first step by step, then as well as ever."""
    if in_mujoco(name) and importlib.util.find_spec("mujoco") is None:
        pytest.skip("pip install 'rlspo[mujoco]'")
    agent, recorded = find_agent(name), Recorded.read(AGENTS[name])
    again = play_one(agent, agent.load("cpu"), recorded.seed)
    np.testing.assert_allclose(again.rewards[:ALIKE], recorded.played.rewards[:ALIKE], rtol=1e-3, atol=1e-4)
    if not in_mujoco(name):
        assert again.total == pytest.approx(recorded.played.total, rel=1e-5)
        return
    summary = read(name, "evaluation.json")["summary"]
    # One draw in fifty lies beyond the extremes of a hundred others.
    margin = 1 + summary["std"]
    assert summary["min"] - margin <= again.total <= summary["max"] + margin


@pytest.mark.parametrize("name", AGENTS)
def test_says_where_it_comes_from(name: str) -> None:
    about, seeds = read(name, "agent.json"), read(name, "seeds.json")
    said = about["provenance"]
    agent, _, env = name.partition("/")
    assert about["agent"] == agent and about["environment"]["id"].replace("/", "-") == env
    assert said["command"].startswith("rlspo train ")
    for flag in (f"--algo {agent}", f"--env {about['environment']['id']}", f"--seed {said['seed']}"):
        assert f"{flag} " in f"{said['command']} "
    assert {"python", "rlspo", "torch", "commit"} <= said["trained_with"].keys()
    means = sorted(each["mean"] for each in seeds["seeds"])
    assert len(means) >= 3, "the median of several"
    assert seeds["chosen"] == said["seed"]
    assert read(name, "evaluation.json")["summary"]["mean"] == means[(len(means) - 1) // 2]
    assert (AGENTS[name] / "curve.csv").is_file()
    assert (AGENTS[name] / "attacks.json").is_file() == ("epsilon" in about["settings"])


def test_the_table_is_that_of_the_files() -> None:
    spec = importlib.util.spec_from_file_location("agents_table", ROOT / "benchmarks" / "agents_table.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert made.TARGET.read_text(encoding="utf-8") == made.table(), "python benchmarks/agents_table.py makes it anew"

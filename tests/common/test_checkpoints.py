"""Model files: everything comes back, also from SB3's files; what cannot be read says why and leaves all as it was."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import torch

from rlspo import BARPO, PPO
from rlspo.common.checkpoints import read_settings
from rlspo.common.errors import IncompatibleModelError
from rlspo.common.trees import tree_map
from tests.spaces import ACTIONS, OBSERVATIONS, SpacesEnv, policy_name

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 2, "seed": 0}


def observations_of(kind: str, size: int = 20) -> Any:
    space = OBSERVATIONS[kind]
    space.seed(0)
    samples = [space.sample() for _ in range(size)]
    if isinstance(samples[0], dict):
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}
    return np.stack(samples)


def decisions(model: Any, kind: str = "box") -> np.ndarray:
    return model.predict(observations_of(kind), deterministic=True)[0]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    PPO("MlpPolicy", SpacesEnv(), **SMALL).learn(16).save(tmp_path / "model.zip")
    return tmp_path / "model.zip"


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("observation", ["box", "discrete", "image", "dict"])
def test_predictions_survive(observation: str, action: str, tmp_path: Path, device: str) -> None:
    normalize = observation in ("box", "dict")
    name, env = policy_name(observation), SpacesEnv(observation, action)
    model = PPO(name, env, **SMALL, device=device, normalize_observations=normalize).learn(32)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", device=device)
    np.testing.assert_array_equal(decisions(loaded, observation), decisions(model, observation))
    assert loaded.num_timesteps == 32


def test_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Weights, Adam's state, observation and reward statistics, schedules and random numbers are all in the file."""
    options: dict[str, Any] = {**SMALL, "normalize_observations": True, "normalize_rewards": True, "device": "cpu"}
    model = PPO("MlpPolicy", SpacesEnv(), **options, learning_rate=lambda remaining: 1e-3 * remaining).learn(32)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", env=SpacesEnv(), device="cpu", trust=True)
    assert loaded.reward_scaler.scale == model.reward_scaler.scale
    assert loaded.randomness.numpy.random() == model.randomness.numpy.random()
    assert torch.equal(*(torch.rand(3, generator=m.randomness.torch) for m in (loaded, model)))
    tree_map(lambda target, source: target.__setitem__(..., source), loaded.rollout_buffer.data, model.rollout_buffer.data)
    for one in (model, loaded):
        one._current_progress_remaining = 0.5
        one._setup_learn(16, reset_num_timesteps=False)
        one.train()
    assert torch.equal(loaded.update.vector.weights, model.update.vector.weights)
    assert float(loaded.update.vector.steps) == float(model.update.vector.steps) == 6


def test_an_open_file_will_do(saved: Path) -> None:
    with saved.open("rb") as file:
        from_file = PPO.load(file)
    from_memory = PPO.load(io.BytesIO(saved.read_bytes()))
    np.testing.assert_array_equal(decisions(from_file), decisions(PPO.load(saved)))
    np.testing.assert_array_equal(decisions(from_memory), decisions(from_file))


@pytest.mark.parametrize("name", ["model", "model.zip"])
@pytest.mark.parametrize("kind", [str, Path])
def test_suffix_may_be_left_out(name: str, kind: type, saved: Path) -> None:
    assert read_settings(kind(saved.parent / name))["_agent"] == "PPO"
    PPO.load(kind(saved.parent / name))


@pytest.mark.parametrize(("observation", "action"), [("box", "box"), ("dict", "discrete"), ("image", "multi_discrete")])
def test_reads_what_sb3_wrote(observation: str, action: str, tmp_path: Path) -> None:
    env = SpacesEnv(observation, action)
    reference = stable_baselines3.PPO(policy_name(observation), env, **SMALL, clip_range_vf=0.3).learn(32)
    reference.save(tmp_path / "theirs")
    assert "_agent" not in read_settings(tmp_path / "theirs")
    ours = PPO.load(tmp_path / "theirs", env=env)
    np.testing.assert_allclose(decisions(ours, observation), decisions(reference, observation), atol=1e-5)
    assert ours.num_timesteps == 32
    assert (ours.n_epochs, ours.clip_range_vf(1.0)) == (2, 0.3)
    assert float(ours.update.vector.steps) == 4
    ours.learn(16, reset_num_timesteps=False)
    assert ours.num_timesteps == 48


def test_sb3_reads_our_weights(saved: Path) -> None:
    ours = PPO.load(saved)
    theirs = stable_baselines3.PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "seed": 4})
    theirs.set_parameters(ours.get_parameters())
    np.testing.assert_allclose(decisions(theirs), decisions(ours), atol=1e-5)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no model file .*nothing\.zip"):
        PPO.load(tmp_path / "nothing")


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file(fraction: float, saved: Path) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(IncompatibleModelError, match=r"model\.zip is not a readable model file.*truncated"):
        PPO.load(saved)


def test_a_damaged_file(saved: Path) -> None:
    """The directory at its end is whole, and the weights are not."""
    with zipfile.ZipFile(saved) as archive:
        offset = archive.getinfo("policy.pth").header_offset
    content = bytearray(saved.read_bytes())
    for position in range(offset + 500, offset + 600):
        content[position] ^= 0xFF
    saved.write_bytes(content)
    with pytest.raises(IncompatibleModelError, match="not a readable model file"):
        PPO.load(saved)


@pytest.mark.parametrize("data", [None, "[1, 2]", "no JSON", "{}"])
def test_an_archive_that_is_no_model(data: str | None, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "holiday.zip", "w") as archive:
        archive.writestr("photo.jpg" if data is None else "data", data or "")
    with pytest.raises(IncompatibleModelError, match=r"holiday\.zip"):
        PPO.load(tmp_path / "holiday.zip")


def test_a_text_file(tmp_path: Path) -> None:
    (tmp_path / "model.zip").write_text("not a model")
    with pytest.raises(IncompatibleModelError, match="not a readable model file"):
        PPO.load(tmp_path / "model.zip")


def test_another_agents_file(saved: Path, tmp_path: Path) -> None:
    BARPO("MlpPolicy", SpacesEnv(), **SMALL).save(tmp_path / "barpo")
    with pytest.raises(IncompatibleModelError, match=r"saved by BARPO, not by PPO.*BARPO\.load"):
        PPO.load(tmp_path / "barpo")
    with pytest.raises(IncompatibleModelError, match=r"saved by PPO, not by BARPO.*PPO\.load"):
        BARPO.load(saved)
    assert isinstance(BARPO.load(tmp_path / "barpo"), BARPO)


@pytest.mark.parametrize("kind", [stable_baselines3.A2C, stable_baselines3.DQN])
def test_the_file_of_another_of_sb3s_agents(kind: Any, tmp_path: Path) -> None:
    options = {"buffer_size": 10} if kind is stable_baselines3.DQN else {}
    kind("MlpPolicy", SpacesEnv("box", "discrete"), **options).save(tmp_path / "theirs")
    with pytest.raises(IncompatibleModelError, match=r"theirs"):
        PPO.load(tmp_path / "theirs")


def test_reading_writes_nothing(saved: Path) -> None:
    before = saved.read_bytes()
    saved.with_name("copy.zip").write_bytes(before[:1000])
    PPO.load(saved)
    with pytest.raises(IncompatibleModelError):
        PPO.load(saved.with_name("copy.zip"))
    assert saved.read_bytes() == before
    assert sorted(path.name for path in saved.parent.iterdir()) == ["copy.zip", "model.zip"]


def test_the_file_says_who_wrote_it(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert json.loads(archive.read("data"))["_agent"] == "PPO"

"""What a process has saved itself it reads back as stable-baselines3 does: functions and classes of its own included."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from rlspo import PPO, SAC
from rlspo.common import trust
from rlspo.common.checkpoints import data_of
from rlspo.common.errors import UntrustedFileError


def own_extractor() -> type[BaseFeaturesExtractor]:
    """A class that is pickled with its code, as those of a script are."""

    class Doubled(BaseFeaturesExtractor):
        def __init__(self, space: Any) -> None:
            super().__init__(space, space.shape[0])

        def forward(self, observations: torch.Tensor) -> torch.Tensor:
            return 2 * observations

    return Doubled


def saved(path: Path) -> PPO:
    kwargs = {"features_extractor_class": own_extractor()}
    model = PPO(
        "MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, policy_kwargs=kwargs, learning_rate=lambda left: 0.01 * left
    )
    model.save(path)
    return model


def test_it_acts_and_learns_on_and_so_does_the_file_after_it(tmp_path: Path) -> None:
    model = saved(tmp_path / "first")
    loaded = PPO.load(tmp_path / "first", env="CartPole-v1").learn(16)
    assert loaded.lr_schedule(0.5) == 0.005
    observation = model.observation_space.sample()
    loaded.save(tmp_path / "second")
    again = PPO.load(tmp_path / "second")
    assert again.predict(observation, deterministic=True)[0] == loaded.predict(observation, deterministic=True)[0]
    assert type(again.policy.features_extractor).__name__ == "Doubled"


@pytest.mark.usefixtures("files_of_others")
def test_another_process_does_not(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    with pytest.raises(UntrustedFileError, match="policy_kwargs is more than data"):
        PPO.load(tmp_path / "model")


def test_a_pickle_of_others_in_an_own_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that was put into the file, nor one that was in it when it was saved on."""
    SAC("MlpPolicy", "Pendulum-v1", learning_rate=lambda left: 1e-3, buffer_size=10).save(tmp_path / "theirs")
    monkeypatch.setattr(trust, "_own", set())  # another process from here on
    saved(tmp_path / "mine")
    foreign = data_of(tmp_path / "theirs.zip")["learning_rate"]
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != "checksums.json"}
    members["data"] = json.dumps({**json.loads(members["data"]), "learning_rate": foreign}).encode()
    with zipfile.ZipFile(tmp_path / "changed.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(UntrustedFileError, match="learning_rate"):
        PPO.load(tmp_path / "changed", env="CartPole-v1").learn(16)
    SAC.load(tmp_path / "theirs").save(tmp_path / "saved_on")
    with pytest.raises(UntrustedFileError, match="learning_rate"):
        SAC.load(tmp_path / "saved_on", env="Pendulum-v1").learn(200)

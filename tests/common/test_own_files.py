"""What a process has saved itself it reads back as stable-baselines3 does: functions and classes of its own included."""

import base64
import contextlib
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from rlspo import PPO
from rlspo.common import trust
from rlspo.common.errors import IncompatibleModelError, UntrustedFileError

PICKLED = ":serialized:"


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


class Touch:
    """A pickle that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def changed(path: Path, **entries: Any) -> None:
    """Write entries into the settings of a model file, as somebody may who sends it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != "checksums.json"}
    members["data"] = json.dumps({**json.loads(members["data"]), **entries}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def text(value: Any) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


def hidden(attack: str, harm: Touch) -> dict[str, Any]:
    """Entries in which a pickle would be written by the next ``save`` as if the agent had it."""
    inside = {PICKLED: text(harm)}
    if attack == "a dictionary":
        return {"extra": {PICKLED: text(inside)}}
    if attack == "a setting's name":
        return {PICKLED: inside}
    if attack == "why a setting is left out":
        return {"_withheld": inside, "_pickled": inside}
    if attack == "plain":
        return {"extra": inside}
    space = spaces.Discrete(2)
    vars(space)[PICKLED] = text(harm)
    return {"action_space": {PICKLED: text(space)}}


@pytest.mark.parametrize("attack", ["a dictionary", "a setting's name", "why a setting is left out", "an attribute", "plain"])
@pytest.mark.parametrize("made_here", [True, False])
def test_what_came_from_others_is_not_run_after_it_was_saved_here(attack: str, made_here: bool, tmp_path: Path) -> None:
    path, mark = tmp_path / "model.zip", tmp_path / "mark"
    model = PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16)
    model.save(path)
    entries = hidden(attack, Touch(mark))
    if made_here:  # as where settings of others are read and an agent is made with them
        for name, value in entries.items():
            setattr(model, name, {**value} if name != "action_space" else model.action_space)
        model.action_space = spaces.Discrete(2)
        if attack == "an attribute":
            vars(model.action_space)[PICKLED] = text(Touch(mark))
    else:
        changed(path, **entries)
        try:
            model = PPO.load(path, env="CartPole-v1")
        except UntrustedFileError:
            return
    model.save(path)
    with contextlib.suppress(UntrustedFileError, IncompatibleModelError):
        PPO.load(path)
    assert not mark.exists()


def test_a_file_that_was_changed_is_nobodys(tmp_path: Path) -> None:
    saved(tmp_path / "model.zip")
    changed(tmp_path / "model.zip", extra={PICKLED: text(Touch(tmp_path / "mark"))})
    with pytest.raises(UntrustedFileError):
        PPO.load(tmp_path / "model")
    assert not (tmp_path / "mark").exists()


def test_an_agent_of_others_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "theirs")
    monkeypatch.setattr(trust, "_own", set())  # another process from here on
    given = {"policy_kwargs": {"features_extractor_class": own_extractor()}}
    PPO.load(tmp_path / "theirs", custom_objects=given).save(tmp_path / "again")
    with pytest.raises(UntrustedFileError, match="policy_kwargs is more than data"):
        PPO.load(tmp_path / "again")
    PPO.load(tmp_path / "theirs", trust=True).save(tmp_path / "trusted")
    PPO.load(tmp_path / "trusted")


def test_open_files(tmp_path: Path) -> None:
    file = io.BytesIO()
    saved(tmp_path / "model").save(file)
    file.seek(0)
    assert PPO.load(file, env="CartPole-v1").learn(16)._n_updates == 10

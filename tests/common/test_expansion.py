"""Files that are small and hold endless values, and files whose texts would write to a terminal as they like."""

import base64
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3

from rlspo import PPO, SAC
from rlspo.common import safe_pickle
from rlspo.common.agent import load_model
from rlspo.common.errors import IncompatibleModelError, UntrustedFileError, check_layers, check_number

#: A tuple of itself twice, and so on: 2^40 leaves in 120 bytes.
DOUBLED = b"\x80\x02N" + b"2\x86" * 40
BOMBS = {
    "tuples": DOUBLED + b".",
    "lists": b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(40)) + b".",
    "in a mapping": b"\x80\x02}K\x01" + DOUBLED[2:] + b"s.",
    "as an argument": b"\x80\x02ctorch\nSize\n" + DOUBLED[2:] + b"\x85R.",
    "as the name of a type": b"\x80\x02cnumpy\ndtype\n" + DOUBLED[2:] + b"\x85R.",
    "of itself": b"\x80\x02]q\x00h\x00a.",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=list(BOMBS))
def test_endless_values_are_rejected(bomb):
    with pytest.raises(pickle.UnpicklingError, match="more time or memory than any real one"):
        safe_pickle.loads(bomb)


def test_what_is_held_often_is_no_bomb():
    part = {"a": 1.0, "b": (1, 2)}
    assert safe_pickle.loads(pickle.dumps([part] * 10_000)) == [part] * 10_000


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Agents in files."""
    folder = tmp_path_factory.mktemp("saved")
    PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, compile=False).save(folder / "ppo.zip")
    SAC("MlpPolicy", "Pendulum-v1", buffer_size=10, compile=False).save(folder / "sac.zip")
    stable_baselines3.PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16).save(folder / "sb3.zip")
    return folder


def edited(file: Path, into: Path, **changes: Any) -> Path:
    """A copy of a model file with other settings; bytes are pickles."""
    new = into / file.name
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(new, "w") as archive:
        for name in old.namelist():
            data = old.read(name)
            if name == "data":
                settings = json.loads(data)
                for key, value in changes.items():
                    pickled = isinstance(value, bytes) and {":type:": "x", ":serialized:": base64.b64encode(value).decode()}
                    settings[key] = pickled or value
                data = json.dumps(settings).encode()
            if name != "checksums.json":
                archive.writestr(name, data)
    return new


AGENTS = pytest.mark.parametrize(("name", "cls"), [("ppo", PPO), ("sac", SAC), ("sb3", stable_baselines3.PPO)])


@AGENTS
def test_agents_whose_files_hold_bombs(name, cls, saved, tmp_path):
    with pytest.raises(UntrustedFileError, match="policy_class cannot be read"):
        load_model(cls, edited(saved / f"{name}.zip", tmp_path, policy_class=BOMBS["tuples"]))
    key = "learning_rate" if name == "sac" else "clip_range"
    model = load_model(cls, edited(saved / f"{name}.zip", tmp_path, **{key: BOMBS["tuples"]}), env=None)
    assert key in model._withheld


@AGENTS
@pytest.mark.parametrize("pickled", [False, True])
def test_networks_that_are_built_for_minutes(name, cls, pickled, saved, tmp_path):
    arguments: Any = {"net_arch": [64] * 10_000}
    bad = edited(saved / f"{name}.zip", tmp_path, policy_kwargs=pickle.dumps(arguments) if pickled else arguments)
    with pytest.raises(UntrustedFileError, match="policy_kwargs hold more than 2,000 things"):
        load_model(cls, bad)


def test_messages_are_short_and_printable(saved, tmp_path):
    for check in (check_number, check_layers):
        with pytest.raises(TypeError) as error:
            check("clip_range", {"a": [[0] * 10_000] * 10_000})  # type: ignore[operator]
        assert len(str(error.value)) < 3000
    with pytest.raises(IncompatibleModelError) as refused:
        PPO.load(edited(saved / "ppo.zip", tmp_path, _agent="\x1b[31mX\x1b]0;owned\x07"))
    assert str(refused.value).isprintable() and "was saved by '\\x1b[31mX" in str(refused.value)
    with pytest.raises(UntrustedFileError) as refused:
        PPO.load(edited(saved / "ppo.zip", tmp_path, policy_class=b"\x80\x02cos\n\x1b[31mX\n."))
    assert str(refused.value).isprintable()

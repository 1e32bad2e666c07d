"""The folder of an exported agent: whole or not there, never over something else, and every change is noticed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import rlspo
from rlspo.common.errors import IncompatibleModelError
from rlspo.common.exports import agents
from rlspo.common.exports.lookup import VARIABLE, find_export, trained_agents


@pytest.fixture(scope="module")
def model() -> Any:
    return rlspo.PPO("MlpPolicy", "CartPole-v1", n_steps=32, seed=0, device="cpu")


def test_an_export_replaces_another_one_and_what_belongs_to_it(model: Any, tmp_path: Path) -> None:
    folder = model.export(tmp_path / "new" / "agent")
    assert sorted(os.listdir(folder)) == ["agent.json", "weights.safetensors"]
    (folder / "evaluation.json").write_text("{}")
    before = (folder / "agent.json").read_text()
    model.export(folder, gamma=0.5)
    assert sorted(os.listdir(folder)) == ["agent.json", "weights.safetensors"]
    assert (folder / "agent.json").read_text() != before
    assert os.listdir(folder.parent) == ["agent"]


def test_exporting_twice_gives_the_same_bytes(model: Any, tmp_path: Path) -> None:
    one, other = model.export(tmp_path / "one"), model.export(tmp_path / "other")
    for name in ("agent.json", "weights.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.parametrize("name", ["thesis.tex", "agent.json"])
def test_nothing_else_is_overwritten(name: str, model: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match="not overwritten"):
        model.export(tmp_path)
    with pytest.raises(FileExistsError, match="is a file"):
        model.export(tmp_path / name)
    assert (tmp_path / name).read_text() == "mine" and os.listdir(tmp_path) == [name]


def test_an_interrupted_export_leaves_the_earlier_one(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model.export(tmp_path / "agent")
    before = (folder / "weights.safetensors").read_bytes()

    def interrupted(partial: Path, *rest: Any) -> None:
        (partial / "weights.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(agents, "write_folder", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.export(folder)
    assert (folder / "weights.safetensors").read_bytes() == before
    assert os.listdir(tmp_path) == ["agent"]
    with pytest.raises(KeyboardInterrupt):
        model.export(tmp_path / "other")
    assert os.listdir(tmp_path) == ["agent"]


def test_a_failing_rename_leaves_the_earlier_one(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model.export(tmp_path / "agent")
    replace = os.replace

    def fails(source: Any, target: Any) -> None:
        if "old" not in str(source) and "old" not in str(target):
            raise OSError("no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no"):
        model.export(folder)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["agent"]
    rlspo.load(folder)


def change(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_changed_files_are_noticed(model: Any, tmp_path: Path) -> None:
    folder = model.export(tmp_path / "agent")
    change(folder / "agent.json", '"gamma": 0.99', '"gamma": 0.98')
    with pytest.raises(IncompatibleModelError, match=r"agent\.json is not what was exported"):
        rlspo.load(folder)
    folder = model.export(tmp_path / "agent")
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(content)
    with pytest.raises(IncompatibleModelError, match=r"weights\.safetensors is not what was exported"):
        rlspo.load(folder)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="not the folder of an exported agent"):
        rlspo.load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("[1]", "does not begin with the format"),
        ('{"format": "rlspo agent", "version": 1, "gamma": NaN}', "NaN is no JSON"),
        ("[" * 100_000, "cannot be read"),
        ('{"format": "rlspo agent", "version": 2}', "version 2.*Install a newer rlspo"),
        ('{"format": "rlspo agent", "version": 1}', "not what was exported"),
        ('{"format": "rlspo agent", "version": 1, "sha256": 5}', "not what was exported"),
    ],
)
def test_other_json(text: str, message: str, model: Any, tmp_path: Path) -> None:
    folder = model.export(tmp_path / "agent")
    (folder / "agent.json").write_text(text)
    with pytest.raises(IncompatibleModelError, match=message):
        rlspo.load(folder)


def test_layout_does_not_count(model: Any, tmp_path: Path) -> None:
    folder = model.export(tmp_path / "agent")
    data = json.loads((folder / "agent.json").read_text())
    (folder / "agent.json").write_text(json.dumps(data, sort_keys=True))
    rlspo.load(folder)


# Names.


def test_a_users_own_agents_come_first(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = model.export(tmp_path / "first" / "ppo" / "CartPole-v1")
    atari = model.export(tmp_path / "second" / "ppo" / "ALE-Pong-v5")
    model.export(tmp_path / "second" / "ppo" / "CartPole-v1")
    monkeypatch.setenv(VARIABLE, os.pathsep.join(map(str, (tmp_path / "first", tmp_path / "no", tmp_path / "second"))))
    assert find_export("ppo/CartPole-v1") == mine == trained_agents()["ppo/CartPole-v1"]
    assert find_export("ppo/ALE/Pong-v5") == atari
    assert isinstance(rlspo.load("ppo/ALE/Pong-v5"), rlspo.PPO)
    with pytest.raises(FileNotFoundError, match=r"Did you mean 'ppo/ALE-Pong-v5'.*Trained agents: "):
        rlspo.load("ppo/ALE/Pnog-v5")


def test_a_folder_comes_before_a_name(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model.export(tmp_path / "named" / "ppo" / "CartPole-v1")
    model.export(tmp_path / "here" / "ppo" / "CartPole-v1")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
    monkeypatch.chdir(tmp_path / "here")
    assert find_export("ppo/CartPole-v1").resolve() == tmp_path / "here" / "ppo" / "CartPole-v1"

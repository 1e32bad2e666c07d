"""The folder of an exported agent: whole or not there, never over something else, and every change is noticed."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

import rlspo
from rlspo.common.errors import IncompatibleModelError
from rlspo.common.exports import agents
from rlspo.common.exports.agents import _described
from rlspo.common.exports.folder import check_place, write_folder
from rlspo.common.exports.lookup import VARIABLE, find_export, trained_agents


@pytest.fixture(scope="module")
def model() -> Any:
    return rlspo.PPO("MlpPolicy", "CartPole-v1", n_steps=32, seed=0, device="cpu")


def test_an_export_replaces_another_one_and_its_onnx(model: Any, tmp_path: Path) -> None:
    folder = model.export(tmp_path / "new" / "agent")
    assert sorted(os.listdir(folder)) == ["agent.json", "weights.safetensors"]
    (folder / "policy.onnx").write_text("")
    before = (folder / "agent.json").read_text()
    model.export(folder, gamma=0.5)
    assert sorted(os.listdir(folder)) == ["agent.json", "weights.safetensors"]
    assert (folder / "agent.json").read_text() != before
    assert os.listdir(folder.parent) == ["agent"]


def test_an_evaluation_beside_it_is_not_lost(model: Any, tmp_path: Path) -> None:
    folder = model.export(tmp_path / "agent")
    (folder / "evaluation.json").write_text("{}")
    with pytest.raises(FileExistsError, match="with its evaluation, which would be lost"):
        model.export(folder)
    check_place(folder, entry=True)
    (folder / "curve.csv").mkdir()  # a user's own, of a name that is known
    with pytest.raises(FileExistsError, match=r"holds curve\.csv: it is not an exported agent"):
        check_place(folder, entry=True)


def test_what_a_killed_export_leaves_is_no_agent(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLSPO_AGENTS", str(tmp_path))
    model.export(tmp_path / "mine" / "Cart-v0")
    model.export(tmp_path / "mine" / "partial_77_Cart-v0")
    assert [name for name in trained_agents() if name.startswith("mine/")] == ["mine/Cart-v0"]


@pytest.mark.parametrize("said", [{"env_id": "a"}, {"id": "CartPole-v1", "env_kwargs": None}, {"id": "a", "more": 1}])
def test_an_environment_of_another_form(said: dict[str, Any], model: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="environment has no proper"):
        model.export(tmp_path / "agent", environment=said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["environment", "provenance"])
def test_what_is_said_must_be_a_mapping(name: str, model: Any, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"{name} is 'CartPole-v1'; it must be a mapping"):
        model.export(tmp_path / "agent", **{name: "CartPole-v1"})


@pytest.mark.parametrize("part", ["agent", "normalize", "settings", "environment"])
def test_parts_that_are_missing_or_something_else(part: str, model: Any, tmp_path: Path) -> None:
    data, tensors = _described(model, {})
    for number, changed in enumerate(({**data, part: 5}, {key: value for key, value in data.items() if key != part})):
        (tmp_path / str(number)).mkdir()
        write_folder(tmp_path / str(number), changed, tensors)
        with pytest.raises(IncompatibleModelError, match=f"has no proper '{part}'"):
            rlspo.load(tmp_path / str(number), verbose=1)


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

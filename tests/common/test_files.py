"""Saving replaces a file in one step: whatever happens meanwhile, the old one or the new one is there, whole."""

import io
import json
import os
import signal
import stat
import zipfile

import pytest
import stable_baselines3
import torch

from rlspo import PPO, SAC
from rlspo.common.checkpoints import read_settings
from rlspo.common.errors import IncompatibleModelError
from rlspo.common.files import is_partial, place_for, whole
from tests.spaces import SpacesEnv

SMALL = {"n_steps": 16, "batch_size": 16, "seed": 0}


def ppo(seed=0):
    return PPO("MlpPolicy", SpacesEnv(), **{**SMALL, "seed": seed}, device="cpu")


def sac():
    return SAC("MlpPolicy", SpacesEnv(), buffer_size=20, learning_starts=5, device="cpu").learn(4)


def save_model(file):
    ppo().save(file)


def save_buffer(file):
    sac().save_replay_buffer(file)


@pytest.mark.parametrize(("save", "name"), [(save_model, "model.zip"), (save_buffer, "buffer.pkl")])
def test_a_save_that_is_killed_leaves_the_old_file(save, name, tmp_path):
    file = tmp_path / name
    save(file)
    before = file.read_bytes()
    pid = os.fork()
    if pid == 0:
        os.replace = lambda source, target: os.kill(os.getpid(), signal.SIGKILL)
        try:
            save(file)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert file.read_bytes() == before
    (left,) = (each for each in tmp_path.iterdir() if each != file)
    assert is_partial(left)


@pytest.mark.parametrize(("save", "name"), [(save_model, "model.zip"), (save_buffer, "buffer.pkl")])
def test_a_disk_that_is_full_costs_nothing_that_was_there(save, name, tmp_path, monkeypatch):
    file = tmp_path / name
    save(file)
    before = file.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(file)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [(name, before)]


def test_the_content_is_on_the_disk_before_it_has_its_name_and_the_name_after(tmp_path, monkeypatch):
    said = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (said.append(stat.S_ISDIR(os.fstat(number).st_mode)), sync(number)))
    monkeypatch.setattr(os, "replace", lambda *names: (said.append("replace"), replace(*names)))
    save_model(tmp_path / "model")
    assert said == [False, "replace", True]
    said.clear()
    with whole(tmp_path / "status.json", durable=False) as partial:
        partial.write_text("{}")
    assert said == ["replace"]


def test_names_are_those_of_sb3(tmp_path):
    ours, theirs = ppo(), stable_baselines3.PPO("MlpPolicy", SpacesEnv(), **SMALL)
    (tmp_path / "folder.zip").mkdir()
    for model, top in ((ours, tmp_path / "ours"), (theirs, tmp_path / "theirs")):
        top.mkdir()
        (top / "taken").mkdir()
        (top / "whole.zip").mkdir()
        for name in ("model", "dotted.name", "taken", "whole"):
            if name == "whole":
                with pytest.warns(UserWarning, match="is a folder"):
                    model.save(top / name)
            else:
                model.save(str(top / name))
        with pytest.warns(UserWarning, match="does not exist"):
            model.save(top / "new" / "deep" / "model")
    names = [sorted(str(file.relative_to(top)) for file in top.rglob("*")) for top in (tmp_path / "ours", tmp_path / "theirs")]
    assert names[0] == names[1]


def test_links_and_permissions_stay(tmp_path):
    real, link = tmp_path / "real.zip", tmp_path / "link.zip"
    save_model(real)
    real.chmod(0o640)
    link.symlink_to(real)
    ppo(seed=1).save(link)
    assert link.is_symlink() and stat.S_IMODE(real.stat().st_mode) == 0o640
    assert PPO.load(real).seed == 1
    assert place_for(str(link), "zip") == link


def test_open_files_are_written_to_as_sb3_does(tmp_path):
    memory = io.BytesIO()
    ppo().save(memory)
    memory.seek(0)
    assert PPO.load(memory).seed == 0
    with (tmp_path / "buffer.pkl").open("wb") as file:
        sac().save_replay_buffer(file)
    sac().load_replay_buffer(tmp_path / "buffer.pkl")


def rewritten(file, changes):
    """The same archive with other members; None takes one away."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {**members, **changes}.items():
            if content is not None:
                archive.writestr(name, content)


def test_another_models_weights_in_a_file_are_noticed(tmp_path):
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    ppo(seed=0).save(first)
    ppo(seed=1).save(second)
    with zipfile.ZipFile(second) as archive:
        other = archive.read("policy.pth")
    rewritten(first, {"policy.pth": other})
    with pytest.raises(IncompatibleModelError, match=r"first\.zip.*policy\.pth is not the one that was saved"):
        PPO.load(first)
    rewritten(first, {"checksums.json": None})  # on purpose
    assert torch.equal(PPO.load(first).policy.log_std, PPO.load(second).policy.log_std)


def test_a_member_that_is_missing_is_named(tmp_path):
    save_model(tmp_path / "model.zip")
    rewritten(tmp_path / "model.zip", {"policy.optimizer.pth": None})
    with pytest.raises(IncompatibleModelError, match=r"policy\.optimizer\.pth is missing"):
        PPO.load(tmp_path / "model.zip")


def test_sb3_reads_a_sealed_file(tmp_path):
    save_model(tmp_path / "model.zip")
    assert json.loads(zipfile.ZipFile(tmp_path / "model.zip").read("checksums.json")).keys() >= {"data", "policy.pth"}
    assert read_settings(tmp_path / "model.zip")["_agent"] == "PPO"
    theirs = stable_baselines3.PPO("MlpPolicy", SpacesEnv(), **SMALL)
    theirs.set_parameters(ppo().get_parameters())

"""The run folder: numbered without a race, complete, and gone if the run never began."""

import itertools
import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlspo.zoo.config.schema import RunConfig, Seeds, Settings, Source
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs import folder
from rlspo.zoo.runs.folder import RunFolder, code_state, command_line, environment_record
from rlspo.zoo.runs.models import latest_run


def config() -> RunConfig:
    return RunConfig(
        algo="ppo",
        env="CartPole-v1",
        seeds=Seeds.from_one(3),
        source=Source(file="mine.yml", block="default"),
        settings=Settings(n_timesteps=10, policy="MlpPolicy", env_wrapper=[{"a.B": {"c": 1}}], normalize={"gamma": 0.9}),
        agent={"learning_rate": "lin_0.001", "policy_kwargs": {"net_arch": [4]}},
    )


def test_folders_count_up(workplace):
    made = [RunFolder.create(workplace / "logs", "ppo", "ALE/Pong-v5").path for _ in range(3)]
    assert [path.relative_to(workplace).as_posix() for path in made] == [f"logs/ppo/ALE-Pong-v5_{n}" for n in (1, 2, 3)]
    (workplace / "logs/ppo/ALE-Pong-v5_backup").mkdir()
    assert RunFolder.create(workplace / "logs", "ppo", "ALE/Pong-v5").path.name == "ALE-Pong-v5_4"


def test_unique_names_count_too(workplace):
    made = [RunFolder.create(workplace, "ppo", "CartPole-v1", unique=unique).path.name for unique in (True, True, False)]
    assert [name[:14] for name in made] == ["CartPole-v1_1_", "CartPole-v1_2_", "CartPole-v1_3"]
    assert len(made[0]) == len("CartPole-v1_1_") + 36
    assert latest_run(workplace, "ppo", "CartPole-v1", 0).name == made[2]
    assert latest_run(workplace, "ppo", "CartPole-v1", 2).name == made[1]


def test_runs_that_start_together_get_folders_of_their_own(workplace):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: RunFolder.create(workplace, "ppo", "CartPole-v1").path, range(40)))
    assert len(set(made)) == 40


def test_discarding_removes_only_what_was_made(workplace):
    kept = RunFolder.create(workplace / "logs", "ppo", "CartPole-v1")
    RunFolder.create(workplace / "logs", "arpo", "CartPole-v1").discard()
    assert kept.path.is_dir()
    assert not (workplace / "logs" / "arpo").exists()
    kept.discard()
    RunFolder.create(workplace / "new", "arpo", "CartPole-v1").discard()
    assert not (workplace / "new").exists()


def test_folder_that_cannot_be_made_is_explained(workplace):
    (workplace / "logs").write_text("a file")
    with pytest.raises(UserError, match="--log-folder: cannot make a folder in logs"):
        RunFolder.create((workplace / "logs").relative_to(workplace), "ppo", "CartPole-v1")


def test_record_can_be_read_again(workplace):
    folder = RunFolder.create(workplace, "ppo", "CartPole-v1")
    folder.record(config(), {"algo": "ppo"}, "rlspo train")
    assert RunConfig.read(folder.config) == config()
    assert (folder.path / "command.txt").read_text() == "rlspo train\n"
    versions = json.loads((folder.path / "versions.json").read_text())
    assert {"rlspo", "stable-baselines3", "gymnasium", "torch", "numpy"} <= {k for k, v in versions["packages"].items() if v}
    folder.config.write_text("algo: ppo\n")
    with pytest.raises(UserError, match=r"config\.yml is not the record of a run"):
        RunConfig.read(folder.config)


def test_seeds_of_one_run_are_apart():
    seeds = Seeds.from_one(5)
    assert len({seeds.seed, seeds.evaluation, seeds.report}) == 3
    assert seeds == Seeds.from_one(5)


def test_evaluations_of_neighbouring_runs_share_no_environments():
    """Else their episodes would be the same but for one, and intervals over seeds far too narrow."""
    runs = [Seeds.from_one(seed) for seed in (*range(100), *range(10_000, 10_050), 2**31 - 1)]
    drawn = sorted(first for run in runs for first in (run.evaluation, run.report))
    assert min(after - before for before, after in itertools.pairwise(drawn)) > 100
    assert drawn[-1] < 2**31


def test_command_is_quoted_for_a_shell(monkeypatch):
    arguments = ["--env", "My Env-v0", "-params", "policy_kwargs:{net_arch: [8, 8]}"]
    assert shlex.split(command_line(arguments)) == ["python", "-m", "rlspo.zoo.train", *arguments]
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "/bin/rlspo", "train", *arguments])
    assert shlex.split(command_line(arguments)) == ["/usr/bin/python3", "/bin/rlspo", "train", *arguments]


def git(place: Path, *words: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", *identity, *words], cwd=place, check=True, capture_output=True)


def test_commit_and_changes_of_the_working_directory(workplace):
    assert environment_record()["git"]["working directory"] is None
    git(workplace, "init")
    (workplace / "a.txt").write_text("a")
    git(workplace, "add", "a.txt")
    git(workplace, "commit", "-m", "a")
    state = environment_record()["git"]["working directory"]
    assert len(state["commit"]) == 40 and state["dirty"] is False
    (workplace / "a.txt").write_text("b")
    assert environment_record()["git"]["working directory"]["dirty"] is True


def test_results_are_no_change_of_the_code(workplace, monkeypatch):
    code, result = workplace / "rlspo" / "__init__.py", workplace / "zoo" / "results.csv"
    for file in (code, result):
        file.parent.mkdir()
        file.write_text("a")
    git(workplace, "init")
    git(workplace, "add", ".")
    git(workplace, "commit", "-m", "a")
    monkeypatch.setattr("rlspo.__file__", str(code))
    monkeypatch.setattr(folder, "_code", folder._code.__wrapped__)  # uncached
    for file, dirty in ((result, False), (code, True)):
        file.write_text("b")
        assert environment_record()["git"]["rlspo"]["dirty"] is dirty
        assert code_state().endswith("-dirty") is dirty


def test_a_named_folder_is_one_runs_only(workplace):
    def make(_):
        try:
            return RunFolder.at(workplace / "runs" / "mine")
        except UserError as error:
            assert "is not empty" in str(error)

    with ThreadPoolExecutor(8) as pool:
        made = [folder for folder in pool.map(make, range(20)) if folder is not None]
    assert len(made) == 1


def test_an_empty_folder_of_the_users_stays(workplace):
    (workplace / "mine").mkdir()
    folder = RunFolder.at(workplace / "mine")
    (folder.path / "checkpoints").mkdir()
    folder.discard()
    assert [*(workplace / "mine").iterdir()] == []

"""Text in files runs nothing: what a file may name, and what is refused before it is imported."""

import base64
import json
import os
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import stable_baselines3
import yaml
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from rlspo.common.registry import agent_class
from rlspo.zoo.benchmark import command as benchmark_command
from rlspo.zoo.benchmark import worker
from rlspo.zoo.benchmark.grid_runs import GridRunFolder
from rlspo.zoo.benchmark.worker import Job
from rlspo.zoo.config import ownership
from rlspo.zoo.config.allowed import Allowed, check_agent, check_env, check_packages, check_settings
from rlspo.zoo.config.convert import imported
from rlspo.zoo.envs.recipe import layers, register
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate import command as evaluate
from rlspo.zoo.plot import command as plot_command
from rlspo.zoo.train import command as train
from rlspo.zoo.train.arguments import parse
from rlspo.zoo.tune import command as tune_command

TINY: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1}
EVIL = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\nclass Thing: pass\ndef make(env): return env\n"
SHELL = ["touch", "ran"]
#: The function that imports accepts more names than Python's syntax.
ODD_NAMES = ("evil-mod", "0evil", "a b", "\u00e9vil")
EVIL_NAMES = ("evil_module", *ODD_NAMES)


@pytest.fixture(autouse=True)
def evil(workplace, monkeypatch):
    """Modules that leave a trace when they are imported; no test may."""
    for name in EVIL_NAMES:
        (workplace / f"{name}.py").write_text(EVIL)
    monkeypatch.syspath_prepend(str(workplace))
    yield
    for name in EVIL_NAMES:
        sys.modules.pop(name, None)
    assert not (workplace / "ran").exists()


def error_of(main, capsys, *words: str) -> str:
    """The error of a command that refuses, in one line."""
    assert main(list(words)) == 2
    error = capsys.readouterr().err.strip()
    assert "Traceback" not in error
    return error


#: Blocks of settings that would run something, and a part of the message.
HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"env_wrapper": "evil_module.Thing"}, "would import 'evil_module' and call 'evil_module.Thing'"),
    ({"env_wrapper": "evil_module.make"}, "'evil_module.make'"),
    ({"env_wrapper": [{"timeit.timeit": {"stmt": "open('ran', 'w')"}}]}, "timeit.timeit"),
    ({"env_wrapper": {"subprocess.Popen": {"args": SHELL}}}, "subprocess.Popen"),
    ({"vec_env_wrapper": "os.system"}, "os.system"),
    ({"vec_env_wrapper": [{"builtins.exec": {}}]}, "builtins.exec"),
    ({"callback": {"subprocess.Popen": {"args": SHELL}}}, "subprocess.Popen"),
    ({"callback": {"stable_baselines3.common.logger.HumanOutputFormat": {"filename_or_file": "ran"}}}, "not a BaseCallback"),
    ({"callback": {"stable_baselines3.common.callbacks.CheckpointCallback": {"save_freq": 1, "save_path": "."}}}, "save_path"),
    ({"env_wrapper": {"stable_baselines3.common.monitor.Monitor": {"filename": "ran"}}}, "filename: ran would be written"),
    ({"env_wrapper": {"gymnasium.wrappers.RecordVideo": {"video_folder": "ran"}}}, "video_folder"),
    ({"monitor_kwargs": {"filename": "ran"}}, "filename"),
    ({"env_wrapper": "gymnasium.wrappers.common.gym.make"}, "gymnasium.wrappers.common.gym"),
    ({"env_wrapper": "rlspo.zoo.train.command.main"}, "rlspo.zoo.train"),
    ({"policy": "evil_module.Thing"}, "evil_module"),
    ({"policy_kwargs": {"features_extractor_class": "evil_module.Thing"}}, "evil_module"),
    ({"policy_kwargs": {"optimizer_class": "subprocess.Popen"}}, "subprocess.Popen"),
    ({"policy_kwargs": "dict(features_extractor_class='evil_module.Thing')"}, "evil_module"),
    ({"rollout_buffer_class": "evil_module.Thing"}, "evil_module"),
    ({"env_kwargs": {"task": "evil_module:Env-v0"}}, "would import 'evil_module'"),
    *[({"env_wrapper": f"{name}.make"}, f"would import '{name}'") for name in ODD_NAMES],
    ({"env_kwargs": {"task": "evil-mod:Env-v0"}}, "would import 'evil-mod'"),
    ({"vec_env_wrapper": [{"evil-mod.make": {}}]}, "evil-mod"),
    ({"callback": "evil-mod.make"}, "evil-mod"),
    ({"policy": "a b.Thing"}, "a b"),
    ({"policy_kwargs": "dict(features_extractor_class='evil-mod.Thing')"}, "evil-mod"),
    ({"rollout_buffer_class": "0evil.Thing"}, "0evil"),
]


@pytest.mark.parametrize(("block", "says"), HOSTILE, ids=lambda value: str(value)[:50])
def test_a_file_of_hyperparameters_names_nothing_else(block, says, capsys):
    whole = {"policy": "MlpPolicy", "n_timesteps": 16, **TINY, **block}
    Path("own.yml").write_text(yaml.safe_dump({"CartPole-v1": whole}))
    words = ["--algo", "ppo", "--env", "CartPole-v1", "--conf-file", "own.yml"]
    assert says in error_of(train.main, capsys, *words)
    grid = {"agents": {"ppo": {"params": block}}, "envs": ["CartPole-v1"], "n_timesteps": 16}
    Path("grid.yml").write_text(yaml.safe_dump(grid))
    assert says in error_of(benchmark_command.main, capsys, "grid.yml", "--dry-run")
    assert not Path("logs").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"agents": {"x": {"algo": "evil_module.Thing"}}}, "for the agent 'evil_module.Thing'"),
        ({"agents": {"evil_module.Thing": {}}}, "for the agent 'evil_module.Thing'"),
        ({"agents": {"ppo": {"params": {"--trust=*": 1}}}}, "begins like a flag"),
        ({"agents": {"ppo": {"conf_file": "--trust=*"}}}, "begins like a flag"),
        ({"envs": {"CartPole-v1": {"gym_packages": ["evil_module"]}}}, "would import 'evil_module'"),
        ({"envs": {"CartPole-v1": {"gym_packages": ["--trust=*"]}}}, "begins like a flag"),
        ({"envs": {"x": {"id": "evil_module:Env-v0"}}}, "would import 'evil_module'"),
        ({"envs": ["evil_module:Env-v0"]}, "would import 'evil_module'"),
        ({"envs": {"x": {"id": "evil-mod:CartPole-v1"}}}, "would import 'evil-mod'"),
        ({"agents": {"x": {"algo": "evil-mod.Thing"}}}, "for the agent 'evil-mod.Thing'"),
        ({"envs": {"CartPole-v1": {"params": {"callback": "evil_module.Thing"}}}}, "evil_module.Thing"),
        ({"evaluations": {"natural": {"env_kwargs": {"task": "evil_module:Env-v0"}}}}, "would import 'evil_module'"),
    ],
    ids=str,
)
def test_a_grid_names_nothing_else(changes, says, capsys):
    grid = {"agents": ["ppo"], "envs": ["CartPole-v1"], "n_timesteps": 16, **changes}
    grid["agents"] = {"ppo": {"params": TINY}} if grid["agents"] == ["ppo"] else grid["agents"]
    Path("grid.yml").write_text(yaml.safe_dump(grid))
    for flag in ("--dry-run", "--report", "--redo"):
        assert says in error_of(benchmark_command.main, capsys, "grid.yml", flag)


@pytest.mark.parametrize(
    ("study", "says"),
    [
        ({"algo": "evil_module.Thing"}, "evil_module"),
        ({"env": "evil_module:Env-v0"}, "evil_module"),
        ({"gym_packages": ["evil_module"]}, "evil_module"),
        ({"gym_packages": ["--trust=*"]}, "begins like a flag"),
        ({"trust": ["*"]}, "there is no key 'trust'"),
        ({"env": ["evil_module:Env-v0"]}, "evil_module"),
        ({"hyperparams": ["env_wrapper:evil_module.Thing"]}, "must be a mapping"),
        ({"hyperparams": "env_wrapper:evil_module.Thing"}, "must be a mapping"),
        ({"hyperparams": {"env_wrapper": "evil_module.Thing"}}, "evil_module.Thing"),
        ({"env_kwargs": {"--storage": "x"}}, "begins like a flag"),
    ],
    ids=str,
)
def test_a_queue_of_studies_names_nothing_else(study, says, capsys):
    Path("queue.yml").write_text(yaml.safe_dump({"studies": {"one": {"algo": "ppo", "env": "CartPole-v1", **study}}}))
    assert says in error_of(tune_command.main, capsys, "--queue", "queue.yml", "--dry-run")


def test_a_search_space_names_nothing_else(capsys):
    choices = {"policy_kwargs": {"features_extractor_class": {"choices": ["evil_module.Thing", "subprocess.Popen"]}}}
    Path("own.space.yml").write_text(yaml.safe_dump({"default": choices}))
    words = ["--algo", "ppo", "--env", "CartPole-v1", "--space", "own.space.yml", "--n-trials", "1"]
    assert "evil_module.Thing" in error_of(tune_command.main, capsys, *words)


# Run folders that somebody else made.


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run folder, made once."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["--algo", "ppo", "--env", "CartPole-v1", "-n", "16", "--eval-freq", "-1", "--no-report", "--verbose", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train.main([*words, "-params", "n_steps:16", "batch_size:16", "n_epochs:1", "normalize:true"]) == 0
    return folder / "logs/ppo/CartPole-v1_1"


@pytest.fixture
def downloaded(trained, workplace) -> Path:
    """A copy of it, as from somebody who has another key."""
    folder = Path(shutil.copytree(trained, workplace / "downloaded"))
    (folder / "owner.txt").unlink()
    return folder


def edit(folder: Path, **changes: Any) -> None:
    """Change the record of a run; ``settings`` key by key."""
    data = yaml.safe_load((folder / "config.yml").read_text())
    data["settings"].update(changes.pop("settings", {}))
    (folder / "config.yml").write_text(yaml.safe_dump({**data, **changes}))


EVALUATE = ("-n", "1", "--seed", "0")
NATURAL = {"kind": "natural", "model": "last", "episodes": 1, "deterministic": True}


def test_a_downloaded_run_is_evaluated_without_trust(downloaded, capsys):
    assert evaluate.main([str(downloaded), *EVALUATE]) == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        *[
            ({"settings": block}, says)
            for block, says in HOSTILE
            if {"env_wrapper", "vec_env_wrapper", "env_kwargs"} & set(block)
        ],
        ({"algo": "evil_module.Thing"}, "evil_module"),
        ({"env": "evil_module:Env-v0"}, "would import 'evil_module'"),
        ({"env": "evil-mod:CartPole-v1"}, "would import 'evil-mod'"),
        ({"env": "x:evil-mod:CartPole-v1"}, "would import 'x:evil-mod'"),
        ({"gym_packages": ["evil_module"]}, "would import 'evil_module'"),
        ({"eval_env_kwargs": {"task": "evil_module:Env-v0"}}, "would import 'evil_module'"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_the_record_of_a_run_names_nothing_else(changes, says, downloaded, capsys):
    edit(downloaded, **changes)
    error = error_of(evaluate.main, capsys, str(downloaded), *EVALUATE)
    assert says in error or "is not a Wrapper" in error
    plot_command.main(["--", str(downloaded)])  # reads text and numbers only


class Bomb:
    """Its pickle leaves a trace."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def test_statistics_run_nothing(downloaded, capsys):
    (downloaded / "last_model_vecnormalize.pkl").write_bytes(pickle.dumps(Bomb()))
    error = error_of(
        evaluate.main, capsys, str(downloaded), "--vecnormalize", str(downloaded / "last_model_vecnormalize.pkl"), *EVALUATE
    )
    assert "would run posix.system" in error and "--trust" in error


def with_bomb(model_file: Path) -> None:
    """Let a setting of a saved agent be code."""
    with zipfile.ZipFile(model_file) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if name != "checksums.json"}
    bomb = {":type:": "x", ":serialized:": base64.b64encode(pickle.dumps(Bomb())).decode()}
    members["data"] = json.dumps({**json.loads(members["data"]), "clip_range": bomb}).encode()
    with zipfile.ZipFile(model_file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_a_clone_with_a_folder_of_runs_runs_nothing(trained, workplace, capsys):
    run = Path(shutil.copytree(trained, "logs/ppo/CartPole-v1_1"))
    with_bomb(run / "last_model.zip")
    edit(run, settings={"env_wrapper": "evil_module.make"})
    assert "evil_module" in error_of(evaluate.main, capsys, str(run), *EVALUATE), "a changed record loses its token"
    assert "evil_module" in error_of(evaluate.main, capsys, "--algo", "ppo", "--env", "CartPole-v1", *EVALUATE)
    (run / "owner.txt").unlink()
    edit(run, settings={"env_wrapper": None})
    assert evaluate.main([str(run), *EVALUATE]) == 0
    words = ["--algo", "ppo", "--env", "CartPole-v1", "-i", str(run / "last_model.zip"), "-n", "16", "--no-report"]
    words += ["-params", "normalize:true"]
    assert "clip_range as pickled code" in error_of(train.main, capsys, *words)
    for name in ("owner.txt", "config.yml"):  # links to a run of the user's own
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(trained / name)
    assert not Allowed().owns(run) and Allowed().owns(trained)
    assert "clip_range as pickled code" in error_of(train.main, capsys, *words)


def test_a_run_of_a_benchmark_that_others_have_trained_runs_nothing(trained, workplace):
    folder = GridRunFolder(workplace / "run")
    shutil.copytree(trained, folder.run_folder)
    edit(folder.run_folder, settings={"env_wrapper": "evil_module.make"})
    command = ["--algo", "ppo", "--env", "CartPole-v1"]
    job = Job(Path(), folder.path, command, settings={}, about={}, evaluations={"natural": NATURAL}, device="cpu")
    with pytest.raises(UserError, match="evil_module"):
        worker._evaluate(job, folder, ())


def test_a_user_without_a_place_for_a_key(workplace, monkeypatch, trained, capsys):
    (workplace / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(workplace / "file"))
    assert not ownership.claim(trained) and not ownership.owned(trained)
    words = ["--algo", "ppo", "--env", "CartPole-v1", "-n", "16", "--eval-freq", "-1", "--no-report", "--verbose", "0"]
    assert train.main([*words, "-params", "n_steps:16", "batch_size:16"]) == 0
    assert capsys.readouterr().err.count("No place for a key of yours") == 1
    assert evaluate.main(["logs/ppo/CartPole-v1_1", *EVALUATE]) == 0
    monkeypatch.setenv("XDG_STATE_HOME", str(workplace / "state"))
    assert ownership.claim(Path("logs/ppo/CartPole-v1_1")) and ownership.owned(Path("logs/ppo/CartPole-v1_1"))
    assert (workplace / "state/rlspo/key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (workplace / "state/rlspo").iterdir()] == ["key"]
    monkeypatch.setenv("XDG_STATE_HOME", "relative")  # which the standard says to pass over
    monkeypatch.setenv("HOME", str(workplace / "home"))
    assert not ownership.owned(Path("logs/ppo/CartPole-v1_1")), "another user's"
    assert ownership.claim(Path("logs/ppo/CartPole-v1_1")) and (workplace / "home/.local/state/rlspo/key").is_file()


def test_a_trained_agent_runs_nothing(capsys):
    model = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, learning_rate=lambda r: 1e-3 * r)
    model.save("model.zip")
    words = ["--algo", "stable_baselines3.PPO", "--env", "CartPole-v1", "-i", "model.zip", "-n", "16", "--no-report"]
    assert "learning_rate as pickled code" in error_of(train.main, capsys, *words)
    assert evaluate.main(["model.zip", "--env", "CartPole-v1", *EVALUATE]) == 0
    assert train.main([*words, "--trust", "--verbose", "0", "--eval-freq", "-1"]) == 0


def test_a_run_of_rl_zoo3_names_nothing_else(workplace, capsys):
    record = workplace / "theirs" / "CartPole-v1"
    record.mkdir(parents=True)
    env = VecNormalize(make_vec_env("CartPole-v1"))
    stable_baselines3.PPO("MlpPolicy", env, n_steps=16, batch_size=16).save(record.parent / "CartPole-v1.zip")
    (record / "args.yml").write_text("!!python/object/apply:collections.OrderedDict\n- - - algo\n    - ppo\n")
    wrapper = "- - - env_wrapper\n    - {subprocess.Popen: {args: [touch, ran]}}\n"
    (record / "config.yml").write_text(f"!!python/object/apply:collections.OrderedDict\n{wrapper}")
    assert "subprocess.Popen" in error_of(evaluate.main, capsys, str(record.parent), *EVALUATE)
    (record / "config.yml").write_text("a: !!python/object/apply:os.system ['touch ran']\n")
    evaluate.main([str(record.parent), *EVALUATE])


@pytest.mark.parametrize("name", [name for name in ODD_NAMES if name.isascii()])
def test_what_imports_takes_names_of_modules_only(name):
    with pytest.raises(UserError, match="not a dotted path"):
        imported(f"{name}.make", "here")
    with pytest.raises(UserError, match="not the name of a module"):
        register(f"{name}:CartPole-v1")
    with pytest.raises(UserError, match="not the name of a module"):
        register("CartPole-v1", [name])
    with pytest.raises(ImportError, match="not the name of a module"):
        agent_class(f"{name}.Thing")


@pytest.mark.parametrize("key", ["env_wrapper", "vec_env_wrapper", "callback"])
def test_functions_are_not_called(key, workplace):
    (workplace / "fine_module.py").write_text("import pathlib\ndef make(*env): pathlib.Path('ran').touch()\n")
    with pytest.raises(UserError, match=r"fine_module.make is not a \w+: name a class that extends"):
        layers("fine_module.make", key, "env", "here")


# What is allowed.


def test_the_user_names_modules_on_the_command_line(workplace, capsys):
    (workplace / "kind_module.py").write_text("import gymnasium\nclass Kind(gymnasium.Wrapper): pass\n")
    block = {"policy": "MlpPolicy", "n_timesteps": 16, **TINY, "env_wrapper": "kind_module.Kind"}
    Path("own.yml").write_text(yaml.safe_dump({"CartPole-v1": block}))
    words = ["--algo", "ppo", "--env", "CartPole-v1", "--no-report", "--eval-freq", "-1", "--verbose", "0"]
    assert "--trust kind_module" in error_of(train.main, capsys, *words, "--conf-file", "own.yml")
    assert train.main([*words, "--conf-file", "own.yml", "--trust", "kind_module"]) == 0
    assert train.main([*words, "--conf-file", "own.yml", "--gym-packages", "kind_module"]) == 0
    # What is typed is the user's own word, and so is what this user has trained, wherever it is moved.
    typed = ["-params", "env_wrapper:kind_module.Kind", "n_steps:16", "batch_size:16", "n_timesteps:16"]
    assert train.main([*words, *typed]) == 0
    assert evaluate.main(["logs/ppo/CartPole-v1_1", *EVALUATE]) == 0
    shutil.copytree("logs/ppo/CartPole-v1_1", "elsewhere")
    assert evaluate.main(["elsewhere", *EVALUATE]) == 0
    Path("elsewhere/owner.txt").unlink()
    error = error_of(evaluate.main, capsys, "elsewhere", *EVALUATE)
    assert "--trust kind_module. You are asked because this run does not carry your token" in error
    assert "kind_module" in error_of(evaluate.main, capsys, "elsewhere", "-f", ".", *EVALUATE)
    assert evaluate.main(["elsewhere", "--trust", "kind_module", *EVALUATE]) == 0
    assert evaluate.main(["--trust", "elsewhere", *EVALUATE]) == 0


def test_trust_takes_a_module_or_nothing(capsys):
    base = ["--algo", "ppo", "--env", "CartPole-v1"]
    Path("folder").mkdir()
    assert parse([*base, "--trust"]).trust == ["*"]
    assert parse([*base, "--trust", "--seed", "0"]).trust == ["*"]
    assert parse([*base, "--trust", "one", "--trust", "two.three"]).trust == ["one", "two.three"]
    assert parse(base).trust == []
    assert "--trust: cannot import 'no_such'" in error_of(train.main, capsys, *base, "--trust", "no_such")


def test_what_comes_with_the_libraries_may_be_named():
    settings = {
        "env_wrapper": [
            "stable_baselines3.common.atari_wrappers.AtariWrapper",
            {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 5}},
            "rlspo.envs.SimulatedPostDecision",
        ],
        "policy_kwargs": {"activation_fn": "torch.nn.ReLU", "optimizer_class": "torch.optim.Adam"},
        "provenance": "a.sentence.that looks like.this",
        "env_kwargs": {"instance": "my.file.yml"},
        "learning_rate": "lin_3e-4",
    }
    check_settings(settings, "here", Allowed())
    check_agent("stable_baselines3.SAC", "here", Allowed())
    check_env("ALE/Pong-v5", "here", Allowed())
    check_packages(["ale_py", "rlspo.envs"], "here", Allowed())
    with pytest.raises(UserError, match="neither registered nor named"):
        check_packages(["ale_pyx"], "here", Allowed())
    check_packages(["ale_pyx"], "here", Allowed(("ale_pyx",)))


def test_a_package_in_the_current_folder_is_a_module(tmp_path, monkeypatch):
    """A folder that is no package is a path, such as a run folder after a plain --trust."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "package").mkdir()
    base = ["--algo", "ppo", "--env", "CartPole-v1"]
    assert parse([*base, "--trust=package"]).trust == ["package"]
    with pytest.raises(UserError):
        parse([*base, "--trust", "package"])
    (tmp_path / "package" / "__init__.py").touch()
    assert parse([*base, "--trust", "package"]).trust == ["package"]

"""Damaged and hostile files of every kind: one clear error or a result, no traceback, no execution, no hang.

``RLSPO_FUZZ=5000`` tries that many files in place of the few hundred that are tried by default.
"""

import contextlib
import os
import random
import shutil
import signal
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stable_baselines3
import yaml
from stable_baselines3.common.env_util import make_vec_env

from rlspo import SAC
from rlspo.zoo.benchmark import command as benchmark_command
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate import command as evaluate
from rlspo.zoo.plot import sources
from rlspo.zoo.train import command as train
from rlspo.zoo.train.arguments import parse
from rlspo.zoo.train.plan import make_plan
from rlspo.zoo.tune import command as tune_command
from tests.zoo.benchmark.tiny_grids import fake, runs_of
from tests.zoo.mutations import mutate_bytes, mutate_model, mutate_text
from tests.zoo.old_agents import run_of_zoo

FILES = int(os.environ.get("RLSPO_FUZZ", "300"))
_LONGEST = 60  # seconds: far more than any file needs, also on a busy machine

# What a program does that runs a file. Hooks cannot be taken away, so this one asks whether it is to look.
_FORBIDDEN = {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class", "socket.connect"}
_watched: list[Path] = []
_seen: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched:
        return
    if event in _FORBIDDEN or (event == "import" and str(arguments[0]).startswith("evil")):
        _seen.append(f"{event} {arguments!r:.200}")
    elif event == "open" and isinstance(arguments[0], str) and set(str(arguments[1])) & set("wax+"):
        path = Path(arguments[0]).absolute()
        cached = path.suffix == ".pyc" or "__pycache__" in path.parts
        if not (cached or path.is_relative_to(_watched[0]) or path.is_relative_to("/dev")):
            _seen.append(f"open {path}")


sys.addaudithook(_hook)


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[None]:
    """Note what is run, and stop what hangs."""

    def too_long(*_: Any) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(_LONGEST)
    _seen.clear()
    _watched.append(folder.absolute())
    try:
        yield
    finally:
        _watched.clear()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """One whole file of each kind."""
    folder = tmp_path_factory.mktemp("whole")
    flags = [
        "--algo",
        "ppo",
        "--env",
        "CartPole-v1",
        "-n",
        "64",
        "--eval-freq",
        "32",
        "--eval-episodes",
        "1",
        "--verbose",
        "0",
    ]
    params = ["n_steps:16", "batch_size:16", "n_epochs:1", "normalize:true", "policy_kwargs:{net_arch: [4]}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train.main([*flags, "--no-report", "--run-folder", "run", "-params", *params]) == 0
        block = {"policy": "MlpPolicy", "n_timesteps": 64, "n_steps": 16, "batch_size": 16, "policy_kwargs": {"net_arch": [4]}}
        block |= {"env_wrapper": [{"gymnasium.wrappers.TimeLimit": {"max_episode_steps": 9}}], "learning_rate": "lin_3e-4"}
        Path("own.yml").write_text(yaml.safe_dump({"CartPole-v1": block, "default": block}))
        grid = {
            "agents": {"ppo": {"params": {"n_steps": 16, "batch_size": 16}}, "other": {"algo": "ppo"}},
            "envs": {"CartPole-v1": {"env_kwargs": {"sutton_barto_reward": False}}},
            "seeds": [0, 1],
            "n_timesteps": 64,
            "eval_freq": 32,
            "episodes": 2,
            "evaluations": {"natural": {}, "mad": {"attack": "mad", "epsilon": 0.1}},
        }
        Path("grid.yml").write_text(yaml.safe_dump(grid))
        for run in runs_of(Path("grid.yml"), Path("out")):
            fake(run, {"natural": [1.0, 2.0], "mad": [0.0, 1.0]}, {32: [1.0], 64: [2.0]})
        study = {"algo": "ppo", "env": "CartPole-v1", "n_trials": 2, "n_timesteps": 64, "hyperparams": {"gamma": 0.9}}
        Path("queue.yml").write_text(yaml.safe_dump({"defaults": {"n_seeds": 1}, "studies": {"one": study}}))
        env = make_vec_env("Pendulum-v1")
        model = SAC("MlpPolicy", env, buffer_size=50, learning_starts=4, policy_kwargs={"net_arch": [4]}).learn(20)
        model.save_replay_buffer("buffer.pkl")
        theirs = stable_baselines3.PPO("MlpPolicy", "CartPole-v1", n_steps=16, batch_size=16, policy_kwargs={"net_arch": [4]})
        run_of_zoo(theirs, "ppo", "CartPole-v1", folder=Path("theirs"), frame_stack=1, n_timesteps=64.0)
    return folder


def _evaluates() -> int:
    return evaluate.main(["run", "-n", "1", "--seed", "0"])


def _evaluates_theirs() -> int:
    return evaluate.main([str(THEIRS), "-n", "1", "--seed", "0"])


def _plans() -> int:
    make_plan(parse(["--algo", "ppo", "--env", "CartPole-v1", "--conf-file", "own.yml"]))
    return 0


def _reports() -> int:
    return benchmark_command.main(["grid.yml", "-o", "out", "--report"])


def _draws() -> int:
    found = sources.find([Path("run")], {})
    return len(found.runs)


def _loads_buffer() -> int:
    env = make_vec_env("Pendulum-v1")
    model = SAC("MlpPolicy", env, buffer_size=50, policy_kwargs={"net_arch": [4]}, device="cpu")
    with contextlib.suppress(ValueError):  # of which IncompatibleModelError is one
        model.load_replay_buffer("buffer.pkl")
    return 0


THEIRS = Path("theirs/ppo/CartPole-v1_1")
RUN = "out/ppo/CartPole-v1/seed_0"
#: File, what is done with it, and how it is damaged.
KINDS: dict[str, tuple[str, Callable[[], int], Callable[..., bytes]]] = {
    "config": ("run/config.yml", _evaluates, mutate_text),
    "model": ("run/last_model.zip", _evaluates, mutate_model),
    "statistics": ("run/last_model_vecnormalize.pkl", _evaluates, mutate_bytes),
    "hyperparameters": ("own.yml", _plans, mutate_text),
    "grid": ("grid.yml", lambda: benchmark_command.main(["grid.yml", "-o", "new", "--dry-run"]), mutate_text),
    "cell": (f"{RUN}/cell.json", _reports, mutate_text),
    "evaluation": (f"{RUN}/evaluation_mad.json", _reports, mutate_text),
    "arrays": (f"{RUN}/run/evaluations.npz", _reports, mutate_bytes),
    "curve": ("run/evaluations.npz", _draws, mutate_bytes),
    "episodes": ("run/0.monitor.csv", _draws, mutate_text),
    "study": ("queue.yml", lambda: tune_command.main(["--queue", "queue.yml", "--dry-run"]), mutate_text),
    "args of rl-zoo3": (f"{THEIRS}/CartPole-v1/args.yml", _evaluates_theirs, mutate_text),
    "config of rl-zoo3": (f"{THEIRS}/CartPole-v1/config.yml", _evaluates_theirs, mutate_text),
    "buffer": ("buffer.pkl", _loads_buffer, mutate_bytes),
}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_told(kind, whole, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "work"
    shutil.copytree(whole, folder)
    monkeypatch.chdir(folder)
    Path("evil_module.py").write_text("open('ran', 'w')\n")
    monkeypatch.syspath_prepend(str(folder))
    name, use, mutate = KINDS[kind]
    file = Path(name)
    data = file.read_bytes()
    more = (tmp_path,) if mutate is mutate_model else ()
    assert use() in (0, 1), f"the whole {name} is refused"
    capsys.readouterr()
    for number in range(FILES // len(KINDS)):
        dice = random.Random(zlib.crc32(f"{kind} {number}".encode()))
        file.write_bytes(mutate(data, dice, *more))
        kept = tmp_path / f"{number}_{file.name}"
        shutil.copy(file, kept)
        try:
            with watched(tmp_path), warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                with contextlib.suppress(UserError):
                    assert use() in (0, 1, 2)
        except BaseException as error:
            raise AssertionError(f"{kind} {number}: {kept}: {type(error).__name__}: {error}") from error
        told = capsys.readouterr()
        assert "Traceback" not in told.err + told.out, f"{kind} {number}: {kept}"
        assert not _seen, f"{kind} {number}: {kept}: {_seen}"
        assert not Path("ran").exists(), f"{kind} {number}: {kept}"
        kept.unlink()

"""What is imported when."""

import subprocess
import sys

import pytest

import rlspo


def heavy_after(code: str) -> set[str]:
    """Which of these packages are imported after some code has run in a new process."""
    ask = (
        f"import sys\n{code}\nprint(*{{'torch', 'stable_baselines3', 'mujoco', 'ale_py'}} & {{*sys.modules}}, file=sys.stderr)"
    )
    return {*subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stderr.split()}


def test_rlspo_is_imported_without_torch_and_knows_its_environments():
    code = "import rlspo, gymnasium\nassert gymnasium.spec('rlspo/Sokoban-v0')"
    assert heavy_after(code) == set()
    assert "torch" in heavy_after("import rlspo\nrlspo.PPO")


def test_the_command_line_helps_without_torch():
    assert heavy_after("from rlspo.zoo.cli import main\nmain(['--help']), main(['--version'])") == set()


def test_all_names_are_there_and_no_others():
    for package in (rlspo, rlspo.envs):
        for name in package.__all__:
            assert name in dir(package)
            assert getattr(package, name) is not None
    assert rlspo.ppo.PPO is rlspo.PPO
    with pytest.raises(AttributeError, match="module 'rlspo' has no attribute 'POP'"):
        rlspo.POP  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'POP'"):
        exec("from rlspo import POP")

"""The package imports where there is no POSIX: Windows has neither these modules nor these names."""

import subprocess
import sys

WITHOUT = """
import importlib, os, pkgutil, signal, sys
import torch, gymnasium, stable_baselines3, filelock, optuna, rich.live, tensorboard  # they know both systems
import gymnasium.envs.mujoco, matplotlib.pyplot, mujoco, multiprocessing.pool
import torch.utils.tensorboard, stable_baselines3.common.vec_env
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[name] = None
for name in ("SIGKILL", "SIGHUP", "SIGALRM", "setitimer", "pthread_sigmask"):
    delattr(signal, name)
for name in ("killpg", "fork", "setsid", "getpgid", "sched_getaffinity", "getuid"):
    delattr(os, name)
import rlspo
for module in pkgutil.walk_packages(rlspo.__path__, "rlspo."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from rlspo.zoo.cli.signals import StopSignal, time_limit
with StopSignal() as stop, time_limit(1.0):
    assert stop.exit_code == 0
"""


def test_everything_imports_without_posix() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

"""All modules import where the modules of POSIX are missing, as on Windows."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Modules of the zoo that still need them.
NEED_POSIX = ("rlspo.zoo",)
CODE = """
import importlib, pkgutil, sys, signal, os
sys.path.insert(0, {root!r})
import rlspo, torch, stable_baselines3, matplotlib.pyplot
import gymnasium.envs.mujoco, mujoco, multiprocessing.pool
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[name] = None
for name in ("SIGKILL", "SIGHUP", "SIGALRM"):
    delattr(signal, name)
for name in ("fork", "killpg", "sched_getaffinity", "getuid"):
    delattr(os, name)
for module in pkgutil.walk_packages(rlspo.__path__, "rlspo."):
    if not module.name.startswith({skipped!r}):
        importlib.import_module(module.name)
"""


def test_all_modules_import_without_posix() -> None:
    code = CODE.format(root=str(ROOT), skipped=NEED_POSIX)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""MuJoCo's line about Gymnasium's HalfCheetah, of no use to those who train on it, reaches neither terminal nor folder."""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

#: In the file of Gymnasium's HalfCheetah-v5, whose mass is what it has to be.
HARMLESS = "compiler attribute 'settotalmass' is deprecated"


def drop_harmless(mujoco: Any) -> None:
    """Drop that one line; the others go where they went before, by default to standard error and MUJOCO_LOG.TXT.

    :param mujoco: the package
    """
    before = mujoco.get_mju_user_warning()

    def passed_on(message: str) -> None:
        if HARMLESS in message:
            return
        if before is not None:
            before(message)
            return
        print(f"WARNING: {message}\n", file=sys.stderr)
        mujoco.mju_writeLog("WARNING", message)

    mujoco.set_mju_user_warning(passed_on)


def when_imported() -> None:
    """Call :func:`drop_harmless` now if MuJoCo has been imported, or once it is, by whomever: it is not imported for this."""
    if "mujoco" in sys.modules:
        drop_harmless(sys.modules["mujoco"])
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds MuJoCo where Python would, and adds a step to its loading."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "mujoco":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def execute_and_drop(module: ModuleType) -> None:
                execute(module)
                drop_harmless(module)

            loader.exec_module = execute_and_drop
        return spec

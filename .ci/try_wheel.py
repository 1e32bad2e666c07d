"""Build the wheel, and try it from another folder in an environment that has it and what its base requires, nothing else.

That environment borrows the packages which are installed already, so that torch is not downloaded again: each package that
the wheel requires, directly or through others, is linked into it. What setup.py forgets to require is missing there.
"""

import os
import re
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
IMPORTS = """
import sys, warnings
import importlib.util
import rlspo
from rlspo.common.registry import agent_names
from rlspo.envs.lot_sizing import load_instance
import gymnasium
assert sys.argv[1] not in rlspo.__file__, rlspo.__file__
for name in ("mujoco", "ale_py", "imageio", "wandb", "pytest"):
    assert importlib.util.find_spec(name) is None, name
assert set(agent_names()) >= {"ppo", "sac", "arpo", "barpo", "pdppo", "spo"}, agent_names()
load_instance("2x1")
assert rlspo.load("ppo/CartPole-v1").num_timesteps > 0
gymnasium.make("rlspo/LotSizing-v0")
"""


def required(names: list[str]) -> dict[str, Distribution]:
    """Installed distributions that these requirements lead to, by their normalised names."""
    found: dict[str, Distribution] = {}
    open_ = [(Requirement(name), "") for name in names]
    while open_:
        requirement, extra = open_.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            here = distribution(requirement.name)
        except PackageNotFoundError:
            sys.exit(f"{requirement} is not installed here")
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        new = name not in found
        found[name] = here
        for more in {*requirement.extras, *([""] if new else [])}:
            open_ += [(Requirement(line), more) for line in here.requires or []]
    return found


def link(package: Distribution, site: Path) -> None:
    """Link the top-level files and folders of a distribution into another environment; its scripts stay behind."""
    for top in {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(package.locate_file(top))))


def main() -> None:
    """:raises subprocess.CalledProcessError: where something does not run"""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pip = [sys.executable, "-m", "pip"]
        build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
        subprocess.run([*pip, *build], check=True)
        (wheel,) = folder.glob("*.whl")
        venv.create(folder / "env", symlinks=os.name != "nt")
        python = next(path for path in (folder / "env/bin/python", folder / "env/Scripts/python.exe") if path.exists())
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = Path(subprocess.check_output([python, "-c", ask], text=True).strip())
        subprocess.run([*pip, "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True)
        requires = next(site.glob("rlspo-*.dist-info")).joinpath("METADATA").read_text()
        base = [line for line in re.findall(r"^Requires-Dist: (.*)$", requires, re.MULTILINE) if "extra ==" not in line]
        packages = required([*base, "setuptools"])
        for package in packages.values():
            link(package, site)
        print(f"{wheel.name} beside the {len(packages)} packages that it requires", flush=True)
        outside = folder / "outside"
        outside.mkdir()
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        what = ["--algo", "ppo", "--env", "CartPole-v1", "-n", "512"]
        short = ["--n-trials", "1", "--n-seeds", "1", "--top", "1", "--validation-seeds", "2", "--final-episodes", "2"]
        train = ["-m", "rlspo.zoo.train", *what, "-f", "logs"]
        tune = ["-m", "rlspo.zoo.tune", *what, *short, "-f", "logs"]
        by_name = ["-m", "rlspo.zoo.evaluate", "ppo/CartPole-v1", "-n", "2"]
        for arguments in (["-c", IMPORTS, str(ROOT)], train, tune, by_name):
            subprocess.run([str(python), *arguments], cwd=outside, env=environment, check=True)
        if not list(outside.glob("logs/**/events.out.tfevents.*")):
            sys.exit("training wrote nothing for TensorBoard")


if __name__ == "__main__":
    main()

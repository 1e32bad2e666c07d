"""Weights & Biases: a run's settings and numbers on a web page, beside TensorBoard and the files."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shlex
from numbers import Number
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter

from rlspo.zoo.config.schema import RunConfig
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.folder import RunFolder

_PROJECT = "rlspo"


def check_installed() -> None:
    """Refuse to track without the package.

    :raises UserError: where wandb is not installed
    """
    found = importlib.util.find_spec("wandb")
    if found is None or found.origin is None:  # a folder of that name, which wandb itself makes, is not the package
        raise UserError("--track needs the package wandb, which is not installed: pip install wandb")


class Tracker(KVWriter):
    """An output of SB3's logger that sends every number to a run of Weights & Biases.

    The step of W&B's curves is the number of environment steps. ``WANDB_MODE=offline`` keeps everything in the run folder, and
    wandb's other environment variables work as documented there.

    :param run: of W&B
    """

    def __init__(self, run: Any) -> None:
        self._run = run

    @classmethod
    def start(cls, args: argparse.Namespace, config: RunConfig, folder: RunFolder) -> Tracker:
        """Begin a run of W&B whose config is every setting and whose files lie in the run folder.

        :param args: the parsed command line, with ``wandb_project``, ``wandb_entity`` and ``wandb_tags``
        :raises UserError: if W&B cannot start it: no login, no network, no such entity
        """
        import wandb

        name = folder.path.resolve().name
        try:
            run = wandb.init(
                project=args.wandb_project or os.environ.get("WANDB_PROJECT") or _PROJECT,
                entity=args.wandb_entity,
                group=args.wandb_group,
                tags=args.wandb_tags,
                name=f"{config.algo}/{name}",
                dir=str(folder.path),
                config=config.model_dump(mode="json"),
                reinit="create_new",
                settings=wandb.Settings(quiet=True),
            )
        except wandb.Error as error:
            raise UserError(
                f"--track: Weights & Biases says: {error}\nLog in with 'wandb login', or set WANDB_MODE=offline."
            ) from error
        return cls(run)

    @property
    def where(self) -> str:
        """Its web page, or how to send it there later."""
        if self._run.offline:
            return f"wandb sync {shlex.quote(str(Path(self._run.dir).parent))}"
        return str(self._run.url or "disabled")

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Send the numbers of one dump; values that are excluded from TensorBoard are left out here too."""
        numbers = {
            key: value
            for key, value in key_values.items()
            if isinstance(value, Number) and not {"tensorboard", "wandb"} & set(key_excluded[key])
        }
        self._run.log(numbers, step=step)

    def show_clip(self, video: Path, step: int) -> None:
        """Send a video."""
        import wandb

        self._run.log({"clip/last_model": wandb.Video(str(video))}, step=step)

    def finish(self, exit_code: int) -> None:
        """End the run: finished for code 0, failed otherwise. What was logged last is the run's summary."""
        self._run.finish(exit_code=exit_code)

    def close(self) -> None:
        """Do nothing: :meth:`finish` has ended the run."""

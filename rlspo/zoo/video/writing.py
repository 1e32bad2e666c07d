"""What commands that write a video share: flags for how the agent acts, the default file, and writing it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from rlspo.zoo.cli.parser import radius, seed
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.evaluation import SEED
from rlspo.zoo.runs.saved_agent import SavedAgent
from rlspo.zoo.video.render import make_video
from rlspo.zoo.video.spec import Video, VideoSpec

_ENDINGS = (".mp4", ".gif")


def add_acting_flags(group: argparse._ArgumentGroup) -> None:
    """The flags for how the agent acts and what is shown, shared by ``record`` and ``enjoy``."""
    group.add_argument("--fps", type=radius, metavar="N", help="steps per second (default: real time)")
    actions = group.add_mutually_exclusive_group()
    actions.add_argument("--deterministic", action="store_true", help="take the likeliest action (this is the default)")
    actions.add_argument("--stochastic", action="store_true", help="sample actions, as in training")
    group.add_argument(
        "--experts", action="store_true", help="frame the picture in the colour of the expert that acts (mixtures of experts)"
    )
    group.add_argument(
        "--seen",
        action=argparse.BooleanOptionalAction,
        help="show what the agent sees beside the true picture (default: where rlspo perturbs the environment, as in STORI; "
        "elsewhere the observation, if it is a picture)",
    )
    group.add_argument(
        "--seed", type=seed, default=SEED, metavar="N", help="of everything random (default: %(default)s, as in evaluate)"
    )


def write_video(spec: VideoSpec) -> Video:
    """Make a video, and the folder for it where there is none.

    :raises UserError: for a file that cannot be written, or something that is not installed
    :raises RecordingFailed: if the environment or the agent failed. After an error no file is left behind
    """
    if spec.file.suffix.lower() not in _ENDINGS:
        raise UserError(f"-o {spec.file}: a video ends in {' or '.join(_ENDINGS)}.")
    if spec.file.is_dir():
        raise UserError(f"-o {spec.file}: is a folder.")
    made = [folder for folder in spec.file.parents if not folder.exists()]
    try:
        spec.file.parent.mkdir(parents=True, exist_ok=True)
        return make_video(spec)
    except OSError as error:
        raise UserError(f"-o {spec.file}: cannot be written: {error.strerror}.") from error
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # succeeds only where empty: a video stays


def default_file(agents: Sequence[SavedAgent]) -> Path:
    """The default file of a video: in ``videos/`` of the run folder, or beside a model file outside of run folders; of an
    exported agent in the current folder."""
    agent = agents[0]
    name = agent.model_file.stem if len(agents) == 1 else "checkpoints"
    if agent.export is not None:
        name = f"{agent.algo}_{agent.model_file.name}"
    return agent.output_folder / "videos" / f"{name}.mp4"

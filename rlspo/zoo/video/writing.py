"""What commands that write a video share: flags of acting, the place of the file, and making it."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from rlspo.zoo.cli.parser import radius, seed
from rlspo.zoo.errors import UserError
from rlspo.zoo.evaluate.evaluation import SEED
from rlspo.zoo.runs.saved_agent import SavedAgent
from rlspo.zoo.video.render import shoot
from rlspo.zoo.video.spec import Film, Footage

_ENDINGS = (".mp4", ".gif")


def add_acting_flags(group: argparse._ArgumentGroup) -> None:
    """The flags that ``enjoy`` has too."""
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
        help="film what the agent sees beside what is (default: where the environment is perturbed by rlspo, as STORI games "
        "are; elsewhere the observation, if it is a picture)",
    )
    group.add_argument(
        "--seed", type=seed, default=SEED, metavar="N", help="of everything random (default: %(default)s, as in evaluate)"
    )


def write_film(film: Film) -> Footage:
    """Make a film, and the folder that it lies in.

    :raises UserError: for a file that cannot be written, or something that is not installed
    :raises FilmingFailed: if the environment or the agent failed. In both cases nothing is left behind
    """
    if film.file.suffix.lower() not in _ENDINGS:
        raise UserError(f"-o {film.file}: a film ends in {' or '.join(_ENDINGS)}.")
    if film.file.is_dir():
        raise UserError(f"-o {film.file}: is a folder.")
    made = [folder for folder in film.file.parents if not folder.exists()]
    try:
        film.file.parent.mkdir(parents=True, exist_ok=True)
        return shoot(film)
    except OSError as error:
        raise UserError(f"-o {film.file}: cannot be written: {error.strerror}.") from error
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # succeeds only where empty: a film stays


def default_file(agents: Sequence[SavedAgent]) -> Path:
    """Where a film goes that was given no place: ``videos/`` in the run folder, or beside a model file alone."""
    agent = agents[0]
    name = agent.model_file.stem if len(agents) == 1 else "checkpoints"
    return (agent.folder or agent.model_file.parent) / "videos" / f"{name}.mp4"

"""The TensorBoard log of a run: one folder, one event file, with the settings, how it ended, and a clip of the agent."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import HParam, TensorBoardOutputFormat
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from rlspo.zoo.cli.exit_codes import DONE, FAILED
from rlspo.zoo.cli.patience import PatientFile
from rlspo.zoo.config.convert import plain
from rlspo.zoo.config.hyperparams import agent_defaults
from rlspo.zoo.config.schema import RunConfig
from rlspo.zoo.errors import UserError
from rlspo.zoo.runs.folder import RunFolder

_CLIP_FPS = 12.5  # pictures per second; a GIF counts in hundredths of a second
_CLIP_PICTURES = 125
_CLIP_HEIGHT = 240  # pixels
_CLIP_COLOURS = 128

_ENDINGS = {DONE: Status.STATUS_SUCCESS, FAILED: Status.STATUS_FAILURE}


class TensorBoardLog(TensorBoardOutputFormat):
    """SB3's TensorBoard output, which also fills the HParams tab.

    TensorBoard has one table of settings for all the runs that it shows. It makes that table from the settings that each
    run states, unless a run declares those of all: SB3's ``HParam`` does, and so hides the settings that only
    other runs have. Here a run states its own only, and TensorBoard finds the metrics among the scalars.

    :param folder: of the events, new
    :param settings: shown in the HParams tab, by name
    """

    def __init__(self, folder: Path, settings: Mapping[str, bool | float | str]) -> None:
        super().__init__(str(folder))
        self._be_patient()
        start = SessionStartInfo(start_time_secs=time.time())
        for name, value in settings.items():
            kind = "bool_value" if isinstance(value, bool) else "string_value" if isinstance(value, str) else "number_value"
            setattr(start.hparams[name], kind, value)
        self._write_hparams(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))

    def _be_patient(self) -> None:
        """Buffer what cannot be written now. TensorBoard's own writer thread ends at the first error for good."""
        assert self.writer.file_writer is not None
        events = self.writer.file_writer.event_writer
        events.flush()
        events._async_writer._writer._writer = PatientFile(Path(events._file_name))

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Write what was logged; an ``HParam`` is left out, because the settings are written already."""
        kept = {key: value for key, value in key_values.items() if not isinstance(value, HParam)}
        super().write(kept, {key: key_excluded[key] for key in kept}, step)

    def show_clip(self, video: Path, step: int) -> None:
        """Show a video in the tab of images, which plays GIFs.

        :param video: a file that imageio reads, such as an MP4
        """
        gif, height, width = animated_gif(video)
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
        self._add(Summary.Value(tag="clip/last_model", image=image), step)

    def finish(self, exit_code: int) -> None:
        """State how the run ended: success, failure, or unknown where it was stopped."""
        end = SessionEndInfo(status=_ENDINGS.get(exit_code, Status.STATUS_UNKNOWN), end_time_secs=time.time())
        self._write_hparams(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))

    def _write_hparams(self, tag: str, content: HParamsPluginData) -> None:
        """Write a message to the HParams tab, which reads it from the metadata of an empty tensor."""
        self._add(Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content), tensor=metadata.NULL_TENSOR))

    def _add(self, value: Summary.Value, step: int = 0) -> None:
        assert self.writer.file_writer is not None
        self.writer.file_writer.add_summary(Summary(value=[value]), step)
        self.writer.flush()


def claim_folder(folder: RunFolder, algo: str) -> Path:
    """Make the folder of this run's events, which no other run shares.

    Inside the run folder it is ``tensorboard/ALGO_1``, as SB3 has it; in a folder that runs share it is
    ``ALGO/RUN_FOLDER``, with a number appended where that exists.

    :raises UserError: if it cannot be made
    """
    own = folder.tensorboard.resolve().is_relative_to(folder.path.resolve())
    first = folder.tensorboard / (f"{algo}_1" if own else f"{algo}/{folder.path.resolve().name}")
    for number in itertools.count(2):
        path = first if number == 2 else first.with_name(f"{first.name}_{number - 1}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            if not path.is_dir():
                raise UserError(f"--tensorboard-log: {path} exists and is not a folder.") from None
        except OSError as error:
            raise UserError(f"--tensorboard-log: cannot make {path}: {error.strerror}.") from error
    raise AssertionError


def release_folder(path: Path) -> None:
    """Remove a folder of events in which nothing was written, and what was made for it above it."""
    with contextlib.suppress(OSError):
        for empty in (path, path.parent, path.parent.parent):
            empty.rmdir()  # succeeds only where empty


def settings_of(config: RunConfig, model: BaseAlgorithm) -> dict[str, bool | float | str]:
    """All settings of a run, flat: those of the agent, of the zoo, and the seed.

    :param model: gives the agent's settings where the run continues a saved agent, which keeps its own
    """
    agent = config.agent or {name: plain(getattr(model, name)) for name in agent_defaults(type(model)) if hasattr(model, name)}
    block = config.settings.model_dump(mode="json", exclude={"provenance"})
    run = {"algo": config.algo, "env": config.env, "seed": config.seeds.seed, "vec_env": config.vec_env}
    extra = {"trained_agent": config.trained_agent, "eval_env_kwargs": config.eval_env_kwargs, "device": str(model.device)}
    return flat({**agent, **block, **run, **extra})


def flat(settings: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """Numbers, truth values and texts by dotted names; null and empty values are left out.

    >>> flat({"policy_kwargs": {"net_arch": [64, 64], "ortho_init": True}, "target_kl": None, "gamma": 0.9})
    {'policy_kwargs.net_arch': '[64, 64]', 'policy_kwargs.ortho_init': True, 'gamma': 0.9}
    """
    result: dict[str, bool | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            result |= {f"{name}.{inner}": setting for inner, setting in flat(value).items()}
        elif isinstance(value, float) and not math.isfinite(value):
            result[name] = str(value)  # TensorBoard speaks JSON, which has no infinity
        elif isinstance(value, bool | int | float | str):
            result[name] = value
        elif value:
            result[name] = json.dumps(value)
    return result


def animated_gif(video: Path) -> tuple[bytes, int, int]:
    """A GIF of the first ten seconds of a video, small enough for an event file, with its height and width in pixels.

    :raises ValueError: for a video without pictures
    """
    import imageio.v2 as imageio
    from PIL import Image

    reader: Any = imageio.get_reader(video)
    with contextlib.closing(reader):
        fps = float(reader.get_meta_data()["fps"])
        stride = math.ceil(fps / _CLIP_FPS)
        frames = [Image.fromarray(np.asarray(frame)) for frame in itertools.islice(reader, 0, _CLIP_PICTURES * stride, stride)]
    if not frames:
        raise ValueError(f"{video} holds no pictures")
    scale = min(1.0, _CLIP_HEIGHT / frames[0].height)
    size = (round(frames[0].width * scale), round(frames[0].height * scale))
    # Without dithering, whose noise would be most of the file.
    first, *rest = (frame.resize(size).quantize(_CLIP_COLOURS, dither=Image.Dither.NONE) for frame in frames)
    gif = io.BytesIO()
    first.save(gif, "GIF", save_all=True, append_images=rest, duration=round(1000 * stride / fps), loop=0)
    return gif.getvalue(), size[1], size[0]

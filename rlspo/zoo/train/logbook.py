"""All outputs of a run's log: tables, TensorBoard, CSV, JSON, Weights & Biases."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import CSVOutputFormat, HumanOutputFormat, KVWriter, Logger, make_output_format

from rlspo.zoo.cli import terminal
from rlspo.zoo.cli.patience import BestEffort, PatientFile
from rlspo.zoo.config.schema import RunConfig
from rlspo.zoo.runs.folder import RunFolder
from rlspo.zoo.train.tensorboard import TensorBoardLog, claim_folder, release_folder, settings_of
from rlspo.zoo.train.tracking import Tracker

#: Formats of the log; each but TensorBoard is one file in the run folder, named as SB3 names it.
FORMATS = ("tensorboard", "csv", "json", "log")


class Logbook:
    """The outputs of one run's logger, from before training until after the report.

    :param folder: of the run
    :param tables: on the terminal, while training
    :param files: of SB3's own formats
    :param tensorboard: None for none
    :param tracker: None for none
    """

    def __init__(
        self,
        folder: RunFolder,
        tables: list[KVWriter],
        files: list[KVWriter],
        tensorboard: TensorBoardLog | None,
        tracker: Tracker | None,
    ) -> None:
        self.tracker = tracker
        self._shows = [output for output in (tensorboard, tracker) if output is not None]
        self._kept: list[KVWriter] = [_Patient(output) for output in (*files, *self._shows)]
        self.logger = Logger(str(folder.path), [*map(_Patient, tables), *self._kept])

    @classmethod
    def open(cls, args: argparse.Namespace, config: RunConfig, folder: RunFolder, model: BaseAlgorithm) -> Logbook:
        """Open every output that the command line asks for.

        :param args: the parsed command line: ``log_format``, ``verbose``, ``track`` and W&B's own
        :param model: the agent, not trained yet
        :raises UserError: if an output cannot be opened; then no files of it are left
        """
        events = claim_folder(folder, config.algo) if "tensorboard" in args.log_format else None
        try:
            tracker = Tracker.start(args, config, folder) if args.track else None
        except BaseException:
            if events is not None:
                release_folder(events)
            raise
        return cls(
            folder,
            tables=[HumanOutputFormat(sys.stdout)] if args.verbose >= 1 else [],
            files=[make_output_format(name, str(folder.path)) for name in args.log_format if name != "tensorboard"],
            tensorboard=None if events is None else TensorBoardLog(events, settings_of(config, model)),
            tracker=tracker,
        )

    def show_clip(self, video: Path, step: int) -> None:
        """Send a video to the outputs that can show one."""
        for output in self._shows:
            output.show_clip(video, step)

    def close(self, exit_code: int, step: int, last: Mapping[str, float]) -> None:
        """Write the final metrics, and close all outputs.

        :param exit_code: of the run
        :param step: at which it ended
        :param last: final metrics, by tag
        """
        self.logger.output_formats = self._kept  # no more tables on the terminal
        for tag, value in last.items():
            self.logger.record(tag, value)
        self.logger.record("time/total_timesteps", step, exclude="tensorboard")  # as in SB3's own rows
        self.logger.dump(step)  # with the statistics of the last update, which SB3 leaves unwritten
        for output in self._shows:
            try:
                output.finish(exit_code)
            except Exception as error:  # of a library, or a connection
                terminal.note(f"log cut short: {type(error).__name__}: {error}")
        self.logger.close()


class _Patient(KVWriter):
    """An output that may fail for a while, without ending the training that it logs.

    :param output: of SB3's logger
    """

    def __init__(self, output: KVWriter) -> None:
        self.output = output
        file = getattr(output, "file", None)
        if isinstance(file, io.TextIOWrapper) and file is not sys.stdout and not isinstance(output, CSVOutputFormat):
            file.close()
            output.file = PatientFile(Path(file.name))  # type: ignore[attr-defined]
        self.effort = BestEffort(f"log ({type(output).__name__})")

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Write one dump; it is lost where the output fails."""
        columns = list(getattr(self.output, "keys", []))
        with self.effort:
            try:
                self.output.write(key_values, key_excluded, step)
            except OSError:
                if isinstance(self.output, CSVOutputFormat):
                    self.output.keys = columns  # the header on disk has only these
                raise

    def close(self) -> None:
        """Close the output."""
        with self.effort:
            self.output.close()

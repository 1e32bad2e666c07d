"""What happens during training: stopping when asked to, evaluating, and saving."""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import VecEnv

from rlspo.zoo.files import whole, write_text
from rlspo.zoo.phases import Stopwatch
from rlspo.zoo.run_folder import RunFolder
from rlspo.zoo.stopping import StopSignal


def save_model(model: BaseAlgorithm, file: Path, folder: RunFolder) -> None:
    """Save an agent, with the statistics of ``VecNormalize`` where the run uses it.

    An interruption never leaves half a model.

    :param file: the model's zip file
    """
    with whole(file) as partial:
        model.save(partial)
    statistics = model.get_vec_normalize_env()
    if statistics is not None:
        with whole(folder.statistics_of(file)) as partial:
            statistics.save(str(partial))


class StopWhenAsked(BaseCallback):
    """Ends training at the step after a signal."""

    def __init__(self, stop: StopSignal) -> None:
        super().__init__()
        self.stop = stop

    def _on_step(self) -> bool:
        return self.stop.received is None


class Status(BaseCallback):
    """Keeps ``status.json`` true: how far the run is, at most once a second, for whoever watches from outside.

    It holds ``state`` (running, done, failed, stopped), ``num_timesteps``, ``total``, ``mean_return`` (of the last training
    episodes, null before the first) and ``seconds``.

    :param folder: of the run
    :param model: the agent, known also of a run that fails before its first step
    :param total: environment steps at which training ends
    """

    def __init__(self, folder: RunFolder, model: BaseAlgorithm, total: int) -> None:
        super().__init__()
        self.folder = folder
        self.model = model
        self.total = total
        self._started = self._written = time.monotonic()

    def _on_training_start(self) -> None:
        self._started = time.monotonic()
        self.write("running")

    def _on_step(self) -> bool:
        if time.monotonic() - self._written > 1.0:
            self.write("running")
        return True

    def write(self, state: str) -> None:
        """Write the file, so that nobody reads half of it."""
        self._written = time.monotonic()
        returns = [episode["r"] for episode in self.model.ep_info_buffer or ()]
        status = {
            "state": state,
            "num_timesteps": self.model.num_timesteps,
            "total": self.total,
            "mean_return": sum(returns) / len(returns) if returns else None,
            "seconds": round(self._written - self._started, 1),
        }
        write_text(self.folder.status, json.dumps(status) + "\n")


class SaveBetweenRollouts(BaseCallback):
    """Saves the agent every ``save_freq`` steps, at the first moment when all steps counted have been learned from.

    SB3's ``CheckpointCallback`` fires within a rollout: what it saves has counted steps whose update never comes.

    :param save_freq: environment steps, over all environments together
    :param folder: of the run; files are ``checkpoints/rl_model_<steps>_steps.zip``
    """

    def __init__(self, save_freq: int, folder: RunFolder) -> None:
        super().__init__()
        self.save_freq = save_freq
        self.folder = folder
        self._saved_at = 0

    def _on_training_start(self) -> None:
        self._saved_at = self.model.num_timesteps

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps - self._saved_at >= self.save_freq:
            self._saved_at = self.model.num_timesteps
            self.folder.checkpoints.mkdir(exist_ok=True)
            file = self.folder.checkpoints / f"rl_model_{self._saved_at}_steps.zip"
            save_model(self.model, file, self.folder)

    def _on_step(self) -> bool:
        return True


class _EvaluationCutShort(Exception):
    """A signal came during an evaluation."""


class _SaveBest(BaseCallback):
    """Saves the agent when an evaluation was better than all before."""

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self.folder = folder

    def _on_step(self) -> bool:
        save_model(self.model, self.folder.best_model, self.folder)
        return True


class Evaluate(EvalCallback):
    """SB3's evaluation during training, with three additions.

    The last agent is evaluated too, if half of ``eval_freq`` or more has passed since the evaluation before: closer points
    would weigh too much in a learning curve. A signal cuts an evaluation short; and the best agent is saved whole or not at
    all.

    :param eval_env: environments of their own, wrapped like those of training
    :param eval_freq: environment steps between evaluations, over all training environments together
    :param folder: of the run
    :param stopwatch: counts the time as that of evaluations
    """

    def __init__(
        self,
        eval_env: VecEnv,
        eval_freq: int,
        n_eval_episodes: int,
        folder: RunFolder,
        stop: StopSignal,
        verbose: int,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        super().__init__(
            eval_env,
            callback_on_new_best=_SaveBest(folder),
            n_eval_episodes=n_eval_episodes,
            eval_freq=eval_freq,
            log_path=str(folder.path),
            deterministic=True,
            verbose=verbose,
        )
        self.stop = stop
        self.stopwatch = stopwatch or Stopwatch()
        self._evaluated_at: int | None = None

    def _init_callback(self) -> None:
        with warnings.catch_warnings():  # one process each, or all in one: how they are stepped is no difference
            warnings.filterwarnings("ignore", "Training and eval env are not of the same type")
            super()._init_callback()
        # SB3 counts calls, one for each step of all environments at once.
        self.eval_freq = max(self.eval_freq // self.training_env.num_envs, 1)

    def _on_step(self) -> bool:
        if self.n_calls % self.eval_freq != 0:
            return True
        try:
            self._evaluated_at = self.num_timesteps
            with self.stopwatch.aside("evaluate"):
                return super()._on_step()
        except _EvaluationCutShort:
            return False

    def _log_success_callback(self, locals_: dict[str, Any], globals_: dict[str, Any]) -> None:
        if self.stop.received is not None:
            raise _EvaluationCutShort
        super()._log_success_callback(locals_, globals_)

    def _on_training_end(self) -> None:
        half = self.eval_freq * self.training_env.num_envs / 2
        if self.stop.received is None and (self._evaluated_at is None or self.num_timesteps - self._evaluated_at >= half):
            self.eval_freq = 1  # due at any call
            self._on_step()

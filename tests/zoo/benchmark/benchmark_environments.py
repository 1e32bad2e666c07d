"""A callback that counts trainings, and holds one of them until it is let go."""

import time
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback


class Count(BaseCallback):
    """Writes a line when a training begins; while a file ``hold`` names the seed, training waits after its first step.

    All in the current folder.
    """

    def _on_training_start(self) -> None:
        with Path("trainings.txt").open("a") as file:
            file.write(f"{type(self.model).__name__}/{self.model.seed}\n")

    def _on_step(self) -> bool:
        hold = Path("hold")
        while hold.is_file() and hold.read_text() == str(self.model.seed):
            Path("held").touch()
            time.sleep(0.05)
        if Path(f"fail_{self.model.seed}").is_file():
            raise RuntimeError("the ledger is on fire")
        return True

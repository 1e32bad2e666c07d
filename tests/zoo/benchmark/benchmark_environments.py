"""A callback that counts trainings, and holds one of them until it is let go."""

import os
import time
from pathlib import Path

from stable_baselines3.common.callbacks import BaseCallback


class Count(BaseCallback):
    """Writes a line when a training begins; while a file ``hold`` names the seed, training waits after its first step."""

    def _on_training_start(self) -> None:
        with Path(os.environ["COUNT_TRAININGS"]).open("a") as file:
            file.write(f"{type(self.model).__name__}/{self.model.seed}\n")

    def _on_step(self) -> bool:
        hold = Path(os.environ["COUNT_TRAININGS"]).with_name("hold")
        while hold.is_file() and hold.read_text() == str(self.model.seed):
            hold.with_name("held").touch()
            time.sleep(0.05)
        if Path(os.environ["COUNT_TRAININGS"]).with_name(f"fail_{self.model.seed}").is_file():
            raise RuntimeError("the ledger is on fire")
        return True

"""One update of PPO on a rollout of Breakout, beside SB3's on the same rollout: how the changes of the weights agree.

    python benchmarks/breakout_update.py              # plain gradient descent, one minibatch of the whole rollout
    python benchmarks/breakout_update.py --model logs/ppo/BreakoutNoFrameskip-v4_1/last_model.zip    # of a trained agent

The games are played by :func:`rlspo.envs.atari.make_atari_vec_env` with lost lives as ends, the rollout is read from the
buffer that keeps each frame once, and the update is compiled. Prints the cosine between both changes and the ratio of their
lengths.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack
from torch.nn.functional import cosine_similarity

import rlspo
from rlspo.envs.atari import make_atari_vec_env

GAME, COPIES, STEPS = "BreakoutNoFrameskip-v4", 8, 128
SETTINGS: dict[str, Any] = {
    "n_steps": STEPS,
    "batch_size": COPIES * STEPS,  # so that the order within a batch does not count
    "n_epochs": 1,
    "learning_rate": 1e-2,
    "clip_range": 0.1,
    "ent_coef": 0.01,
    "seed": 1,
    "device": "cpu",
    "policy_kwargs": {"optimizer_class": torch.optim.SGD},
}


class Steps(BaseCallback):
    """What the agent saw, did and got, as the callback's locals tell it."""

    def _on_rollout_start(self) -> None:
        self.rows: list[tuple[np.ndarray, ...]] = []
        self.seen, self.starts = np.array(self.model._last_obs), np.array(self.model._last_episode_starts, dtype=float)

    def _on_step(self) -> bool:
        told = self.locals
        self.rows.append((self.seen, np.array(told["actions"]).reshape(COPIES, 1), np.array(told["rewards"]), self.starts))
        self.seen, self.starts = np.array(told["new_obs"]), np.array(told["dones"], dtype=float)
        return True


def reference(steps: Steps, weights: dict[str, torch.Tensor], peer: stable_baselines3.PPO) -> dict[str, torch.Tensor]:
    """Weights after SB3's update on what the agent has just played."""
    peer.policy.load_state_dict({name: weights[name] for name in peer.policy.state_dict()})
    buffer = peer.rollout_buffer
    buffer.reset()
    with torch.no_grad():
        for seen, actions, rewards, starts in steps.rows:
            values, log_probs, _ = peer.policy.evaluate_actions(torch.as_tensor(seen), torch.as_tensor(actions[:, 0]))
            buffer.add(seen, actions, rewards, starts, values, log_probs)
        buffer.compute_returns_and_advantage(peer.policy.predict_values(torch.as_tensor(steps.seen)), steps.starts)
    peer.train()
    return {name: tensor.detach().clone() for name, tensor in peer.policy.named_parameters()}


def compare(precision: str, rollouts: int, trained: str | None) -> None:
    """Print the agreement after each rollout.

    :param trained: file of an agent to begin from
    """
    model = rlspo.PPO("CnnPolicy", make_atari_vec_env(GAME, COPIES, seed=3), precision=precision, compile=True, **SETTINGS)
    if trained is not None:
        model.policy.load_state_dict(rlspo.PPO.load(trained, device="cpu").policy.state_dict())
    peer = stable_baselines3.PPO("CnnPolicy", VecFrameStack(make_atari_env(GAME, COPIES, seed=3), 4), **SETTINGS)
    peer.learn(0)  # gives it a logger
    steps, own = Steps(), model.train

    def train() -> None:
        before = {name: tensor.detach().clone() for name, tensor in model.policy.state_dict().items()}
        expected = reference(steps, before, peer)
        own()
        for name, tensor in expected.items():
            if name.endswith("weight"):
                ours = (model.policy.state_dict()[name] - before[name]).flatten().double()
                theirs = (tensor - before[name]).flatten().double()
                ratio = float(ours.norm() / theirs.norm())
                print(f"{precision:8} {name:34} cosine {float(cosine_similarity(ours, theirs, 0)):.5f}, lengths {ratio:.4f}")

    model.train = train  # type: ignore[method-assign]
    model.learn(rollouts * COPIES * STEPS, callback=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=3)
    parser.add_argument("--model", help="weights to begin from (default: new ones)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for precision in ("float32", "auto"):
        compare(precision, args.rollouts, args.model)


if __name__ == "__main__":
    main()

"""One update of PPO on a rollout of Breakout, beside SB3's on the same rollout: how the changes of the weights agree.

    python benchmarks/breakout_update.py              # plain gradient descent, one minibatch of the whole rollout
    python benchmarks/breakout_update.py --model logs/ppo/BreakoutNoFrameskip-v4_1/last_model.zip    # of a trained agent
    python benchmarks/breakout_update.py --adam                      # four epochs of minibatches with Adam, as in training
    python benchmarks/breakout_update.py --adam --apart              # and no weights are set back between rollouts

The games are played by :func:`rlspo.envs.atari.make_atari_vec_env` with lost lives as ends, the rollout is read from the
buffer that keeps each frame once, and the update is compiled. Prints the cosine between both changes and the ratio of their
lengths. With ``--adam`` both take the minibatches in the same order, and since sixteen such steps magnify the last bits of a
number, SB3 is compared with itself as well, from weights that are a millionth off. With ``--apart`` SB3's two agents keep
their own weights from rollout to rollout, while they are told the same games, actions and orders: how far they get from
rlspo's, and from each other.
"""

from __future__ import annotations

import argparse
from typing import Any
from unittest import mock

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


ADAM: dict[str, Any] = {**SETTINGS, "batch_size": 256, "n_epochs": 4, "learning_rate": 2.5e-4, "policy_kwargs": None}


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


def reference(
    steps: Steps, weights: dict[str, torch.Tensor] | None, peer: stable_baselines3.PPO, orders: list[np.ndarray]
) -> dict[str, torch.Tensor]:
    """Weights after SB3's update on what the agent has just played.

    :param weights: to begin from; None for those that it has
    :param orders: of the rows in each epoch, step by step; SB3 has them environment by environment
    """
    if weights is not None:
        peer.policy.load_state_dict({name: weights[name] for name in peer.policy.state_dict()})
    buffer = peer.rollout_buffer
    buffer.reset()
    with torch.no_grad():
        for seen, actions, rewards, starts in steps.rows:
            values, log_probs, _ = peer.policy.evaluate_actions(torch.as_tensor(seen), torch.as_tensor(actions[:, 0]))
            buffer.add(seen, actions, rewards, starts, values, log_probs)
        buffer.compute_returns_and_advantage(peer.policy.predict_values(torch.as_tensor(steps.seen)), steps.starts)
    turns = iter(orders)
    with mock.patch("numpy.random.permutation", lambda size: (rows := next(turns)) % COPIES * STEPS + rows // COPIES):
        peer.train()
    return {name: tensor.detach().clone() for name, tensor in peer.policy.named_parameters()}


def agreement(changed: torch.Tensor, before: torch.Tensor, reached: torch.Tensor, start: torch.Tensor) -> str:
    """Of two changes, in words."""
    one, other = ((after - was).flatten().double() for after, was in ((changed, before), (reached, start)))
    return f"cosine {float(cosine_similarity(one, other, 0)):.5f}, lengths {float(one.norm() / other.norm()):.4f}"


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Of all weights, as a share of their length."""
    apart = sum(float((one[name] - tensor).double().square().sum()) for name, tensor in other.items())
    return (apart / sum(float(tensor.double().square().sum()) for tensor in other.values())) ** 0.5


def compare(precision: str, rollouts: int, trained: str | None, settings: dict[str, Any], apart: bool = False) -> None:
    """Print the agreement after each rollout.

    :param trained: file of an agent to begin from
    :param settings: :data:`SETTINGS` or :data:`ADAM`
    :param apart: set no weights back after the first rollout
    """
    model = rlspo.PPO("CnnPolicy", make_atari_vec_env(GAME, COPIES, seed=3), precision=precision, compile=True, **settings)
    if trained is not None:
        model.policy.load_state_dict(rlspo.PPO.load(trained, device="cpu").policy.state_dict())
    peers = [
        stable_baselines3.PPO("CnnPolicy", VecFrameStack(make_atari_env(GAME, COPIES, seed=3), 4), **settings)
        for _ in range(2)
    ]
    for peer in peers:
        peer.learn(0)  # gives it a logger
    steps, own, drawn = Steps(), model.train, model.minibatches
    orders: list[np.ndarray] = []

    def minibatches() -> list[np.ndarray]:
        found = drawn()
        orders.append(np.concatenate(found))
        return found

    def train() -> None:
        before = {name: tensor.detach().clone() for name, tensor in model.policy.state_dict().items()}
        orders.clear()
        own()
        again = apart and model.num_timesteps > COPIES * STEPS
        expected, now = reference(steps, None if again else before, peers[0], orders), model.policy.state_dict()
        if settings is ADAM:
            off = {name: tensor * (1 + 1e-6 * torch.randn(tensor.shape)) for name, tensor in before.items()}
            reached = reference(steps, None if again else off, peers[1], orders)
        if apart:
            rest = f"SB3 from itself {distance(reached, expected):.1e}"
            print(f"{precision:8} step {model.num_timesteps:6}: rlspo from SB3 {distance(now, expected):.1e}, {rest}")
            return
        for name, tensor in expected.items():
            if name.endswith("weight"):
                print(f"{precision:8} {name:34} {agreement(now[name], before[name], tensor, before[name])}", end="")
                print(f"; SB3 itself: {agreement(reached[name], off[name], tensor, before[name])}" if settings is ADAM else "")

    model.train, model.minibatches = train, minibatches  # type: ignore[method-assign]
    model.learn(rollouts * COPIES * STEPS, callback=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=3)
    parser.add_argument("--adam", action="store_true", help="as in training")
    parser.add_argument("--apart", action="store_true", help="set no weights back between rollouts; with --adam")
    parser.add_argument("--model", help="weights to begin from (default: new ones)")
    args = parser.parse_args()
    if args.apart and not args.adam:
        parser.error("--apart needs --adam")
    torch.set_num_threads(1)
    for precision in ("float32", "auto"):
        compare(precision, args.rollouts, args.model, ADAM if args.adam else SETTINGS, args.apart)


if __name__ == "__main__":
    main()

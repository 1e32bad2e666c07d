"""How many Python functions lie between an observation and a gradient: what a reader of an agent has to follow.

    python benchmarks/trace_update.py            # a table
    python benchmarks/trace_update.py --list PPO # the functions of one agent, by file

Counted are the distinct functions of rlspo and of SB3 that run while an agent collects one rollout (SAC: one step) and
learns from it, eagerly. A function that runs often counts once, lambdas count, comprehensions do not.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import stable_baselines3
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

import rlspo

Function = tuple[str, str, int]
FOLDERS = [str(Path(package.__file__ or "").parent) for package in (rlspo, stable_baselines3)]
POST_DECISION = "rlspo/FrozenLakePostDecision-v0"


def on_policy(agent: type, policy: str = "MlpPolicy", env: str = "Pendulum-v1", **kwargs: Any) -> Callable[[], Any]:
    return lambda: agent(policy, env, n_steps=64, batch_size=64, n_epochs=1, device="cpu", seed=0, **kwargs)


def off_policy(agent: type, policy: str = "MlpPolicy", **kwargs: Any) -> Callable[[], Any]:
    return lambda: agent(policy, "Pendulum-v1", learning_starts=10, batch_size=16, device="cpu", seed=0, **kwargs)


AGENTS: dict[str, Callable[[], Any]] = {
    "SB3 PPO": on_policy(stable_baselines3.PPO),
    "PPO": on_policy(rlspo.PPO, compile=False),
    "PPO, mixture": on_policy(rlspo.PPO, "MoeMlpPolicy", compile=False),
    "ARPO": on_policy(rlspo.ARPO, compile=False),
    "BARPO": on_policy(rlspo.BARPO, compile=False),
    "PDPPO": on_policy(rlspo.PDPPO, env=POST_DECISION, compile=False),
    "SB3 SAC": off_policy(stable_baselines3.SAC),
    "SAC": off_policy(rlspo.SAC, compile=False),
    "SAC, mixture": off_policy(rlspo.SAC, "MoeMlpPolicy", compile=False),
}


class Trace:
    """Notes the functions that run within it."""

    def __init__(self) -> None:
        self.functions: set[Function] = set()

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and not code.co_name.endswith(("comp>", "genexpr>")):
            self.functions.add((code.co_filename, code.co_qualname, code.co_firstlineno))

    def __enter__(self) -> Trace:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)


def functions(agent: Any) -> list[set[Function]]:
    """rlspo's and SB3's functions of one rollout and one update, of an agent that has done both before."""
    agent.learn(64)  # what happens once only is no part of it
    _, callback = agent._setup_learn(64, None, reset_num_timesteps=False)
    trace = Trace()
    if isinstance(agent, OffPolicyAlgorithm):
        with trace:
            agent.collect_rollouts(agent.env, callback, agent.train_freq, agent.replay_buffer)
            agent.train(1, 16)
    else:
        with trace:
            agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, agent.n_steps)
            agent.train()
    return [{one for one in trace.functions if one[0].startswith(folder)} for folder in FOLDERS]


def counts(found: list[set[Function]]) -> list[int]:
    """Functions and files: both packages' together, rlspo's, and SB3's."""
    return [number for some in (set().union(*found), *found) for number in (len(some), len({file for file, *_ in some}))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", metavar="AGENT", choices=AGENTS, help="print the functions of one agent")
    chosen = parser.parse_args().list
    if chosen:
        for file, name, line in sorted(set().union(*functions(AGENTS[chosen]()))):
            print(f"{file}:{line} {name}")
        return
    print("| agent | functions | files | rlspo's | files | SB3's | files |\n|---|---|---|---|---|---|---|")
    for name, make in AGENTS.items():
        print("| " + " | ".join([name, *map(str, counts(functions(make())))]) + " |")


if __name__ == "__main__":
    main()

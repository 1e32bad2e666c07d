"""How many of several equally good goals an agent learns: rlspo/MultiGoal-v0, one Gaussian against mixtures of experts.

    python benchmarks/multi_goal.py train --jobs 2      # trains what is missing
    python benchmarks/multi_goal.py report              # table and picture from what is there

Every walk begins in the middle, equally far from all goals: there one state has several good actions. (With random starts the
position determines the nearest goal, and a Gaussian whose mean changes sharply can reach all goals.) A trained agent plays 200
episodes with sampled actions, and as many with its deterministic ones. A goal counts as known where at least 5 % of the walks
end at it. Results are in zoo/results/multi_goal, one file for each agent and seed, with the first walks for the picture.
"""

from __future__ import annotations

import argparse
import json
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from PIL import Image, ImageDraw

import rlspo
from rlspo.envs.multi_goal import MultiGoalEnv
from rlspo.envs.multi_goal_picture import draw_plane

HERE = Path(__file__).parents[1]
RESULTS, TABLE = HERE / "zoo/results/multi_goal", HERE / "docs/_results/multi_goal.md"
PICTURE = HERE / "docs/_static/multi_goal.png"
ENV, WALKS, KNOWN, DRAWN = "rlspo/MultiGoal-v0", 200, 0.05, 24
ENVIRONMENT = {"start_spread": 0.0}
SAC: dict[str, Any] = {"learning_starts": 1000, "policy_kwargs": {"net_arch": [128, 128]}}
#: One rollout of 8 environments holds about 200 walks.
PPO: dict[str, Any] = {"n_steps": 256, "batch_size": 256, "ent_coef": 0.02, "gamma": 0.97}
STEPS = {"SAC": 30_000, "PPO": 400_000}


def moe(**kwargs: Any) -> dict[str, Any]:
    return {"policy": "MoeMlpPolicy", "policy_kwargs": kwargs}


PUBLISHED = moe(primitive_update="max", entropy_of="component", routing_loss="squared_error", initial_spread=0.0)
#: An entropy that counts: the weight that SAC learns falls until one goal has all the entropy that it asks for.
FIXED = {"ent_coef": 0.3}

#: Name in the table: agent and settings beyond those above.
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "SAC": ("SAC", {}),
    "MoE-SAC, max, component (published)": ("SAC", PUBLISHED),
    "MoE-SAC, max": ("SAC", moe(primitive_update="max")),
    "MoE-SAC, all": ("SAC", moe(primitive_update="all")),
    "MoE-SAC, marginal": ("SAC", moe(routing="marginal")),
    "MoE-SAC, score": ("SAC", moe(routing="score")),
    "MoE-SAC, gumbel": ("SAC", moe(routing="gumbel")),
    "SAC, ent_coef 0.3": ("SAC", FIXED),
    "MoE-SAC, max, component (published), ent_coef 0.3": ("SAC", {**PUBLISHED, **FIXED}),
    "MoE-SAC, max, ent_coef 0.3": ("SAC", {**moe(primitive_update="max"), **FIXED}),
    "MoE-SAC, all, ent_coef 0.3": ("SAC", {**moe(primitive_update="all"), **FIXED}),
    "MoE-SAC, marginal, ent_coef 0.3": ("SAC", {**moe(routing="marginal"), **FIXED}),
    "PPO": ("PPO", {}),
    "MoE-PPO, frequency, all (published)": ("PPO", moe(routing="frequency", routing_loss="squared_error", initial_spread=0.0)),
    "MoE-PPO, frequency, all": ("PPO", moe(routing="frequency")),
    "MoE-PPO, frequency, max": ("PPO", moe(routing="frequency", primitive_update="max")),
    "MoE-PPO, marginal": ("PPO", moe(routing="marginal")),
    "MoE-PPO, score": ("PPO", moe(routing="score")),
    "MoE-PPO, gumbel": ("PPO", moe(routing="gumbel")),
    "PPO, ent_coef 0.3": ("PPO", FIXED),
    "MoE-PPO, marginal, ent_coef 0.3": ("PPO", {**moe(routing="marginal"), **FIXED}),
}

#: Rows of the picture, with titles by the names in the table; PPO's mixtures all walk alike.
DRAWN_AGENTS: list[dict[str, str]] = [
    {
        agent: agent.removesuffix(", ent_coef 0.3").replace("max, component (published)", "published")
        for agent, (algorithm, settings) in AGENTS.items()
        if algorithm == "SAC" and ("ent_coef" in settings) == fixed
    }
    for fixed in (False, True)
] + [{"PPO": "PPO", "MoE-PPO, frequency, all (published)": "MoE-PPO, published", "MoE-PPO, marginal": "MoE-PPO, marginal"}]
ROW_TITLES = ("the weight of the entropy is learned", "ent_coef=0.3", "PPO, ent_coef=0.02")


def train(agent: str, seed: int) -> None:
    """Train one agent with one seed, play with it, and write the results."""
    torch.set_num_threads(1)
    name, own = AGENTS[agent]
    base = SAC if name == "SAC" else PPO
    settings = {"policy": "MlpPolicy", **base, **own}
    settings["policy_kwargs"] = {**base.get("policy_kwargs", {}), **own.get("policy_kwargs", {})}
    env = gym.make_vec(ENV, 8, vectorization_mode="sync", **ENVIRONMENT) if name == "PPO" else gym.make(ENV, **ENVIRONMENT)
    model = getattr(rlspo, name)(env=env, seed=seed, device="cpu", **settings).learn(STEPS[name])
    walks = {kind: walk(model, deterministic=kind == "deterministic") for kind in ("sampled", "deterministic")}
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / file_name(agent, seed)
    path.with_suffix(".part").write_text(json.dumps({"agent": agent, "seed": seed, "steps": STEPS[name], **walks}) + "\n")
    path.with_suffix(".part").rename(path)


def walk(model: Any, deterministic: bool) -> dict[str, Any]:
    """Share of the walks that end at each goal, mean return and the first ways."""
    env: Any = gym.make(ENV, **ENVIRONMENT)
    ends, returns, ways = np.zeros(len(env.unwrapped.goals)), [], []
    model.policy.generator = torch.Generator().manual_seed(0)
    for episode in range(WALKS):
        seen, _ = env.reset(seed=episode)
        way, total, over = [seen], 0.0, False
        while not over:
            action, _ = model.predict(seen, deterministic=deterministic)
            seen, reward, terminated, truncated, info = env.step(action)
            way.append(seen)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
        if "goal" in info:
            ends[info["goal"]] += 1
        ways.append(np.round(way, 2).tolist())
    return {"goals": (ends / WALKS).tolist(), "return": float(np.mean(returns)), "ways": ways[:DRAWN]}


def file_name(agent: str, seed: int) -> str:
    return f"{agent.lower().replace(', ', '_').replace(' ', '_').replace('(', '').replace(')', '')}_{seed}.json"


def known(shares: list[float]) -> int:
    """How many goals an agent has learned."""
    return sum(share >= KNOWN for share in shares)


def entropy(shares: list[float]) -> float:
    """Of the goals at which walks end, in nats; walks that end at none are left out."""
    total = sum(shares)
    return -sum(share / total * math.log(share / total) for share in shares if share > 0)


def report() -> None:
    """Table and picture."""
    rows = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    if not rows:
        raise SystemExit(f"{RESULTS} holds no results: train first.")
    lines = [
        "| agent | steps | seeds | goals known, sampled | deterministic | entropy of the ends (of at most ln 4 = 1.39) "
        "| return, sampled | deterministic |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ways = {}
    for agent in AGENTS:
        mine = [row for row in rows if row["agent"] == agent]
        if not mine:
            continue
        counts = {kind: [known(row[kind]["goals"]) for row in mine] for kind in ("sampled", "deterministic")}
        means = {kind: float(np.mean([row[kind]["return"] for row in mine])) for kind in ("sampled", "deterministic")}
        spread = np.mean([entropy(row["sampled"]["goals"]) for row in mine])
        found = {kind: ", ".join(map(str, numbers)) for kind, numbers in counts.items()}
        lines.append(
            f"| {agent} | {mine[0]['steps']:,} | {len(mine)} | {found['sampled']} | {found['deterministic']} "
            f"| {spread:.2f} | {means['sampled']:.2f} | {means['deterministic']:.2f} |"
        )
        ways[agent] = mine[0]["sampled"]["ways"]
    TABLE.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    draw(ways)


def draw(ways: dict[str, list[Any]]) -> None:
    """One plane for each agent that is drawn, with its first walks."""
    from rlspo.envs.drawing import INK, Canvas

    size, gap, head = 200, 8, 24
    cell, row_height = size + gap, size + 2 * head + gap
    canvas = Image.new("RGB", (max(map(len, DRAWN_AGENTS)) * cell + gap, len(DRAWN_AGENTS) * row_height), "white")
    goals = MultiGoalEnv().goals

    def write(text: str, place: tuple[int, int], font: int) -> None:
        strip = Canvas(4 * size if font > 12 else size, head)
        strip.text((0, head / 2), text, font, INK)
        canvas.paste(Image.fromarray(strip.pixels()), place)

    for row, (title, agents) in enumerate(zip(ROW_TITLES, DRAWN_AGENTS, strict=True)):
        y = row * row_height
        write(title, (gap, y), 14)
        for column, (agent, name) in enumerate(agents.items()):
            x = gap + column * cell
            write(name, (x, y + head), 12)
            taken = [np.array(way) for way in ways.get(agent, [])]
            plane = draw_plane(goals, taken, MultiGoalEnv.HALF_WIDTH, MultiGoalEnv.REACH, size)
            canvas.paste(Image.fromarray(plane), (x, y + 2 * head))
            ImageDraw.Draw(canvas).rectangle((x, y + 2 * head, x + size - 1, y + 2 * head + size - 1), outline="#b8c0c6")
    PICTURE.parent.mkdir(exist_ok=True)
    canvas.save(PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "report"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="trainings that run at once")
    args = parser.parse_args()
    if args.command == "train":
        missing = [(agent, seed) for seed in args.seeds for agent in AGENTS if not (RESULTS / file_name(agent, seed)).exists()]
        with ProcessPoolExecutor(args.jobs) as pool:
            for job in [pool.submit(train, *one) for one in missing]:
                job.result()
    report()


if __name__ == "__main__":
    main()

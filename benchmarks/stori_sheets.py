"""Contact sheets of STORI: what the agent sees under each mode that hides something, and what the noise of each game does.

    python benchmarks/stori_sheets.py docs/_static/stori

Writes two pictures for each of the four games.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from rlspo.envs.stori import Stori, make_game
from rlspo.envs.stori.effects import Effect
from rlspo.envs.stori.games import BLACKOUTS, GAME_EFFECTS, PREVIEWS
from rlspo.envs.stori.masks import CROPS
from rlspo.envs.stori.modes import Moded

GAMES = {"breakout": "Breakout", "boxing": "Boxing", "gopher": "Gopher", "bank_heist": "Bank Heist"}
#: Steps of play before the pictures of hidden things.
WARM_UP = {"breakout": 45, "boxing": 60, "gopher": 150, "bank_heist": 110}
#: Steps within which the noise of a game is to act.
PATIENCE = 1500
TITLE, GAP, COLUMNS = 26, 8, 7


def action_for(env: Stori, random: np.random.Generator, held: int) -> int:
    """Follow the ball in Breakout; elsewhere actions are drawn and held."""
    ram = env.emulator.ale.getRAM()
    if env.emulator.now.game == "breakout":
        return 1 if ram[101] == 0 else 3 if int(ram[99]) < int(ram[72]) + 8 else 2
    return int(random.integers(env.action_space.n)) if env.emulator.now.step % 2 == 0 else held


def hidden(game: str, effect: str, mode: Any) -> np.ndarray:
    """What the agent sees after a fixed play."""
    profile = {"type": "3.1"} if effect == "none" else {"type": "3.2", "effect": effect, "mode": mode, "probability": 1}
    env = make_game(game, profile=profile)
    assert isinstance(env, Stori)
    env.reset(seed=3)
    random, action = np.random.default_rng(3), 0
    for _ in range(WARM_UP[game]):
        action = action_for(env, random, action)
        seen = env.step(action)[0]
    return seen


def before_and_after(game: str, mode: str) -> tuple[np.ndarray, np.ndarray, str]:
    """True screens around the first time that noise acts, and what was earned then."""
    profile = {"type": "2.1", "effect": "game", "mode": mode, "probability": 1}
    # Events that need an agent's doing are awaited; the others strike after some play.
    env = make_game(game, profile=profile, pool=False)
    assert isinstance(env, Stori)
    env.reset(seed=1)
    random, action = np.random.default_rng(1), 0
    for source in env.emulator.sources:
        chance, source.concept = source.concept, type(source.concept)("2.1", "game", 0.0)
    for step in range(PATIENCE):
        if step == WARM_UP[game]:
            for source in env.emulator.sources:
                source.concept = chance
        earlier = env.emulator.ale.getScreenRGB()
        action = action_for(env, random, action)
        _, reward, over, *_, info = env.step(action)
        if info["stori"]["perturbed"]:
            told = f"reward {reward:g} of {info['stori']['reward']:g}"
            # Written into the memory, it shows in the next frames.
            for source in env.emulator.sources:
                source.concept = type(source.concept)("2.1", "game", 0.0)
            env.step(0)
            return earlier, env.emulator.ale.getScreenRGB(), told
        if over:
            env.reset()
    raise RuntimeError(f"{game} {mode}: nothing happened in {PATIENCE} steps.")


def sheet(pictures: list[tuple[str, np.ndarray]], columns: int, heading: str) -> Image.Image:
    """Pictures with titles in a grid."""
    width, height = 160, 210
    rows = math.ceil(len(pictures) / columns)
    image = Image.new("RGB", (columns * (width + GAP) + GAP, 30 + rows * (height + TITLE + GAP)), "white")
    draw = ImageDraw.Draw(image)
    draw.text((GAP, 6), heading, "black", ImageFont.load_default(17))
    for place, (title, picture) in enumerate(pictures):
        row, column = divmod(place, columns)
        left, top = GAP + column * (width + GAP), 30 + row * (height + TITLE + GAP)
        fits = next(font for size in range(12, 5, -1) if (font := ImageFont.load_default(size)).getlength(title) <= width)
        draw.text((left, top + 6), title, "black", fits)
        image.paste(Image.fromarray(picture), (left, top + TITLE))
    return image


def main() -> None:
    """Draw all sheets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs/_static/stori"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for game, name in GAMES.items():
        pictures = [("the true screen", hidden(game, "none", None))]
        tables = {"blackout": modes_of(BLACKOUTS[game]["blackout"]), "crop": CROPS, "ram": modes_of(PREVIEWS[game]["ram"])}
        for effect, modes in tables.items():
            for number, mode in modes.items():
                pictures.append((f"{effect} {number}: {mode.replace('_', ' ')}", hidden(game, effect, mode)))
        save(sheet(pictures, COLUMNS, f"{name}, type 3.2: what the agent sees"), folder / f"{game}_hidden.png")
        pictures = []
        for number, mode in modes_of(GAME_EFFECTS[game]["game"]).items():
            before, after, told = before_and_after(game, mode)
            pictures += [(f"{number}: {mode.replace('_', ' ')}", before), (f"... after ({told})", after)]
        save(sheet(pictures, 4, f"{name}, type 2.1: before and after"), folder / f"{game}_noise.png")


def modes_of(effect: type[Effect]) -> dict[int, str]:
    """Names by number."""
    assert issubclass(effect, Moded)
    return effect.modes


def save(image: Image.Image, file: Path) -> None:
    """Few colours make small files."""
    image.quantize(64, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main()

"""Files that were damaged or tampered with, in ways that a seed decides."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What may stand where a value was, in text.
WORDS = (
    "1e999",
    "-1",
    "0",
    "9" * 300,
    "9" * 30,
    ".nan",
    "NaN",
    "Infinity",
    "null",
    "true",
    "''",
    "[]",
    "{}",
    "[1, [2, [3]]]",
    '"text"',
    "evil_module.Thing",
    "evil_module:Env-v0",
    "os.system",
    "--trust=*",
    "!!python/object/apply:os.system ['touch ran']",
    "&a [*a]",
    "[" * 200,
    "x" * 3000,
    "\u0000",
    "2001-02-30",
    "1:2:3",
)


def mutate_bytes(data: bytes, dice: random.Random) -> bytes:
    """A flipped bit, a lost, doubled or foreign piece, or an early end."""
    at = dice.randrange(len(data) + 1)
    end = min(len(data), at + dice.choice((1, 4, 40, 400)))
    return dice.choice(
        (
            lambda: data[:at],
            lambda: data[:at] + data[end:],
            lambda: data[:end] + data[at:end] + data[end:],
            lambda: data[:at] + dice.randbytes(end - at) + data[end:],
            lambda: data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :] if at < len(data) else b"",
        )
    )()


def mutate_text(data: bytes, dice: random.Random) -> bytes:
    """Half of the time a value or a name is another, else as :func:`mutate_bytes`."""
    if dice.random() < 0.4:
        return mutate_bytes(data, dice)
    lines = data.decode().split("\n")
    at = dice.randrange(len(lines))
    line = lines[at]
    head, colon, _ = line.partition(":")
    word = dice.choice(WORDS)
    lines[at] = dice.choice(
        (
            lambda: f"{head}{colon} {word}",
            lambda: f"{head}{colon} {word},",
            lambda: f"{line[: len(line) - len(line.lstrip())]}{word}{colon} 1",
            lambda: line + "\n" + line,
            lambda: line.replace(",", f",{word},", 1),
            lambda: word,
        )
    )()
    return "\n".join(lines).encode()


def mutate_model(data: bytes, dice: random.Random, folder: Path) -> bytes:
    """Half of the time another setting inside the archive, without its check sums, else as :func:`mutate_bytes`."""
    if dice.random() < 0.4:
        return mutate_bytes(data, dice)
    source, target = folder / "source.zip", folder / "target.zip"
    source.write_bytes(data)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            content = old.read(member)
            if member == "data":
                content = json.dumps(_other_setting(json.loads(content), dice)).encode()
            elif member.endswith(".pth") and dice.random() < 0.2:
                content = mutate_bytes(content, dice)
            if member != "checksums.json":
                new.writestr(member, content)
    changed = target.read_bytes()
    source.unlink()
    target.unlink()
    return changed


def _other_setting(settings: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """One entry that is another, or is not there."""
    key = dice.choice(list(settings))
    pickled = [value for value in settings.values() if isinstance(value, dict) and ":serialized:" in value]
    other: list[Callable[[], Any]] = [
        lambda: None,
        lambda: -1,
        lambda: 10**30,
        lambda: 10**12,
        lambda: float("nan"),
        lambda: "evil_module:Env-v0",
        lambda: [],
        lambda: {},
        lambda: {":serialized:": "AAAA"},
        lambda: dice.choice(pickled),
    ]
    settings[key] = dice.choice(other)()
    if dice.random() < 0.1:
        del settings[key]
    return settings

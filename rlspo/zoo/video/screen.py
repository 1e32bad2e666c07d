"""Whether there is a screen to open a window on. Asking a window library instead may end the process."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

_PATIENCE = 2.0  # seconds
_X11_PORT = 6000  # of display 0


def no_screen() -> str | None:
    """Why no window can be opened; None if one can. Outside Linux there is always a screen."""
    if not sys.platform.startswith("linux"):
        return None
    wayland, x11 = os.environ.get("WAYLAND_DISPLAY"), os.environ.get("DISPLAY")
    if not wayland and not x11:
        return "there is no display (DISPLAY and WAYLAND_DISPLAY are not set)"
    if wayland and _answers(str(Path(os.environ.get("XDG_RUNTIME_DIR", "/"), wayland))):
        return None
    if x11 and any(map(_answers, _x11_addresses(x11))):
        return None
    return f"the display {wayland or x11} does not answer"


def _x11_addresses(display: str) -> list[str | tuple[str, int]]:
    """Where an X server listens; empty for a name of another form.

    >>> _x11_addresses("localhost:10.0")
    [('localhost', 6010)]
    """
    host, _, rest = display.rpartition(":")
    number = rest.partition(".")[0]
    if not number.isdecimal():
        return []
    if host in ("", "unix"):
        path = f"/tmp/.X11-unix/X{number}"
        return [path, f"\0{path}"]
    return [(host, _X11_PORT + int(number))]


def _answers(address: str | tuple[str, int]) -> bool:
    """Whether a server listens at a socket path (a leading zero byte: Linux's abstract sockets) or at a host's port."""
    kind = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    try:
        with socket.socket(kind, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(address)
    except (OSError, ValueError):
        return False
    return True

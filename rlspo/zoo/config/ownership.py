"""Which run folders this user has made: a token in the folder that only this user's key produces.

The path of a folder proves nothing, since a cloned repository may contain its own ``logs``. So ``rlspo train`` writes the HMAC
(a keyed hash) of ``config.yml`` beside it, by a random key that never leaves the user's state folder. A folder may be moved; a
changed ``config.yml`` loses its token.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path

#: Why a run of one's own may be asked for trust.
NOT_OWN = (
    "You are asked because this run does not carry your token: it was made by another user, on another machine or by an "
    "earlier version of rlspo, or its config.yml was changed."
)
#: In a run folder, beside ``config.yml``.
TOKEN = "owner.txt"
_BYTES = 32


def claim(folder: Path) -> bool:
    """Write the token of a run folder whose ``config.yml`` is written.

    :return: False where this user has no folder for a key: then the run is not recognised as this user's
    """
    key = _key(make=True)
    if key is None:
        return False
    (folder / TOKEN).write_text(_token(key, folder) + "\n", encoding="utf-8")
    return True


def owned(folder: Path) -> bool:
    """Whether this user has made a run folder, and its ``config.yml`` is unchanged."""
    files = folder / TOKEN, folder / "config.yml"
    key = _key(make=False)
    # A link would lend the token of one folder to another.
    if key is None or any(file.is_symlink() or not file.is_file() for file in files):
        return False
    try:
        written = files[0].read_bytes()[: 4 * _BYTES].strip()
        return hmac.compare_digest(written, _token(key, folder).encode())
    except OSError:
        return False


def _token(key: bytes, folder: Path) -> str:
    return hmac.new(key, b"rlspo run\n" + (folder / "config.yml").read_bytes(), hashlib.sha256).hexdigest()


def _key_file() -> Path:
    """The file of the key.

    :raises RuntimeError: for a user without a home
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "rlspo" / "key"


def _key(make: bool) -> bytes | None:
    """The key of this user, None where there is none.

    :param make: create it where it does not exist; processes that do so at the same moment get the same key
    """
    try:
        file = _key_file()
        if make and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial = file.with_name(f"partial_{os.getpid()}_{secrets.token_hex(4)}_key")
            partial.touch(mode=0o600, exist_ok=False)
            try:
                partial.write_bytes(secrets.token_bytes(_BYTES))
                with contextlib.suppress(FileExistsError):
                    os.link(partial, file)
            finally:
                partial.unlink()
        key = file.read_bytes()
    except (OSError, RuntimeError):
        return None
    return key if len(key) == _BYTES else None

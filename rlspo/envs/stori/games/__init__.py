"""What is known of single games: where things lie in memory and on the screen."""

from __future__ import annotations

from rlspo.envs.stori.effects import Effect

#: Type 2.1, by game and name.
GAME_EFFECTS: dict[str, dict[str, type[Effect]]] = {}
#: Type 3.2 by a change of memory, by game and name.
PREVIEWS: dict[str, dict[str, type[Effect]]] = {}

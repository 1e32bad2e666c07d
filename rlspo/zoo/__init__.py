"""The command line of rlspo: training agents, and working with what training produces.

Nothing in the library imports this package.
"""

from importlib.util import find_spec

_MISSING = [name for name in ("matplotlib", "pydantic", "rich", "tqdm", "yaml") if find_spec(name) is None]
if _MISSING:
    raise ModuleNotFoundError(f"The command line of rlspo needs {', '.join(_MISSING)}: pip install 'rlspo[zoo]'")

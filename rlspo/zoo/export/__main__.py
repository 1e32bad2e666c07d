"""``python -m rlspo.zoo.export``: the same as ``rlspo export``."""

import sys

from rlspo.zoo.export.command import main

if __name__ == "__main__":
    sys.exit(main())

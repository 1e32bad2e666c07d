"""Runs ``python -m rlspo.zoo.tune``."""

import sys

from rlspo.zoo.tune.command import main

if __name__ == "__main__":
    sys.exit(main())

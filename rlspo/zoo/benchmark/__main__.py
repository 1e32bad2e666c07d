"""``python -m rlspo.zoo.benchmark``."""

import sys

from rlspo.zoo.benchmark.command import main

if __name__ == "__main__":
    sys.exit(main())

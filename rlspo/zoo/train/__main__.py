"""``python -m rlspo.zoo.train``."""

import sys

from rlspo.zoo.train.command import main

if __name__ == "__main__":
    sys.exit(main())

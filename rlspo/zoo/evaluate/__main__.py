"""``python -m rlspo.zoo.evaluate``."""

import sys

from rlspo.zoo.evaluate.command import main

if __name__ == "__main__":
    sys.exit(main())

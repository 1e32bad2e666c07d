"""``python -m rlspo.zoo.plot``."""

import sys

from rlspo.zoo.plot.command import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m rlspo.zoo.experts``."""

import sys

from rlspo.zoo.experts.command import main

if __name__ == "__main__":
    sys.exit(main())

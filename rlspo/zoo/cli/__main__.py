"""``python -m rlspo.zoo.cli``."""

import sys

from rlspo.zoo.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())

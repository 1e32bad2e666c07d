"""``python -m rlspo``, the same as ``rlspo``."""

import sys

from rlspo.zoo.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m rlspo.zoo.record``."""

import sys

from rlspo.zoo.video.record import main

if __name__ == "__main__":
    sys.exit(main())

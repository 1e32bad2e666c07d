"""``python -m rlspo.zoo.enjoy``."""

import sys

from rlspo.zoo.video.enjoy import main

if __name__ == "__main__":
    sys.exit(main())

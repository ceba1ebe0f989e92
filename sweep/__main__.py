"""`python -m sweep key=value …`: the same as `bigwae sweep key=value …`."""

from __future__ import annotations

import sys

from sweep.command import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))

"""Compose the demo data set; see transavs/tools/prepare_demo.py."""

from transavs.tools.prepare_demo import main

if __name__ == "__main__":
    raise SystemExit(main())

"""Draw ground truth and predictions over the frames of clips; see transavs/tools/visualize.py."""

from transavs.tools.visualize import main

if __name__ == "__main__":
    raise SystemExit(main())

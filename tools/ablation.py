"""Run a grid of trainings with several seeds, and report it; see transavs/tools/ablation.py."""

from transavs.tools.ablation import main

if __name__ == "__main__":
    raise SystemExit(main())

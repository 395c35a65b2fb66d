"""Evaluate a model under true and false sounds; see transavs/tools/eval_robustness.py."""

from transavs.tools.eval_robustness import main

if __name__ == "__main__":
    raise SystemExit(main())

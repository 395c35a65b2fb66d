"""Evaluate a model under true, swapped and no sound; see transavs/tools/evaluate_sound.py."""

from transavs.tools.evaluate_sound import main

if __name__ == "__main__":
    raise SystemExit(main())

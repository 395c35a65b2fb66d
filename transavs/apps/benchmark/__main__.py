"""``python -m transavs.apps.benchmark``."""

from transavs.apps.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())

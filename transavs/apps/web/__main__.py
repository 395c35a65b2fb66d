"""``python -m transavs.apps.web``."""

from transavs.apps.web import main

if __name__ == "__main__":
    raise SystemExit(main())

"""``python -m transavs.apps.export``."""

from transavs.apps.export import main

if __name__ == "__main__":
    raise SystemExit(main())

"""Mark what sounds in a film; see transavs/tools/demo.py."""

from transavs.tools.demo import main

if __name__ == "__main__":
    raise SystemExit(main())

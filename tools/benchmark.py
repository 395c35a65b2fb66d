"""Measure speed, memory and size of a model; see transavs/tools/benchmark.py."""

from transavs.tools.benchmark import main

if __name__ == "__main__":
    raise SystemExit(main())

"""Check data sets in AVSBench's layout; see transavs/tools/check_avsbench.py."""

from transavs.tools.check_avsbench import main

if __name__ == "__main__":
    raise SystemExit(main())

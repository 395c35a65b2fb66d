"""Check and convert published weights; see transavs/tools/convert_checkpoint.py."""

from transavs.tools.convert_checkpoint import main

if __name__ == "__main__":
    raise SystemExit(main())

"""Serve a page on which films can be tried; see transavs/tools/webdemo.py."""

from transavs.tools.webdemo import main

if __name__ == "__main__":
    raise SystemExit(main())

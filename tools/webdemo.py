"""Serve a page on which films can be tried; see transavs/tools/webdemo.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.webdemo import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

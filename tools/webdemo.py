"""Serve a page on which videos can be tried; see transavs/apps/web."""

if __name__ == "__main__":
    try:
        from transavs.apps.web import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

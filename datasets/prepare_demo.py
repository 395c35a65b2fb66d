"""Compose the demo data set; see transavs/tools/prepare_demo.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.prepare_demo import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

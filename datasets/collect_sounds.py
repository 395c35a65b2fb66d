"""Collect recordings and cut-outs for composing scenes; see transavs/tools/collect_sounds.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.collect_sounds import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

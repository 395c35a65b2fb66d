"""Check data sets in AVSBench's layout; see transavs/tools/check_avsbench.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.check_avsbench import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

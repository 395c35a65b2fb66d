"""Measure speed, memory and size of a model; see transavs/tools/benchmark.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.benchmark import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

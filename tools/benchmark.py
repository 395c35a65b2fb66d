"""Measure speed, memory and size of a model; see transavs/apps/benchmark."""

if __name__ == "__main__":
    try:
        from transavs.apps.benchmark import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

"""Mark what sounds in a film; see transavs/tools/demo.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.demo import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

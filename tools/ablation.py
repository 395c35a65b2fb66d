"""Run a grid of trainings with several seeds, and report it; see transavs/tools/ablation.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.ablation import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

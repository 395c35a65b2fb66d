"""Run a grid of trainings with several seeds, and report it; see transavs/apps/ablation."""

if __name__ == "__main__":
    try:
        from transavs.apps.ablation import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

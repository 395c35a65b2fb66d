"""Compose scenes of masked photographs and recordings; see transavs/tools/compose_scenes.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.compose_scenes import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

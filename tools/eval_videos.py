"""Measure a model on labelled moments of films; see transavs/tools/eval_videos.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.eval_videos import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

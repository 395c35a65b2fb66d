"""Draw ground truth and predictions over the frames of clips; see transavs/tools/visualize.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.visualize import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

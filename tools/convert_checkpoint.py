"""Check and convert published weights; see transavs/tools/convert_checkpoint.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.convert_checkpoint import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

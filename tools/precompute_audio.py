"""Precompute the embeddings of a frozen audio encoder; see transavs/tools/precompute_audio.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.precompute_audio import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

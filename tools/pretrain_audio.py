"""Train the small audio encoder on sound classes; see transavs/tools/pretrain_audio.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.pretrain_audio import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

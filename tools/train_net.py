"""Train or evaluate TransAVS; see transavs/tools/train_net.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.train_net import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

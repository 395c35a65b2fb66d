"""Export a model to ONNX; see transavs/apps/export."""

if __name__ == "__main__":
    try:
        from transavs.apps.export import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

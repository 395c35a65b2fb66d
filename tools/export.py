"""Export a model to ONNX; see transavs/tools/export.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.export import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

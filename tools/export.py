"""Export a model to ONNX; see transavs/tools/export.py."""

from transavs.tools.export import main

if __name__ == "__main__":
    raise SystemExit(main())

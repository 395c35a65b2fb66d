"""Predict a manifest of films and clips; see transavs/tools/predict.py."""

from transavs.tools.predict import main

if __name__ == "__main__":
    raise SystemExit(main())

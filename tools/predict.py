"""Predict a manifest of films and clips; see transavs/tools/predict.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.predict import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

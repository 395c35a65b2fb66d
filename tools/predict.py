"""Predict a manifest of videos and clips; see transavs/apps/predict."""

if __name__ == "__main__":
    try:
        from transavs.apps.predict import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

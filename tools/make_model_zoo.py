"""Write the generated parts of the model zoo page; see transavs/tools/make_model_zoo.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.make_model_zoo import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

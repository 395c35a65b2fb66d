"""Write the generated parts of the model zoo page; see transavs/tools/make_model_zoo.py."""

from transavs.tools.make_model_zoo import main

if __name__ == "__main__":
    raise SystemExit(main())

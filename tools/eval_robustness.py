"""Evaluate a model under true and false sounds; see transavs/tools/eval_robustness.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.eval_robustness import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

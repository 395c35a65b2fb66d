"""Write the table and the page of the demo; see transavs/tools/demo_report.py."""

if __name__ == "__main__":
    try:
        from transavs.tools.demo_report import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

"""Write the table and the page of the demo; see transavs/apps/report."""

if __name__ == "__main__":
    try:
        from transavs.apps.report import main
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    raise SystemExit(main())

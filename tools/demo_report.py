"""Write the table and the page of the demo; see transavs/tools/demo_report.py."""

from transavs.tools.demo_report import main

if __name__ == "__main__":
    raise SystemExit(main())

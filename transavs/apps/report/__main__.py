"""``python -m transavs.apps.report``."""

from transavs.apps.report import main

raise SystemExit(main())

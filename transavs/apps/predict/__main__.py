"""``python -m transavs.apps.predict``."""

from transavs.apps.predict import main

raise SystemExit(main())

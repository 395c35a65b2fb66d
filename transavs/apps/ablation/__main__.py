"""``python -m transavs.apps.ablation``."""

from transavs.apps.ablation import main

raise SystemExit(main())

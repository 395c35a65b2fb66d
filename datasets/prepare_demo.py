"""Compose the demo data set; see transavs/tools/prepare_demo.py."""

from transavs.tools.prepare_demo import main

raise SystemExit(main())

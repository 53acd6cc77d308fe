"""``python -m engine_mvs`` is the command ``engine``."""

from ._command import main

raise SystemExit(main())

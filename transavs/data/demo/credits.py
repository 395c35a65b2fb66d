"""The credits file of a composed set: packages, licences and every file used."""

from __future__ import annotations

from transavs.data.demo.assets import DemoAssets
from transavs.data.demo.catalogue import ATTRIBUTIONS

_HEAD = """\
# Credits

This data set was composed on this machine by TransAVS.
"""

_REAL = """\
The pictures, recordings and photographs come from the Debian packages below and keep their
licences; whoever passes the set on passes it on under them. `tp:` names a stamp of Tux Paint
(Copyright 2002-2022 Bill Kendrick and contributors), `bg:` a template of Tux Paint, and `gc:` a
resource of GCompris (Copyright the GCompris contributors). The file
`/usr/share/doc/PACKAGE/copyright` of each package tells more.
"""

_DRAWN = """\
Every shape, texture and sound is computed; nothing was taken from elsewhere.
"""


def credits_text(assets: DemoAssets) -> str:
    """Text of ``CREDITS.md``."""
    parts = [_HEAD, _REAL if assets.source == "real" else _DRAWN]
    if assets.origin:
        parts.append("## Packages\n\n" + "".join(f"- {line}\n" for line in assets.origin))
    lines = ["## Files\n"]
    for reference in assets.references():
        author = ATTRIBUTIONS.get(reference)
        lines.append(f"- `{reference}`" + (f" ({author}; cropped and shaded)" if author else ""))
    parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)

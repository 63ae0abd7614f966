"""Read every reStructuredText document strictly: a warning of docutils is a failure."""

from __future__ import annotations

import sys
from pathlib import Path

from docutils.core import publish_string
from docutils.utils import SystemMessage

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Check them all and name each that fails."""
    failed = False
    for path in [*sorted(ROOT.glob("*.rst")), *sorted(ROOT.glob("docs/**/*.rst"))]:
        settings = {
            "halt_level": 2,
            "report_level": 2,
            "file_insertion_enabled": False,
            "syntax_highlight": "none",  # which would need Pygments
        }
        try:
            publish_string(
                path.read_text(encoding="utf-8"),
                source_path=str(path.relative_to(ROOT)),
                writer="html5",
                settings_overrides=settings,
            )
        except SystemMessage:
            failed = True  # docutils has printed where and what
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

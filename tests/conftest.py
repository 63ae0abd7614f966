"""Lets pytest run the tests as trial does: in a temporary folder, not in the checkout."""

from __future__ import annotations

import os
import tempfile

import pytest

_folder = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Enter a new folder, for ``TestCase.mktemp`` names its files relative to the current one."""
    folder = tempfile.TemporaryDirectory(prefix="sp-", ignore_cleanup_errors=True)
    session.config.stash[_folder] = folder
    os.chdir(folder.name)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the folder again, and remove it."""
    folder = config.stash.get(_folder, None)
    if folder is not None:
        os.chdir(config.rootpath)
        folder.cleanup()

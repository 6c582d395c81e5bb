from pathlib import Path

import pytest

from tests.analysis.builder import Root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """An empty root to add points to."""
    return Root(tmp_path / "root")

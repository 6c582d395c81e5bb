"""The public data sets that fits are held against; they are not part of this repository."""

import pandas as pd
import pytest

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY.parent / "shared" / "reference" / "losses"


def table(name: str) -> pd.DataFrame:
    """A table of `FOLDER`; the test is skipped where it is not there."""
    path = FOLDER / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"{path.name} is not in ../shared/reference/losses")
    return pd.read_csv(path)


def chinchilla() -> pd.DataFrame:
    """The 240 points of Besiroglu et al. (2024)."""
    points = table("chinchilla_epoch")
    return points[points["epoch_outlier"] == 0]

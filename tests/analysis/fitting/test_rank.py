import numpy as np
import pytest

from analysis.fitting import FitError, FitStatus, rank_agreement

X = np.array([2.91, 2.95, 2.93, 3.01, 3.10, 2.99, 3.05])
Y = np.array([2.88, 2.94, 2.95, 3.00, 3.12, 2.97, 3.01])


def test_values_from_their_definitions():
    found = rank_agreement(X, Y)
    x, y = X - X.mean(), Y - Y.mean()
    assert found.pearson.value == pytest.approx(x @ y / np.sqrt(x @ x * (y @ y)))
    ranks = [np.argsort(np.argsort(column)) for column in (X, Y)]
    assert found.spearman.value == pytest.approx(1 - 6 * ((ranks[0] - ranks[1]) ** 2).sum() / (7 * 48))
    signs = [np.sign(X[i] - X[j]) * np.sign(Y[i] - Y[j]) for i in range(7) for j in range(i)]
    assert found.kendall.value == pytest.approx(np.mean(signs))
    assert found.r_squared == pytest.approx(found.pearson.value**2)
    assert found.residuals.sum() == pytest.approx(0, abs=1e-12)
    assert found.slope * X + found.intercept == pytest.approx(Y - found.residuals)
    for one in (found.pearson, found.spearman, found.kendall):
        assert one.interval.low < one.value < one.interval.high
        assert 0 < one.p_value < 0.05


def test_monotone_change_leaves_ranks():
    plain, bent = rank_agreement(X, Y), rank_agreement(np.exp(3 * X), Y)
    assert bent.spearman.value == pytest.approx(plain.spearman.value)
    assert bent.kendall.value == pytest.approx(plain.kendall.value)
    assert bent.pearson.value != pytest.approx(plain.pearson.value, abs=1e-4)


def test_trouble():
    assert rank_agreement(X[:2], Y[:2]).status is FitStatus.TOO_FEW_POINTS
    assert rank_agreement(np.ones(7), Y).status is FitStatus.NOT_IDENTIFIABLE
    assert np.isnan(rank_agreement(X[:4], Y[:4]).pearson.interval.low)
    with pytest.raises(FitError):
        rank_agreement(X, Y[:3])
    with pytest.raises(FitError):
        rank_agreement(X, np.r_[Y[:6], np.inf])
    with pytest.raises(FitError, match="shape"):
        rank_agreement(X[:, None], Y)

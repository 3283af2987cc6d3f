"""scikit-learn's own checks over the tabular estimators; nothing is waived."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from konspekt.tabular import AnomalyDetector, LinearRegressor, LogisticClassifier, MLPClassifier, MLPRegressor

# Few epochs with large steps: the checks fit some 150 times an estimator.
ESTIMATORS = [
    AnomalyDetector(epochs=30, lr=0.02, hidden=(16,)),
    LinearRegressor(epochs=8, lr=0.05),
    LogisticClassifier(epochs=8, lr=0.05),
    MLPClassifier(epochs=8, lr=0.02, hidden=(16,)),
    MLPRegressor(epochs=8, lr=0.02, hidden=(16,)),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learns_contract(estimator, check):
    check(estimator)

"""Ridge regression against normal equations written out, and against truly leaving samples out."""

import numpy as np
import pytest

from scheduler.core.forecasting.ridge import PENALTY, fit_ridge
from tests.unit.core.forecasting.builders import NAN

N, HOURS, FEATURES = 60, 3, 4


def _samples(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Uniform features, which never reach the cut at four deviations; targets linear but for noise."""
    generator = np.random.default_rng(seed)
    features = generator.uniform(-1, 1, (N, HOURS, FEATURES)) * [1, 10, 0.1, 3] + [0, 100, 5, -1]
    slopes = generator.normal(size=(HOURS, FEATURES)) / [1, 10, 0.1, 3]
    noise = generator.normal(0, 0.5, (N, HOURS))
    weights = 0.5 ** (np.arange(N)[::-1] / 40)
    return features, (features * slopes).sum(-1) + noise, weights


def _holed(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    features, targets, weights = _samples(seed)
    generator = np.random.default_rng(seed)
    features[generator.random(features.shape) < 0.2] = NAN
    targets[generator.random(targets.shape) < 0.3] = NAN
    return features, targets, weights


def _standard(features: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Features of one hour as the model sees them: by weighted mean and deviation, unknown ones 0."""
    made = np.zeros_like(features)
    for column in range(features.shape[1]):
        known = ~np.isnan(features[:, column])
        mean = np.average(features[known, column], weights=share[known])
        apart = np.where(known, features[:, column] - mean, 0.0)
        spread = np.average(apart[known] ** 2, weights=share[known])
        made[:, column] = apart / np.sqrt(spread)
    return made


def _solved(scaled: np.ndarray, targets: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Intercept and coefficients by least squares, the penalty as rows of its own."""
    with_one = np.column_stack([np.ones(len(scaled)), scaled])
    penalty = np.sqrt(PENALTY) * np.eye(with_one.shape[1])[1:]
    rows = np.vstack([np.sqrt(share)[:, None] * with_one, penalty])
    goal = np.concatenate([np.sqrt(share) * targets, np.zeros(len(penalty))])
    return np.linalg.lstsq(rows, goal, rcond=None)[0]


@pytest.mark.parametrize("samples", [_samples(), _holed()])
def test_predictions_are_those_of_least_squares_with_a_penalty(
    samples: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    features, targets, weights = samples
    predicted = fit_ridge(features, targets, weights)[0].predict(features)
    for hour in range(HOURS):
        counts = ~np.isnan(targets[:, hour])
        share = weights[counts] / weights[counts].sum()
        scaled = _standard(features[counts, hour], share)
        intercept, *slopes = _solved(scaled, targets[counts, hour], share)
        np.testing.assert_allclose(predicted[counts, hour], intercept + scaled @ slopes)


@pytest.mark.parametrize("samples", [_samples(), _holed()])
def test_left_out_predictions_are_those_of_a_fit_without_the_sample(
    samples: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    features, targets, weights = samples
    _, left_out = fit_ridge(features, targets, weights)
    assert not np.isnan(left_out).any()
    for hour in range(HOURS):
        counts = np.flatnonzero(~np.isnan(targets[:, hour]))
        share = weights[counts] / weights[counts].sum()
        scaled, goal = _standard(features[counts, hour], share), targets[counts, hour]
        for row, sample in enumerate(counts):
            others = np.delete(np.arange(len(counts)), row)
            intercept, *slopes = _solved(scaled[others], goal[others], share[others])
            np.testing.assert_allclose(left_out[sample, hour], intercept + scaled[row] @ slopes)


def test_standardising_without_the_sample_too_would_hardly_differ() -> None:
    features, targets, weights = _samples()
    fit, left_out = fit_ridge(features, targets, weights)
    refit = np.array(
        [
            fit_ridge(
                np.delete(features, row, axis=0),
                np.delete(targets, row, axis=0),
                np.delete(weights, row),
            )[0].predict(features[row : row + 1])[0]
            for row in range(N)
        ]
    )
    apart, moved = abs(left_out - refit).mean(), abs(fit.predict(features) - refit).mean()
    assert apart < 0.2 * moved


def test_errors_on_noise_are_not_flattered() -> None:
    # Twenty features of chance on forty samples: a fit follows what it saw, its left-out predictions do not.
    generator = np.random.default_rng(2)
    features, targets = generator.normal(size=(40, 24, 20)), generator.normal(size=(40, 24))
    fit, left_out = fit_ridge(features, targets, np.ones(40))
    # Of variance 1; an honest error is above it by what the needless coefficients cost.
    assert ((fit.predict(features) - targets) ** 2).mean() < 0.6
    assert ((left_out - targets) ** 2).mean() > 1.2


def test_own_target_does_not_move_the_left_out_prediction() -> None:
    features, targets, weights = _samples()
    moved = targets.copy()
    moved[17] += 50
    before, after = (fit_ridge(features, goal, weights)[1] for goal in (targets, moved))
    np.testing.assert_allclose(after[17], before[17])
    assert abs(after - before).max() > 0.1


def test_constant_feature_and_one_never_known_say_nothing() -> None:
    features, targets, weights = _samples()
    more = np.concatenate([features, np.full((N, HOURS, 1), 7.0), np.full((N, HOURS, 1), NAN)], -1)
    fit, _ = fit_ridge(more, targets, weights)
    np.testing.assert_allclose(
        fit.predict(more), fit_ridge(features, targets, weights)[0].predict(features)
    )
    moved = more.copy()
    moved[..., -2:] = 1000.0
    np.testing.assert_array_equal(fit.predict(moved), fit.predict(more))


def test_unknown_features_count_as_their_mean() -> None:
    features, targets, weights = _samples()
    fit, _ = fit_ridge(features, targets, weights)
    expected = np.broadcast_to(np.average(targets, axis=0, weights=weights), (1, HOURS))
    np.testing.assert_allclose(fit.predict(np.full((1, HOURS, FEATURES), NAN)), expected)


def test_wild_feature_is_cut_at_four_deviations() -> None:
    features, targets, weights = _samples()
    fit, _ = fit_ridge(features, targets, weights)
    wild, edge = features[:1].copy(), features[:1].copy()
    wild[..., 1] = 1e9
    edge[..., 1] = (fit.mean + 4 * fit.scale)[:, 1]
    np.testing.assert_allclose(fit.predict(wild), fit.predict(edge))


def test_weights_of_two_are_as_two_samples() -> None:
    features, targets, _ = _samples()
    twice = np.where(np.arange(N) < 10, 2.0, 1.0)
    repeated = np.concatenate([np.arange(N), np.arange(10)])
    np.testing.assert_allclose(
        fit_ridge(features, targets, twice)[0].predict(features),
        fit_ridge(features[repeated], targets[repeated], np.ones(N + 10))[0].predict(features),
    )


@pytest.mark.parametrize("n", [0, 5])
def test_without_a_target_everything_is_zero(n: int) -> None:
    features, _, weights = _samples()
    fit, left_out = fit_ridge(features[:n], np.full((n, HOURS), NAN), weights[:n])
    np.testing.assert_array_equal(fit.predict(features[:2]), np.zeros((2, HOURS)))
    np.testing.assert_array_equal(left_out, np.zeros((n, HOURS)))


def test_one_sample_is_its_own_mean() -> None:
    features, targets, weights = _samples()
    fit, _ = fit_ridge(features[:1], targets[:1], weights[:1])
    np.testing.assert_allclose(fit.predict(features[5:6]), targets[:1])

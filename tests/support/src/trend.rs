//! What a row of samples says over time: its slope, and the quantiles of many values.

/// The slope of the straight line that fits the points `(x, y)` with the least squares, in y per x. 0 for fewer than two
/// different x: nothing can be said of them.
#[must_use]
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let (x, y) = centre(points);
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    if spread > 0.0 { together / spread } else { 0.0 }
}

/// The middle of the points, through which that line goes; the origin for no points.
#[must_use]
pub fn centre(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len().max(1) as f64;
    (points.iter().map(|point| point.0).sum::<f64>() / count, points.iter().map(|point| point.1).sum::<f64>() / count)
}

/// The smallest value that at least the share `quantile` of all values does not exceed; 0 for no values.
#[must_use]
pub fn nearest_rank(sorted: &[u64], quantile: f64) -> u64 {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_has_its_own_slope_and_noise_around_it_changes_little() {
        let line: Vec<(f64, f64)> = (0..100).map(|x| (f64::from(x), 3.0 + 0.5 * f64::from(x))).collect();
        assert!((slope(&line) - 0.5).abs() < 1e-12);
        let noisy: Vec<(f64, f64)> =
            line.iter().map(|(x, y)| (*x, y + if (*x as u32).is_multiple_of(2) { 1.0 } else { -1.0 })).collect();
        assert!((slope(&noisy) - 0.5).abs() < 0.01, "{}", slope(&noisy));
        let steps: Vec<(f64, f64)> = (0..100).map(|x| (f64::from(x), if x < 50 { 1.0 } else { 2.0 })).collect();
        assert!(slope(&steps) > 0.01, "a step up that stays is a rise");
    }

    #[test]
    fn too_few_points_have_no_slope() {
        assert_eq!((slope(&[]), slope(&[(1.0, 5.0)]), slope(&[(1.0, 5.0), (1.0, 9.0)])), (0.0, 0.0, 0.0));
    }

    #[test]
    fn quantiles_are_values_that_were_there() {
        let sorted: Vec<u64> = (1..=100).collect();
        assert_eq!([0.5, 0.9, 0.99, 1.0, 0.0].map(|quantile| nearest_rank(&sorted, quantile)), [50, 90, 99, 100, 1]);
        assert_eq!(nearest_rank(&[], 0.5), 0);
    }
}

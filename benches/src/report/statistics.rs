//! Medians and ratios.

/// The value in the middle; between the two in the middle if their count is even.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(sorted.len() / 2 - 1)?;
    Some(f64::midpoint(lower, upper))
}

/// The ratios of values to others of the same rounds, where there are both.
pub(crate) fn ratios(values: &[Option<f64>], to: &[Option<f64>]) -> Vec<f64> {
    let pairs = values.iter().zip(to);
    let ratios = pairs.filter_map(|(value, to)| Some((*value)? / (*to)?));
    // Nothing is measured against 0.
    ratios.filter(|ratio| ratio.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::{median, ratios};

    #[test]
    fn the_median_is_in_the_middle() {
        let check = |values: &[f64], expected| assert_eq!(median(values), expected, "{values:?}");
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
        check(&[4.0, 1.0, 2.0, 100.0], Some(3.0));
    }

    #[test]
    fn a_ratio_has_both_its_sides() {
        let check = |values: &[Option<f64>], to: &[Option<f64>], expected: &[f64]| {
            assert_eq!(ratios(values, to), expected);
        };
        check(
            &[Some(1.0), Some(3.0)],
            &[Some(2.0), Some(2.0)],
            &[0.5, 1.5],
        );
        check(
            &[Some(1.0), None, Some(4.0)],
            &[None, Some(1.0), Some(2.0)],
            &[2.0],
        );
        check(&[Some(1.0)], &[Some(0.0)], &[]);
        check(&[Some(1.0), Some(2.0)], &[Some(1.0)], &[1.0]);
    }
}

//! The Pareto frontier in any number of axes, at once and one point at a time.

use forerunner_core::{Direction, Metrics, Objective};

/// The values of `axes` in `metrics`, in the order of the axes. A metric that is missing or not
/// finite is infinitely bad: a program that never reaches the target can still be on the frontier
/// by its loss.
pub fn place(axes: &[Objective], metrics: &Metrics) -> Vec<f64> {
    let value = |axis: &Objective| {
        let found = metrics.get(&axis.metric).copied().filter(|value| value.is_finite());
        found.unwrap_or(worst(axis.direction))
    };
    axes.iter().map(value).collect()
}

/// Indices, in increasing order, of the points that no other point dominates. Of equal points only
/// the first is kept; points that [`Frontier::insert`] would refuse are left out.
///
/// # Panics
/// When a point has not as many values as there are directions.
pub fn frontier<P: AsRef<[f64]>>(points: &[P], directions: &[Direction]) -> Vec<usize> {
    let mut frontier = Frontier::new(directions.to_vec());
    for (index, point) in points.iter().enumerate() {
        frontier.insert(index, point.as_ref());
    }
    let mut indices: Vec<usize> = frontier.iter().map(|(index, _)| *index).collect();
    indices.sort_unstable();
    indices
}

/// A Pareto frontier that grows point by point.
///
/// A point *dominates* another when it is at least as good on every axis and better on one. The
/// frontier holds the points that none dominates, best first on the first axis. A point equal to a
/// member adds nothing and stays out.
///
/// ```
/// use forerunner_core::Direction::Minimize;
/// use forerunner_stats::Frontier;
///
/// let mut frontier = Frontier::new(vec![Minimize, Minimize]);
/// assert!(frontier.insert("reference", &[30.0, 2.0]));
/// assert!(frontier.insert("quick", &[20.0, 2.5]));
/// assert!(!frontier.insert("worse", &[31.0, 2.1]));
/// assert!(frontier.insert("better", &[25.0, 1.9]));
/// let keys: Vec<_> = frontier.iter().map(|(key, _)| *key).collect();
/// assert_eq!(keys, ["quick", "better"]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Frontier<K> {
    directions: Vec<Direction>,
    /// Best first on the first axis, later axes break ties.
    members: Vec<(K, Vec<f64>)>,
}

impl<K> Frontier<K> {
    /// An empty frontier with one direction per axis.
    pub fn new(directions: Vec<Direction>) -> Self {
        Self { directions, members: Vec::new() }
    }

    /// An empty frontier over the axes of an environment; see [`place`] for its points.
    pub fn over(axes: &[Objective]) -> Self {
        Self::new(axes.iter().map(|axis| axis.direction).collect())
    }

    /// Takes the point in unless a member dominates or equals it, and drops the members that it
    /// dominates. Says whether the point is now on the frontier. Time is linear in the size of
    /// the frontier and in the number of axes.
    ///
    /// Refused as well: a point with NaN, and one that is infinitely bad on every axis.
    ///
    /// # Panics
    /// When the point has not as many values as there are axes.
    pub fn insert(&mut self, key: K, point: &[f64]) -> bool {
        assert_eq!(point.len(), self.directions.len(), "a point has one value per axis");
        let nothing = point.iter().zip(&self.directions).all(|(v, axis)| *v == worst(*axis));
        if nothing || point.iter().any(|value| value.is_nan()) {
            return false;
        }
        let Self { directions, members } = self;
        if members.iter().any(|(_, member)| covers(directions, member, point)) {
            return false;
        }
        members.retain(|(_, member)| !covers(directions, point, member));
        let at = members.partition_point(|(_, member)| precedes(directions, member, point));
        members.insert(at, (key, point.to_vec()));
        true
    }

    /// Members with their values, best first on the first axis.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &[f64])> {
        self.members.iter().map(|(key, point)| (key, point.as_slice()))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
}

fn worst(direction: Direction) -> f64 {
    match direction {
        Direction::Minimize => f64::INFINITY,
        Direction::Maximize => f64::NEG_INFINITY,
    }
}

/// `a` and `b` as costs on one axis.
fn costs(direction: Direction, a: f64, b: f64) -> (f64, f64) {
    match direction {
        Direction::Minimize => (a, b),
        Direction::Maximize => (-a, -b),
    }
}

/// Whether `a` is at least as good as `b` everywhere: it dominates or equals it.
fn covers(directions: &[Direction], a: &[f64], b: &[f64]) -> bool {
    directions.iter().zip(a.iter().zip(b)).all(|(direction, (a, b))| {
        let (a, b) = costs(*direction, *a, *b);
        a <= b
    })
}

/// Whether `a` comes before `b` in the order of the first axis, then the second, and so on.
fn precedes(directions: &[Direction], a: &[f64], b: &[f64]) -> bool {
    for (direction, (a, b)) in directions.iter().zip(a.iter().zip(b)) {
        let (a, b) = costs(*direction, *a, *b);
        if a != b {
            return a < b;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Maximize, Minimize};
    use proptest::prelude::*;

    #[test]
    fn equal_points_count_once_and_nonsense_never() {
        let points = [[1.0, 5.0], [1.0, 5.0], [f64::NAN, 0.0], [0.5, f64::INFINITY], [2.0, 6.0]];
        assert_eq!(frontier(&points, &[Minimize, Minimize]), [0, 3]);
        assert_eq!(frontier(&[[f64::INFINITY; 2]], &[Minimize, Minimize]), [0_usize; 0]);
        assert_eq!(frontier(&[[3.0], [1.0], [2.0]], &[Minimize]), [1]);
        assert_eq!(frontier(&[[3.0], [1.0], [2.0]], &[Maximize]), [0]);
    }

    #[test]
    fn a_missing_metric_is_infinitely_bad() {
        let axes = [Objective::minimize("seconds", "s"), Objective::maximize("score", "")];
        let metrics = Metrics::from([("seconds".to_owned(), 3.0), ("other".to_owned(), 1.0)]);
        assert_eq!(place(&axes, &metrics), [3.0, f64::NEG_INFINITY]);
        let mut frontier = Frontier::over(&axes);
        assert!(frontier.insert((), &place(&axes, &metrics)));
        assert!(!frontier.insert((), &place(&axes, &Metrics::new())));
        assert_eq!((frontier.len(), frontier.is_empty()), (1, false));
    }

    /// Straight from the definition, in quadratic time.
    fn slow_frontier(points: &[Vec<f64>], directions: &[Direction]) -> Vec<usize> {
        let beats = |a: usize, b: usize| {
            covers(directions, &points[a], &points[b])
                && (!covers(directions, &points[b], &points[a]) || a < b)
        };
        (0..points.len()).filter(|&b| !(0..points.len()).any(|a| a != b && beats(a, b))).collect()
    }

    /// Few distinct values, so that ties and duplicates are common.
    fn points(axes: usize) -> impl Strategy<Value = Vec<Vec<f64>>> {
        let value = (0_u8..6).prop_map(f64::from);
        prop::collection::vec(prop::collection::vec(value, axes), 0..40)
    }

    proptest! {
        #[test]
        fn the_frontier_is_its_definition(points in points(3)) {
            let directions = [Minimize, Maximize, Minimize];
            prop_assert_eq!(frontier(&points, &directions), slow_frontier(&points, &directions));
        }

        #[test]
        fn insertion_tells_the_truth_and_keeps_the_order(points in points(2)) {
            let directions = vec![Minimize, Minimize];
            let mut growing = Frontier::new(directions.clone());
            for (index, point) in points.iter().enumerate() {
                let joined = growing.insert(index, point);
                let expected = slow_frontier(&points[..=index], &directions);
                prop_assert_eq!(joined, expected.contains(&index));
                prop_assert_eq!(growing.len(), expected.len());
                let first: Vec<f64> = growing.iter().map(|(_, point)| point[0]).collect();
                prop_assert!(first.is_sorted());
            }
        }
    }
}

//! The value of a frontier over (cost, loss).

/// The region in which a frontier is valued; fixed for a season, since the value depends on it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Window {
    /// Smallest budget B_1, in the unit of the cost; positive.
    pub cheapest: f64,
    /// Largest budget B_m, above the smallest.
    pub dearest: f64,
    /// Loss of the reference program at the smallest budget; worse is worth nothing.
    pub reference_loss: f64,
    /// Loss below which nothing more is gained, for example the reference's at 16 B_m.
    pub floor_loss: f64,
}

impl Window {
    /// The share of the window that `points` of (cost, loss), both to be small, dominate: the
    /// two-dimensional hypervolume (Zitzler and Thiele 1998) in the logarithm of the cost,
    ///
    /// ```text
    /// 1/[(L_ref - L_floor) ln(B_m/B_1)] ∫ (L_ref - max(F(c), L_floor))₊ dc,  c = ln B_1..ln B_m
    /// ```
    ///
    /// with `F(c)` the least loss at a cost of at most `c`. In `0.0..=1.0`. Points need not be a
    /// frontier; those with a cost that is not positive or a number that is not finite are left
    /// out.
    ///
    /// # Panics
    /// When the window is empty: its ends must be finite and ordered, the budgets positive.
    pub fn area(&self, points: &[(f64, f64)]) -> f64 {
        self.assert_not_empty();
        let mut points: Vec<(f64, f64)> = points
            .iter()
            .filter(|(cost, loss)| cost.is_finite() && *cost > 0.0 && loss.is_finite())
            .map(|(cost, loss)| (cost.max(self.cheapest).ln(), loss.max(self.floor_loss)))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));

        let (from, to) = (self.cheapest.ln(), self.dearest.ln());
        let (mut area, mut at, mut best) = (0.0, from, self.reference_loss);
        for (ln_cost, loss) in points.into_iter().filter(|(ln_cost, _)| *ln_cost < to) {
            area += (ln_cost - at) * (self.reference_loss - best);
            at = ln_cost;
            best = best.min(loss);
        }
        area += (to - at) * (self.reference_loss - best);
        (area / ((self.reference_loss - self.floor_loss) * (to - from))).clamp(0.0, 1.0)
    }

    /// How much `point` adds to `others`: the area with it less the area without it; 0 for a
    /// dominated point.
    ///
    /// # Panics
    /// As for [`Window::area`].
    pub fn contribution(&self, others: &[(f64, f64)], point: (f64, f64)) -> f64 {
        let mut all = others.to_vec();
        all.push(point);
        (self.area(&all) - self.area(others)).max(0.0)
    }

    fn assert_not_empty(&self) {
        let Self { cheapest, dearest, reference_loss, floor_loss } = *self;
        let finite = [cheapest, dearest, reference_loss, floor_loss].iter().all(|v| v.is_finite());
        let ordered = 0.0 < cheapest && cheapest < dearest && floor_loss < reference_loss;
        assert!(finite && ordered, "the window {self:?} must have finite, ordered ends");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Window =
        Window { cheapest: 1.0, dearest: 16.0, reference_loss: 4.0, floor_loss: 2.0 };

    fn check(points: &[(f64, f64)], expected: f64) {
        let area = WINDOW.area(points);
        assert!((area - expected).abs() < 1e-12, "{points:?}: {area} is not {expected}");
    }

    #[test]
    fn areas_by_hand() {
        check(&[], 0.0);
        check(&[(1.0, 2.0)], 1.0);
        check(&[(0.1, 0.5)], 1.0);
        check(&[(4.0, 2.0)], 0.5);
        check(&[(1.0, 3.0)], 0.5);
        check(&[(1.0, 3.0), (4.0, 2.0)], 0.75);
        check(&[(4.0, 2.0), (1.0, 3.0), (8.0, 3.5)], 0.75);
        check(&[(1.0, 5.0)], 0.0);
        check(&[(16.0, 2.0), (99.0, 2.0)], 0.0);
        check(&[(f64::NAN, 2.0), (1.0, f64::INFINITY), (-1.0, 2.0)], 0.0);
    }

    #[test]
    fn a_dominated_point_adds_nothing() {
        assert_eq!(WINDOW.contribution(&[(1.0, 3.0)], (2.0, 3.5)), 0.0);
        assert!((WINDOW.contribution(&[(1.0, 3.0)], (4.0, 2.0)) - 0.25).abs() < 1e-12);
    }

    fn point() -> impl Strategy<Value = (f64, f64)> {
        (0.5..32.0, 1.0..5.0)
    }

    proptest! {
        #[test]
        fn more_points_never_lower_the_area(
            points in prop::collection::vec(point(), 0..20), extra in point(),
        ) {
            let before = WINDOW.area(&points);
            prop_assert!((0.0..=1.0).contains(&before));
            let mut more = points.clone();
            more.push(extra);
            prop_assert!(WINDOW.area(&more) >= before - 1e-12);
        }

        #[test]
        fn the_area_is_the_integral(points in prop::collection::vec(point(), 0..10)) {
            // A midpoint rule on 4,000 strips errs by at most one strip per step of the curve.
            let strips = 4000;
            let sum: f64 = (0..strips)
                .map(|strip| {
                    let c = 16_f64.ln() * (f64::from(strip) + 0.5) / f64::from(strips);
                    let reached = points.iter().filter(|(cost, _)| cost.ln() <= c);
                    let best = reached.map(|(_, loss)| *loss).fold(4.0, f64::min);
                    (4.0 - best.max(2.0)) / 2.0 / f64::from(strips)
                })
                .sum();
            prop_assert!((WINDOW.area(&points) - sum).abs() < 10.0 / f64::from(strips));
        }
    }
}

//! How the groups of a model's parameters move: series whose names end in the name of a group.

use crate::{Series, Telemetry};
use std::collections::BTreeMap;

/// Series of the norm of the gradients, over all parameters or, as `gradient_norm.GROUP`, of a group.
pub const GRADIENT_NORM: &str = "gradient_norm";
/// Series of the norm of what a step adds to the parameters of a group, `update_norm.GROUP`.
pub const UPDATE_NORM: &str = "update_norm";
/// Series of that norm over the norm of the parameters themselves, `relative_update.GROUP`.
pub const RELATIVE_UPDATE: &str = "relative_update";

/// What was seen of one group of parameters, a curve of each norm over the steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group<'a> {
    /// Name of the group.
    pub name: &'a str,
    /// Norm of its gradient, before any clipping.
    pub gradient: Option<&'a Series>,
    /// Norm of what a step added to it.
    pub update: Option<&'a Series>,
    /// The same over the norm of its values.
    pub relative: Option<&'a Series>,
}

impl Telemetry {
    /// The groups of parameters whose norms were recorded, by name.
    ///
    /// ```
    /// let mut telemetry = forerunner_core::Telemetry::default();
    /// telemetry.series.insert("update_norm.head".into(), vec![(0, 0.5)]);
    /// telemetry.series.insert("train_loss".into(), vec![(0, 5.5)]);
    /// let groups = telemetry.groups();
    /// assert_eq!((groups.len(), groups[0].name), (1, "head"));
    /// assert_eq!(groups[0].update, Some(&vec![(0, 0.5)]));
    /// ```
    #[must_use]
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut groups = BTreeMap::<&str, Group<'_>>::new();
        for (name, series) in &self.series {
            let Some((norm, name)) = name.split_once('.') else { continue };
            let empty = || Group { name, gradient: None, update: None, relative: None };
            match norm {
                GRADIENT_NORM => groups.entry(name).or_insert_with(empty).gradient = Some(series),
                UPDATE_NORM => groups.entry(name).or_insert_with(empty).update = Some(series),
                RELATIVE_UPDATE => groups.entry(name).or_insert_with(empty).relative = Some(series),
                _ => {}
            }
        }
        groups.into_values().collect()
    }
}

/// The median of a curve over the second half of its steps; `None` of an empty one.
///
/// ```
/// let curve = [(0, 9.0), (5, 3.0), (8, 1.0), (10, 2.0)];
/// assert_eq!(forerunner_core::late_median(&curve), Some(2.0));
/// ```
#[must_use]
pub fn late_median(series: &[(u64, f64)]) -> Option<f64> {
    let last = series.last()?.0;
    let late = series.iter().filter(|(step, _)| *step >= last.div_ceil(2));
    let mut values: Vec<f64> = late.map(|(_, value)| *value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

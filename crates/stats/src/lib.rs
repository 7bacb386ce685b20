//! The statistics of progress: what a number must survive before it is called better.
//!
//! Pure functions and small values; no I/O, no clock, no random numbers. Losses and costs are
//! plain `f64`; callers decide what they mean. The formulas follow the page of the handbook on
//! statistics; each item names its source.
//!
//! | question | item |
//! | --- | --- |
//! | how large is it, and how sure are we | [`Estimate`] |
//! | is the candidate faster, seed by seed | [`Estimate::paired_log_ratio`] |
//! | does a program do as well in a changed setting | [`NoiseTest`] |
//! | what share of proposals was valid | [`wilson`] |
//! | may a claim be accepted now, having looked after every run | [`EProcess`] |
//! | how much error may the k-th claim of a season spend | [`alpha_of_claim`] |
//! | which programs are not dominated | [`Frontier`], [`frontier()`] |
//! | how good is a whole frontier | [`Window::area`] |
//! | what does a shorter run cost once its loss is made equal | [`ExchangeRate`] |
//! | how much of a lucky first result is real | [`Shrinkage`] |
//! | did those who promised a gain know | [`Calibration`] |
//! | which answers to check blind, and what may slip through | [`Audit`] |
//!
//! ```
//! use forerunner_stats::Estimate;
//!
//! let reference = [30.1, 30.4, 29.8];
//! let candidate = [27.0, 27.5, 26.9];
//! let gain = Estimate::paired_log_ratio(&reference, &candidate, 0.95).expect("paired seconds");
//! assert!(gain.low > 0.0, "faster on every seed, and the interval says so");
//!
//! // A pair without a partner is not an estimate.
//! assert_eq!(Estimate::paired_log_ratio(&reference, &candidate[..2], 0.95), None);
//! ```

mod audit;
mod calibration;
mod cost;
mod estimate;
mod frontier;
mod hypervolume;
mod noise;
mod proportion;
mod quantile;
mod sequential;
mod shrinkage;
mod spending;

#[cfg(test)]
mod simulation;

pub use audit::Audit;
pub use calibration::{Calibration, Forecast, correlation, rank_correlation};
pub use cost::{EqualisedCost, ExchangeRate};
pub use estimate::Estimate;
pub use frontier::{Frontier, frontier, place};
pub use hypervolume::Window;
pub use noise::NoiseTest;
pub use proportion::{Proportion, wilson};
pub use quantile::{normal_quantile, sd_upper_limit, t_quantile};
pub use sequential::EProcess;
pub use shrinkage::Shrinkage;
pub use spending::alpha_of_claim;

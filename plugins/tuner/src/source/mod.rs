//! Programs as text with numbers in it: finding constants, and writing them back.

mod annotation;
mod lines;
mod literal;
mod scan;

pub(crate) use annotation::Rule;
pub(crate) use literal::{read_whole as read_number, round_significant, write as write_number};
pub(crate) use scan::{Constant, Scan, patch, scan};

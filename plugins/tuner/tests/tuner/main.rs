//! The tuner from outside: single proposals, and whole searches of synthetic landscapes.

mod landscape;
mod proposals;
mod search;

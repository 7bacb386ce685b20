//! The mutator from outside: the library that comes with it, single proposals, whole searches.

mod embedded;
mod library;
mod proposals;
mod search;
mod toy;

//! Fetches published data sets: the files of a [`Source`] from the Hugging Face hub, through its
//! official client.
//!
//! A fetch can be killed at any instant. Files that are whole stay and are not fetched again, one
//! that was begun is continued. No byte is trusted for where it came from: size, header and number
//! of tokens must agree, the SHA-256 must be the hub's where the hub names one, and is written into
//! `FILE.sha256` beside the file (in the form that `sha256sum --check` reads) and compared whenever
//! the same folder is fetched into again.
//!
//! This crate and `models` are the only ones with a network client. It knows nothing of what the
//! files are for: making a data set of them is the environment's business.
//!
//! ```no_run
//! use forerunner_fetch::{Fetch, Patience, fetch, source};
//! use std::sync::atomic::AtomicBool;
//!
//! let source = source("fineweb10B")?;
//! let request = Fetch { source, shards: 2, folder: "data/fineweb10B/shards".into(), endpoint: None };
//! let stop = AtomicBool::new(false);
//! let fetched = fetch(&request, Patience::default(), &stop, &mut |event| println!("{event:?}"))?;
//! assert_eq!(fetched.files.len(), 3);
//! # Ok::<(), forerunner_fetch::FetchError>(())
//! ```
//!
//! | what | item |
//! | --- | --- |
//! | what can be fetched | [`Source`], [`SOURCES`] |
//! | a fetch | [`fetch()`], [`Fetch`], [`Patience`], [`Event`], [`Fetched`] |
//! | what can go wrong | [`FetchError`] |

mod attempt;
mod error;
mod event;
mod fetch;
mod file;
mod hub;
mod source;

pub use error::FetchError;
pub use event::{Event, Fetched, FetchedFile};
pub use fetch::{Fetch, Patience, fetch};
pub use source::{SOURCES, Source, source};

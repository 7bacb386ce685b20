//! What can go wrong on the way, and how to put it right.

use std::path::{Path, PathBuf};

/// A data set could not be fetched. What is there already stays: the same command continues.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// There is nothing of that name.
    #[error(
        "unknown data set `{name}` (known: {known})\nhint: data of your own needs no fetching, see \
         `forerunner data prepare --help`"
    )]
    UnknownSource {
        /// The name.
        name: String,
        /// Names there are.
        known: String,
    },
    /// Not that many shards are published.
    #[error("cannot fetch {asked} shards\nhint: ask for 1 to {most}")]
    Shards {
        /// Asked for.
        asked: usize,
        /// Published.
        most: usize,
    },
    /// The caller said stop.
    #[error("interrupted\nhint: run the same command again; it goes on where it stopped")]
    Interrupted,
    /// No connection to the hub.
    #[error(
        "cannot reach {endpoint}: {reason}\nhint: check the network (a proxy goes into HTTPS_PROXY, a \
         mirror into HF_ENDPOINT), or copy the files into `{}` from elsewhere", folder.display()
    )]
    Unreachable {
        /// Address of the hub.
        endpoint: String,
        /// Why not.
        reason: String,
        /// Where files may be put by hand.
        folder: PathBuf,
    },
    /// The hub says that it has no such file.
    #[error(
        "{endpoint} has no `{file}` in the data set `{repository}`\nhint: ask for fewer shards, or \
         check HF_ENDPOINT"
    )]
    NotFound {
        /// Address of the hub.
        endpoint: String,
        /// The file.
        file: String,
        /// The repository.
        repository: &'static str,
    },
    /// The hub will not give the file, and asking again would not help.
    #[error(
        "{endpoint} refuses `{file}`: HTTP status {status}\nhint: check HF_ENDPOINT and any proxy"
    )]
    Refused {
        /// Address of the hub.
        endpoint: String,
        /// The file.
        file: String,
        /// Its answer.
        status: u16,
    },
    /// What answers is not a hub.
    #[error(
        "{endpoint} does not speak the hub's protocol: {reason}\nhint: check HF_ENDPOINT and any proxy"
    )]
    Protocol {
        /// Address of the hub.
        endpoint: String,
        /// What is wrong with its answer.
        reason: String,
    },
    /// It went wrong too often in a row.
    #[error(
        "gave up on `{file}` after {attempts} attempts: {reason}\nhint: run the same command again \
         later; it goes on where it stopped"
    )]
    GaveUp {
        /// The file.
        file: String,
        /// How often it was tried without a single byte more.
        attempts: u32,
        /// What happened last.
        reason: String,
    },
    /// Nothing came for too long.
    #[error(
        "nothing came from {endpoint} for {seconds} seconds\nhint: run the same command again; it goes \
         on where it stopped"
    )]
    Stalled {
        /// Address of the hub.
        endpoint: String,
        /// How long.
        seconds: u64,
    },
    /// The file is not what it should be, twice in a row.
    #[error(
        "`{file}` from {endpoint} is not the published file: {reason}\nhint: something between here and \
         the hub changes files; try another network or mirror (HF_ENDPOINT)"
    )]
    WrongContent {
        /// Address of the hub.
        endpoint: String,
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is not the one that was fetched into this folder before.
    #[error(
        "`{file}` is not the file that was fetched first: its SHA-256 is {found}, `{file}.sha256` says \
         {recorded}\nhint: what is published has changed; to accept that, delete `{file}.sha256` in \
         `{}`",
        folder.display()
    )]
    Changed {
        /// The file.
        file: String,
        /// Its hash now.
        found: String,
        /// Its hash then.
        recorded: String,
        /// Where.
        folder: PathBuf,
    },
    /// A file of that name, but without a record, is not the published one.
    #[error(
        "`{}` is there already and is not the published file: {reason}\nhint: move it away, or choose \
         another folder with `--folder`",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Too little room.
    #[error(
        "`{}` has room for {} MB, but {} MB are still to come\nhint: choose another folder with \
         `--folder`, or fewer shards", folder.display(), free / 1_000_000, needed / 1_000_000
    )]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// Another fetch works in the same folder.
    #[error(
        "another `forerunner data fetch` works in `{}`\nhint: wait for it, or choose another folder \
         with `--folder`",
        .0.display()
    )]
    Busy(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}\nhint: {hint}", path.display())]
    Io {
        /// What was tried, as in "write".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
}

impl FetchError {
    /// Turns a failure of the operating system into an error that names action and path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| {
            let hint = match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                    "make room and run the same command again; it goes on where it stopped"
                }
                _ => "choose a folder that you can write, with `--folder`",
            };
            Self::Io { action, path: path.to_owned(), source, hint }
        }
    }
}

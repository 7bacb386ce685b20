//! The hub, behind its official client: what a file is, and its bytes into a folder.

use hf_hub::{
    Cache, Repo,
    api::{
        Progress,
        sync::{Api, ApiBuilder, ApiError, ApiRepo},
    },
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Where the hub is unless the caller or `HF_ENDPOINT` says otherwise.
const HUB: &str = "https://huggingface.co";

/// The address of the hub: the one given, that in `HF_ENDPOINT`, or the public one.
pub(crate) fn endpoint(given: Option<&str>) -> String {
    let named = given.map(str::to_owned).or_else(|| std::env::var("HF_ENDPOINT").ok());
    let named = named.filter(|endpoint| !endpoint.is_empty());
    named.unwrap_or_else(|| HUB.to_owned()).trim_end_matches('/').to_owned()
}

/// One repository of the hub. Unfinished files lie in a folder of its own.
pub(crate) struct Hub {
    api: Api,
    repo: ApiRepo,
    cache: Cache,
    id: Repo,
}

/// A file as the hub describes it.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// Its SHA-256, where the hub names one: for large files the entity tag is just that.
    pub(crate) sha256: Option<String>,
    /// The commit that the hub serves.
    pub(crate) commit: String,
    /// Where the client puts it when it is whole.
    pub(crate) whole: PathBuf,
    /// Where the client gathers it until then.
    pub(crate) part: PathBuf,
}

/// What went wrong between us and the hub.
#[derive(Debug)]
pub(crate) enum HubError {
    /// There was no connection.
    Unreachable(String),
    /// The hub answered with a status that is no success.
    Status(u16),
    /// The connection ended before the file did.
    Cut(String),
    /// The answer is none of a hub.
    Protocol(String),
    /// The disk.
    Disk(io::Error),
}

impl Hub {
    /// The data set `repository` on the hub at `endpoint`; `unfinished` is an absolute path.
    ///
    /// No token is sent: what we fetch is public, and a token would reach the servers that the hub
    /// redirects to.
    pub(crate) fn new(
        endpoint: &str,
        repository: &str,
        unfinished: &Path,
    ) -> Result<Self, HubError> {
        let cache = Cache::new(unfinished.to_owned());
        let id = Repo::dataset(repository.to_owned());
        let api = ApiBuilder::from_cache(cache.clone())
            .with_endpoint(endpoint.to_owned())
            .with_token(None)
            .with_progress(false)
            .with_user_agent("forerunner", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(HubError::from)?;
        Ok(Self { repo: api.repo(id.clone()), api, cache, id })
    }

    /// Asks what the hub has under this name.
    pub(crate) fn describe(&self, file: &str) -> Result<Remote, HubError> {
        let metadata = self.api.metadata(&self.repo.url(file))?;
        // Entity tag and commit become names of files.
        for name in [metadata.etag(), metadata.commit_hash()] {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if name.is_empty() || name.len() > 200 || !name.bytes().all(plain) {
                let text = format!("it names a file's content or commit `{}`", name.escape_debug());
                return Err(HubError::Protocol(text));
            }
        }
        let whole = self.cache.repo(self.id.clone()).blob_path(metadata.etag());
        let is_hash =
            metadata.etag().len() == 64 && metadata.etag().bytes().all(|b| b.is_ascii_hexdigit());
        Ok(Remote {
            bytes: metadata.size() as u64,
            sha256: is_hash.then(|| metadata.etag().to_ascii_lowercase()),
            commit: metadata.commit_hash().to_owned(),
            part: whole.with_extension("part"),
            whole,
        })
    }

    /// Brings the file to [`Remote::whole`], from where [`Remote::part`] ends. `received` follows the
    /// number of bytes there.
    pub(crate) fn download(
        &self,
        file: &str,
        remote: &Remote,
        received: Arc<AtomicU64>,
    ) -> Result<(), HubError> {
        // The client links to the file from its cache; such a link of an earlier attempt is in its way.
        let link = self.cache.repo(self.id.clone()).pointer_path(&remote.commit).join(file);
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HubError::Disk(error)),
            _ => Ok(()),
        }?;
        self.repo.download_with_progress(file, Received(received))?;
        Ok(())
    }
}

/// Tells another thread how far a download is.
struct Received(Arc<AtomicU64>);

impl Progress for Received {
    fn init(&mut self, _bytes: usize, _file: &str) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn update(&mut self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn finish(&mut self) {}
}

impl From<ApiError> for HubError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::RequestError(error) => Self::from_request(*error),
            // Reading from the network and writing to the disk fail through the same call.
            ApiError::IoError(error) if is_of_the_disk(error.kind()) => Self::Disk(error),
            ApiError::IoError(error) => Self::Cut(error.to_string()),
            ApiError::LockAcquisition(path) => {
                let text = format!("{} is locked by another program", path.display());
                Self::Disk(io::Error::other(text))
            }
            // A part that is longer than the file; the next attempt starts it again.
            ApiError::InvalidResume => Self::Cut(error.to_string()),
            other => Self::Protocol(other.to_string().to_lowercase()),
        }
    }
}

impl HubError {
    fn from_request(error: ureq::Error) -> Self {
        match error {
            ureq::Error::StatusCode(status) => Self::Status(status),
            ureq::Error::Io(error) if is_of_the_connection(error.kind()) => {
                Self::Cut(error.to_string())
            }
            ureq::Error::Protocol(error) => Self::Protocol(error.to_string()),
            ureq::Error::Io(error) => Self::Unreachable(error.to_string().to_lowercase()),
            ureq::Error::HostNotFound => Self::Unreachable("no such host".to_owned()),
            other => Self::Unreachable(other.to_string()),
        }
    }
}

/// Kinds of errors that a write to a disk has and a connection has not.
fn is_of_the_disk(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        FileTooLarge, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    matches!(
        kind,
        FileTooLarge
            | NotFound
            | PermissionDenied
            | QuotaExceeded
            | ReadOnlyFilesystem
            | StorageFull
    )
}

/// Kinds of errors of a connection that there was.
fn is_of_the_connection(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

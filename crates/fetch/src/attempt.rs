//! One attempt at one file, in a thread of its own, so that the caller can stop waiting at any time.

use crate::{
    file,
    hub::{Hub, HubError, Remote},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Sender,
    },
};

/// What is to be done.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Address of the hub.
    pub(crate) endpoint: String,
    /// The repository.
    pub(crate) repository: &'static str,
    /// Name of the file in the repository.
    pub(crate) file: String,
    /// Where it shall stand.
    pub(crate) path: PathBuf,
    /// Folder for unfinished files, an absolute path.
    pub(crate) unfinished: PathBuf,
    /// A file that stands at `path` is compared, not replaced.
    pub(crate) compare: bool,
}

/// What an attempt says on its way; [`Report::End`] is the last.
pub(crate) enum Report {
    /// The hub has described the file; so many bytes of it are here from before.
    Described { bytes: u64, here: u64 },
    /// All bytes are here and are being looked at.
    Checking,
    /// It is over.
    End(Result<Whole, Trouble>),
}

/// A file that is whole and in its place.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bytes: u64,
    pub(crate) tokens: u64,
    pub(crate) sha256: String,
    /// The commit of the repository that it is from.
    pub(crate) commit: String,
}

/// Why there is no whole file.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The hub, the way to it, or the disk on the client's side.
    Hub(HubError),
    /// All bytes came and are not the published ones; they are gone again.
    Content(String),
    /// The same of a file that somebody put there; it is left alone.
    Foreign(String),
    /// The file is a good one, but another than the recorded one.
    Changed { found: String, recorded: String },
    /// The disk on our side.
    Disk { action: &'static str, path: PathBuf, source: io::Error },
}

impl From<HubError> for Trouble {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

impl Trouble {
    pub(crate) fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Disk { action, path: path.to_owned(), source }
    }
}

impl Job {
    /// Makes the attempt in a thread. `received` follows the number of bytes that are here; the
    /// thread outlives a receiver that has gone, until its bytes are through or the process ends.
    pub(crate) fn start(
        &self,
        received: Arc<AtomicU64>,
        reports: Sender<Report>,
    ) -> io::Result<()> {
        let job = self.clone();
        let work = move || {
            let result = job.run(&received, &reports);
            // Nobody waits any more after an interruption.
            drop(reports.send(Report::End(result)));
        };
        std::thread::Builder::new().name("fetch".to_owned()).spawn(work).map(drop)
    }

    fn run(&self, received: &Arc<AtomicU64>, reports: &Sender<Report>) -> Result<Whole, Trouble> {
        let hub = Hub::new(&self.endpoint, self.repository, &self.unfinished)?;
        let remote = hub.describe(&self.file)?;
        let say = |report| drop(reports.send(report));
        if self.compare {
            say(Report::Described { bytes: remote.bytes, here: remote.bytes });
            say(Report::Checking);
            return self.keep(&remote, &self.path);
        }
        let here = self.begun(&remote)?;
        received.store(here, Ordering::Relaxed);
        say(Report::Described { bytes: remote.bytes, here });
        if here < remote.bytes {
            hub.download(&self.file, &remote, Arc::clone(received))?;
        }
        say(Report::Checking);
        self.whole_or_part(&remote)?;
        self.keep(&remote, &remote.whole)
    }

    /// Bytes of the file that are here from before. What cannot be continued is deleted.
    fn begun(&self, remote: &Remote) -> Result<u64, Trouble> {
        let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        if remote.whole.exists() {
            // Whole, but the process ended before it was checked; or cut off.
            fs::rename(&remote.whole, &remote.part)
                .map_err(Trouble::disk("move", &remote.whole))?;
        }
        let here = length(&remote.part);
        if here > remote.bytes {
            fs::remove_file(&remote.part).map_err(Trouble::disk("delete", &remote.part))?;
            return Ok(0);
        }
        if here == remote.bytes {
            fs::rename(&remote.part, &remote.whole).map_err(Trouble::disk("move", &remote.part))?;
        }
        Ok(here)
    }

    /// Checks the length. What is too short is a part again, what is too long is gone.
    fn whole_or_part(&self, remote: &Remote) -> Result<(), Trouble> {
        let held =
            fs::metadata(&remote.whole).map_err(Trouble::disk("look at", &remote.whole))?.len();
        if held < remote.bytes {
            fs::rename(&remote.whole, &remote.part)
                .map_err(Trouble::disk("move", &remote.whole))?;
            return Err(HubError::Cut("the connection ended early".to_owned()).into());
        }
        if held > remote.bytes {
            let text = format!("it has {held} bytes instead of {}", remote.bytes);
            return Err(self.wrong(&remote.whole, text));
        }
        Ok(())
    }

    /// Checks the content of the file at `path`, records its hash, and puts it in its place.
    fn keep(&self, remote: &Remote, path: &Path) -> Result<Whole, Trouble> {
        let sha256 = file::sha256(path).map_err(Trouble::disk("read", path))?;
        if let Some(published) = remote.sha256.as_ref().filter(|published| **published != sha256) {
            let text = format!("its SHA-256 is {sha256}, the hub says {published}");
            return Err(self.wrong(path, text));
        }
        let tokens = match file::count_tokens(path).map_err(Trouble::disk("read", path))? {
            Ok(tokens) => tokens,
            Err(reason) => return Err(self.wrong(path, reason)),
        };
        let recorded = file::recorded(&self.path);
        match recorded.map_err(Trouble::disk("read", &file::record_path(&self.path)))? {
            Some(recorded) if recorded != sha256 => {
                // The bytes are the hub's: kept, so that accepting them costs no second fetch.
                return Err(Trouble::Changed { found: sha256, recorded });
            }
            Some(_) => {}
            None => file::record(&self.path, &sha256)
                .map_err(Trouble::disk("write", &file::record_path(&self.path)))?,
        }
        if path != self.path {
            fs::File::open(path)
                .and_then(|file| file.sync_all())
                .and_then(|()| fs::rename(path, &self.path))
                .map_err(Trouble::disk("move a file to", &self.path))?;
        }
        Ok(Whole { bytes: remote.bytes, tokens, sha256, commit: remote.commit.clone() })
    }

    /// A file with the wrong content: ours to delete, or somebody's.
    fn wrong(&self, path: &Path, reason: String) -> Trouble {
        if path == self.path {
            return Trouble::Foreign(reason);
        }
        match fs::remove_file(path) {
            Ok(()) => Trouble::Content(reason),
            Err(error) => Trouble::disk("delete", path)(error),
        }
    }
}

//! The fetch: file after file, attempt after attempt.

use crate::{
    FetchError, Source,
    attempt::{Job, Report, Trouble, Whole},
    event::{Event, Fetched, FetchedFile},
    file,
    hub::{self, HubError},
};
use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// Folder for unfinished files, within the folder that is fetched into.
const UNFINISHED: &str = ".unfinished";
/// How often we look whether to stop, and tell how far we are.
const TICK: Duration = Duration::from_millis(100);
/// Attempts at a file whose content was wrong; something that spoils files does so again.
const CONTENT_ATTEMPTS: u32 = 2;

/// What is to be fetched, and where to.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// The data set.
    pub source: &'static Source,
    /// Number of files to train on; the one that is held out comes with them.
    pub shards: usize,
    /// The folder for the files; it is made.
    pub folder: PathBuf,
    /// Address of the hub, instead of that in `HF_ENDPOINT` or of the public one.
    pub endpoint: Option<String>,
}

/// How long to go on when something goes wrong.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Attempts at one file that bring not a single byte more; any byte more starts the count anew.
    pub attempts: u32,
    /// Pause before the second attempt; each further one is twice as long, up to a minute.
    pub pause: Duration,
    /// After so long without a byte the fetch ends.
    pub silence: Duration,
}

impl Default for Patience {
    /// Five attempts within a quarter of a minute, a minute of silence.
    fn default() -> Self {
        Self { attempts: 5, pause: Duration::from_secs(1), silence: Duration::from_secs(60) }
    }
}

/// Fetches what `request` asks for. Files that are here and agree with their records need no network.
///
/// `stop` is looked at ten times a second; when it is set, what is here stays, to be continued.
/// `observe` is called from this thread.
///
/// # Errors
/// A [`FetchError`]; after each of them the same request continues where this one ended.
pub fn fetch(
    request: &Fetch,
    patience: Patience,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(Event),
) -> Result<Fetched, FetchError> {
    let names = request.source.files(request.shards)?;
    let folder = made(&request.folder)?;
    let unfinished = made(&folder.join(UNFINISHED))?;
    let _lock = locked(&unfinished, &folder)?;
    let endpoint = hub::endpoint(request.endpoint.as_deref());
    let mut fetching = Fetching { patience, stop, observe, left: names.len(), reached: false };
    let mut fetched = Fetched { files: Vec::new(), commit: None };
    for file in names {
        let job = Job {
            endpoint: endpoint.clone(),
            repository: request.source.repository,
            path: folder.join(&file),
            file,
            unfinished: unfinished.clone(),
            compare: false,
        };
        let (file, commit) = fetching.file(job)?;
        fetching.left -= 1;
        (fetching.observe)(Event::Done(file.clone()));
        fetched.files.push(file);
        fetched.commit = commit.or(fetched.commit);
    }
    // Nothing of worth is left there. The next fetch makes it again if it must.
    drop(fs::remove_dir_all(&unfinished));
    Ok(fetched)
}

/// The folder, made where it is not there, as an absolute path.
fn made(folder: &Path) -> Result<PathBuf, FetchError> {
    fs::create_dir_all(folder).map_err(FetchError::io("create", folder))?;
    fs::canonicalize(folder).map_err(FetchError::io("find", folder))
}

/// Keeps other fetches out of the folder for as long as the answer lives.
fn locked(unfinished: &Path, folder: &Path) -> Result<File, FetchError> {
    let path = unfinished.join("lock");
    let file = File::create(&path).map_err(FetchError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FetchError::Busy(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(FetchError::io("lock", &path)(error)),
    }
}

struct Fetching<'a> {
    patience: Patience,
    stop: &'a AtomicBool,
    observe: &'a mut dyn FnMut(Event),
    /// Files that are not done, this one included.
    left: usize,
    /// Whether the hub has answered already: then a failing connection is worth another attempt.
    reached: bool,
}

impl Fetching<'_> {
    /// One file, from here or from the hub, and the commit where it is from there.
    fn file(&mut self, mut job: Job) -> Result<(FetchedFile, Option<String>), FetchError> {
        let unreadable = |error| FetchError::io("read", &job.path)(error);
        if job.path.exists() {
            let recorded = file::recorded(&job.path).map_err(unreadable)?;
            (self.observe)(Event::Checking { file: job.file.clone() });
            match recorded {
                Some(recorded) if file::sha256(&job.path).map_err(unreadable)? == recorded => {
                    if let Ok(tokens) = file::count_tokens(&job.path).map_err(unreadable)? {
                        let bytes = fs::metadata(&job.path).map_err(unreadable)?.len();
                        return Ok((job.done(bytes, tokens, recorded, 0), None));
                    }
                    return Err(FetchError::Foreign {
                        path: job.path,
                        reason: "its record was made for something else".to_owned(),
                    });
                }
                Some(_) => {
                    (self.observe)(Event::Damaged { file: job.file.clone() });
                    fs::remove_file(&job.path).map_err(FetchError::io("delete", &job.path))?;
                }
                // Put there by hand, perhaps from another machine: right if the hub says so.
                None => job.compare = true,
            }
            self.interrupted()?;
        }
        let (mut failures, mut spoilt, mut most) = (0, 0, 0);
        let mut total = 0;
        loop {
            let (result, received) = self.attempt(&job, &mut most, &mut total)?;
            let reason = match result {
                Ok(Whole { bytes, tokens, sha256, commit }) => {
                    return Ok((job.done(bytes, tokens, sha256, total), Some(commit)));
                }
                Err(Trouble::Content(reason)) => {
                    spoilt += 1;
                    most = 0;
                    if spoilt == CONTENT_ATTEMPTS {
                        let Job { endpoint, file, .. } = job;
                        return Err(FetchError::WrongContent { endpoint, file, reason });
                    }
                    reason
                }
                Err(trouble) => job.worth_another(trouble, self.reached)?,
            };
            failures = if received { 1 } else { failures + 1 };
            if failures >= self.patience.attempts {
                let (file, attempts) = (job.file, failures);
                return Err(FetchError::GaveUp { file, attempts, reason });
            }
            self.wait(&job.file, reason, failures)?;
        }
    }

    /// One attempt, and whether it got further than all before it.
    fn attempt(
        &mut self,
        job: &Job,
        most: &mut u64,
        total: &mut u64,
    ) -> Result<(Result<Whole, Trouble>, bool), FetchError> {
        let received = Arc::new(AtomicU64::new(0));
        let (sender, reports) = mpsc::channel();
        job.start(Arc::clone(&received), sender)
            .map_err(FetchError::io("begin with", &job.path))?;
        let (mut here, mut from) = (0, None);
        let mut heard = Instant::now();
        let mut checking = false;
        let result = loop {
            match reports.recv_timeout(TICK) {
                Ok(Report::End(result)) => break result,
                Ok(Report::Described { bytes, here: begun }) => {
                    self.reached = true;
                    heard = Instant::now();
                    if !job.compare {
                        self.has_room(job, bytes, begun)?;
                        (here, from) = (begun, Some(begun));
                        let file = job.file.clone();
                        (self.observe)(Event::Begun { file, bytes, here });
                    }
                }
                Ok(Report::Checking) => checking = true,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let text = "the hub's client broke down".to_owned();
                    break Err(HubError::Protocol(text).into());
                }
            }
            let now = received.load(Ordering::Relaxed);
            if from.is_some() && now > here {
                (here, heard) = (now, Instant::now());
                (self.observe)(Event::Received { here });
            }
            self.interrupted()?;
            if !checking && heard.elapsed() > self.patience.silence {
                let seconds = self.patience.silence.as_secs();
                return Err(FetchError::Stalled { endpoint: job.endpoint.clone(), seconds });
            }
        };
        let now = received.load(Ordering::Relaxed);
        *total += from.map_or(0, |from| now.saturating_sub(from));
        let further = now > *most;
        *most = now.max(*most);
        Ok((result, further))
    }

    /// Whether this file and the others, if they are as long, have room.
    fn has_room(&self, job: &Job, bytes: u64, here: u64) -> Result<(), FetchError> {
        let folder = job.unfinished.parent().unwrap_or(&job.unfinished);
        // Where the system does not tell, the disk will.
        let Ok(disk) = nix::sys::statvfs::statvfs(folder) else { return Ok(()) };
        let free = disk.blocks_available() * disk.fragment_size();
        let needed = (bytes * self.left as u64).saturating_sub(here);
        if needed <= free {
            return Ok(());
        }
        Err(FetchError::NoRoom { folder: folder.to_owned(), free, needed })
    }

    fn interrupted(&self) -> Result<(), FetchError> {
        if self.stop.load(Ordering::Relaxed) { Err(FetchError::Interrupted) } else { Ok(()) }
    }

    fn wait(&mut self, file: &str, reason: String, failures: u32) -> Result<(), FetchError> {
        let doubled = self.patience.pause.saturating_mul(1 << (failures - 1).min(16));
        let pause = doubled.min(Duration::from_secs(60));
        (self.observe)(Event::Waiting { file: file.to_owned(), reason, pause });
        let begun = Instant::now();
        while let Some(left) = pause.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
            self.interrupted()?;
            std::thread::sleep(left.min(TICK));
        }
        self.interrupted()
    }
}

impl Job {
    fn done(&self, bytes: u64, tokens: u64, sha256: String, received: u64) -> FetchedFile {
        FetchedFile { file: self.file.clone(), bytes, tokens, sha256, received }
    }

    /// Why an attempt failed, when another one may help; otherwise how the fetch ends.
    fn worth_another(&self, trouble: Trouble, reached: bool) -> Result<String, FetchError> {
        let (endpoint, file) = (self.endpoint.clone(), self.file.clone());
        let folder = || self.path.parent().unwrap_or(&self.path).to_owned();
        Err(match trouble {
            Trouble::Hub(HubError::Cut(reason)) => return Ok(reason),
            Trouble::Hub(HubError::Status(status @ (408 | 416 | 425 | 429 | 500..))) => {
                return Ok(format!("the hub answered with HTTP status {status}"));
            }
            Trouble::Hub(HubError::Unreachable(reason)) if reached => return Ok(reason),
            Trouble::Hub(HubError::Unreachable(reason)) => {
                FetchError::Unreachable { endpoint, reason, folder: folder() }
            }
            Trouble::Hub(HubError::Status(404)) => {
                FetchError::NotFound { endpoint, file, repository: self.repository }
            }
            Trouble::Hub(HubError::Status(status)) => {
                FetchError::Refused { endpoint, file, status }
            }
            Trouble::Hub(HubError::Protocol(reason)) => FetchError::Protocol { endpoint, reason },
            Trouble::Hub(HubError::Disk(source)) => {
                FetchError::io("write in", &self.unfinished)(source)
            }
            Trouble::Disk { action, path, source } => FetchError::io(action, &path)(source),
            Trouble::Content(reason) => return Ok(reason),
            Trouble::Foreign(reason) => FetchError::Foreign { path: self.path.clone(), reason },
            Trouble::Changed { found, recorded } => {
                FetchError::Changed { file, found, recorded, folder: folder() }
            }
        })
    }
}

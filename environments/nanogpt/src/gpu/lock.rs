//! One program on a GPU at a time, among all processes and users of the machine.
//!
//! The lock is the kernel's (`flock`) on one file per GPU, so it ends with the process that holds it,
//! however that ends: there are no stale locks, and what a file says of its holder is for people only.
//! Anybody who may write in the folder can hold the lock for as long as they like; this keeps
//! measurements apart that mean well, and is no protection from users of the machine.

use forerunner_core::{Error, Host, Result};
use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How often a taken lock is tried again, and the host asked whether it still wants the result.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often people are told that it is still taken.
const REMINDER: Duration = Duration::from_secs(30);
/// Most bytes of what a file says about its holder.
const HOLDER_BYTES: u64 = 200;

/// A GPU held. Let go when dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
    /// Seconds that somebody else had it first.
    pub(super) waited_seconds: f64,
}

/// The folder that all users of this machine share for such files: FORERUNNER_GPU_LOCKS, or
/// `/run/lock` where everybody may write, or `/tmp`.
pub(super) fn folder() -> PathBuf {
    let everybody_writes = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|data| data.is_dir() && data.permissions().mode() & 0o1002 == 0o1002)
    };
    std::env::var_os("FORERUNNER_GPU_LOCKS")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from("/run/lock")).filter(everybody_writes))
        .unwrap_or_else(|| "/tmp".into())
}

impl Lock {
    /// Waits for the GPU called `name` (its UUID), telling people who has it.
    ///
    /// # Errors
    /// [`Error::Cancelled`] when the host does not want the result any more, and when the file cannot
    /// be made or locked.
    pub(super) fn take(folder: &Path, name: &str, host: &dyn Host) -> Result<Self> {
        let path = folder.join(format!("forerunner-{}.lock", harmless(name)));
        let failed = |error: io::Error| {
            Error::Failed(format!(
                "cannot lock `{}`: {error}\nhint: set FORERUNNER_GPU_LOCKS to a folder that everybody \
                 who measures on this GPU can write",
                path.display()
            ))
        };
        let mut file = open(&path).map_err(failed)?;
        let begin = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            if host.cancelled() {
                return Err(Error::Cancelled);
            }
            if told.is_none_or(|when| when.elapsed() >= REMINDER) {
                told = Some(Instant::now());
                let seconds = begin.elapsed().as_secs();
                let text =
                    format!("waiting for GPU {name}: {} has it ({seconds} s)", holder(&path));
                host.progress(0.0, &text);
            }
            std::thread::sleep(PATIENCE);
        }
        // Of an earlier holder's longer text nothing must remain. Somebody else's file may be
        // readable only; the lock holds all the same.
        let text = format!("pid {}, user {}", std::process::id(), nix::unistd::Uid::current());
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(text.as_bytes()));
        let waited_seconds = if told.is_some() { begin.elapsed().as_secs_f64() } else { 0.0 };
        Ok(Self { _file: file, waited_seconds })
    }
}

/// Opens the file, or makes it for everybody. Not through links, and never with the right to make it
/// when it is there: kernels refuse that for somebody else's file in a folder such as `/tmp`.
fn open(path: &Path) -> io::Result<File> {
    let existing = || {
        let open = |write| {
            OpenOptions::new().read(true).write(write).custom_flags(libc::O_NOFOLLOW).open(path)
        };
        open(true).or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => open(false),
            _ => Err(error),
        })
    };
    let made = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
            file.set_permissions(std::fs::Permissions::from_mode(0o666))?;
            Ok(file)
        }
        _ => Err(error),
    };
    existing().or_else(made).or_else(|error| match error.kind() {
        // Somebody made it in between.
        io::ErrorKind::AlreadyExists => existing(),
        _ => Err(error),
    })
}

/// Who has it, in their own words, made harmless.
fn holder(path: &Path) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HOLDER_BYTES).read_to_end(&mut text));
    let text = crate::telemetry::printable(&String::from_utf8_lossy(&text), HOLDER_BYTES as usize);
    if read.is_err() || text.is_empty() { "another process".into() } else { text }
}

/// A name that is one for a file.
fn harmless(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    /// Remembers what it is told, and cancels when it is told to.
    #[derive(Default)]
    struct Listener {
        said: Mutex<Vec<String>>,
        cancelled: AtomicBool,
    }

    impl Host for Listener {
        fn record(&self, _: &str, _: u64, _: f64) {}
        fn progress(&self, _: f64, message: &str) {
            self.said.lock().unwrap().push(message.into());
        }
        fn store(&self, _: &str, _: &[u8]) -> Result<PathBuf> {
            Err(Error::failed("nothing is stored here"))
        }
        fn cache_dir(&self) -> PathBuf {
            PathBuf::new()
        }
        fn cancelled(&self) -> bool {
            self.cancelled.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_second_waits_for_the_first_and_says_for_whom() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (Listener::default(), Listener::default());
        let held = Lock::take(folder.path(), "GPU-1/..", &first).unwrap();
        assert_eq!(held.waited_seconds, 0.0);
        assert!(first.said.lock().unwrap().is_empty());
        assert!(folder.path().join("forerunner-GPU-1___.lock").exists());
        // Another GPU is free.
        Lock::take(folder.path(), "GPU-2", &second).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::take(folder.path(), "GPU-1/..", &second).unwrap());
            while second.said.lock().unwrap().is_empty() {
                std::thread::sleep(Duration::from_millis(5));
            }
            drop(held);
            assert!(waiting.join().unwrap().waited_seconds > 0.0);
        });
        let said = second.said.lock().unwrap().join("\n");
        let expected = format!("waiting for GPU GPU-1/..: pid {}, user ", std::process::id());
        assert!(said.starts_with(&expected), "{said}");
        // The one who waited is gone as well, and nothing of it remains.
        assert_eq!(Lock::take(folder.path(), "GPU-1/..", &first).unwrap().waited_seconds, 0.0);
    }

    #[test]
    fn waiting_ends_when_the_result_is_not_wanted() {
        let folder = tempfile::tempdir().unwrap();
        let host = Listener::default();
        let _held = Lock::take(folder.path(), "GPU-1", &host).unwrap();
        host.cancelled.store(true, Ordering::Relaxed);
        let error = Lock::take(folder.path(), "GPU-1", &host).unwrap_err();
        assert!(matches!(error, Error::Cancelled), "{error}");
    }

    #[test]
    fn a_link_in_a_shared_folder_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, "keep this").unwrap();
        std::os::unix::fs::symlink(&elsewhere, folder.path().join("forerunner-GPU-1.lock"))
            .unwrap();
        let error = Lock::take(folder.path(), "GPU-1", &Listener::default()).unwrap_err();
        assert!(error.to_string().contains("cannot lock"), "{error}");
        assert_eq!(std::fs::read_to_string(elsewhere).unwrap(), "keep this");
    }

    #[test]
    fn everybody_may_use_the_file() {
        let folder = tempfile::tempdir().unwrap();
        drop(Lock::take(folder.path(), "GPU-1", &Listener::default()).unwrap());
        let path = folder.path().join("forerunner-GPU-1.lock");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o666);
        // Where writing is refused, reading is enough to lock.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
        drop(Lock::take(folder.path(), "GPU-1", &Listener::default()).unwrap());
        assert!(super::folder().is_dir());
    }
}

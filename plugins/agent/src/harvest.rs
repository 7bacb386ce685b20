//! The program in a folder that somebody else may be writing to.
//!
//! Nothing is followed or waited for: every folder is opened by its place in the one above, and every
//! file as what it is, so that a link, a pipe or a folder that is exchanged while we look leads
//! nowhere.

use crate::Config;
use forerunner_sdk::Program;
use nix::fcntl::OFlag;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Names at the top of the folder that are no part of the program.
const RESERVED: [&str; 7] =
    ["BRIEF.md", "TELEMETRY.md", "HISTORY.md", "FINDINGS.md", "IDEA.md", "check", "inspirations"];

/// Folders that tools fill and nobody reads.
const BYWAYS: [&str; 4] = ["target", "node_modules", "__pycache__", "venv"];

/// Entries of the folder that are looked at.
pub(crate) const MAX_ENTRIES: usize = 20_000;
/// Folders within folders.
const MAX_DEPTH: usize = 16;

/// What of a folder belongs to a program.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Paths that the program had.
    known: BTreeSet<String>,
    /// Extensions of files that may join it.
    extensions: BTreeSet<String>,
    file_bytes: u64,
    files: usize,
}

impl Wanted {
    /// The paths of `parent` and of what lies in the folder at `start`, and what the configuration
    /// lets join them.
    pub(crate) fn new(config: &Config, parent: &Program, start: &Program) -> Self {
        let own = || parent.files.keys().filter_map(|path| Some(extension(path)?.to_owned()));
        let extensions = match &config.extensions {
            Some(given) => given.iter().map(|e| e.trim_start_matches('.').to_owned()).collect(),
            None => own().collect(),
        };
        Self {
            known: parent.files.keys().chain(start.files.keys()).cloned().collect(),
            extensions,
            file_bytes: config.file_kib << 10,
            files: config.files,
        }
    }

    /// The extensions of files that may join the program.
    pub(crate) fn extensions(&self) -> impl Iterator<Item = &str> {
        self.extensions.iter().map(String::as_str)
    }

    /// The program that lies in a folder.
    ///
    /// # Errors
    /// In words for the agent: what there is refused, and what to do about it.
    pub(crate) fn read(&self, folder: &File) -> Result<Program, String> {
        let mut walk = Walk { wanted: self, program: Program::default(), n_entries: 0 };
        walk.folder(folder, "", 0)?;
        Ok(walk.program)
    }

    fn belongs(&self, path: &str) -> bool {
        let may_join = || {
            let hidden = path.split('/').any(|part| part.starts_with('.'));
            !hidden && extension(path).is_some_and(|found| self.extensions.contains(found))
        };
        self.known.contains(path) || !is_reserved(path) && may_join()
    }

    /// Whether a path of the program lies below this folder.
    fn leads_on(&self, folder: &str) -> bool {
        let start = format!("{folder}/");
        self.known.range(start.clone()..).next().is_some_and(|path| path.starts_with(&start))
    }
}

/// On the way through a folder.
struct Walk<'a> {
    wanted: &'a Wanted,
    program: Program,
    n_entries: usize,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &File, prefix: &str, depth: usize) -> Result<(), String> {
        let unreadable = |error| format!("the folder `{prefix}` cannot be read: {error}");
        let entries = fs::read_dir(by_descriptor(folder)).map_err(unreadable)?;
        let mut names = Vec::new();
        for entry in entries {
            self.n_entries += 1;
            if self.n_entries > MAX_ENTRIES {
                return Err(format!(
                    "the folder holds more than {MAX_ENTRIES} entries; remove what is not needed"
                ));
            }
            let entry = entry.map_err(unreadable)?;
            // A name that is no text is no name of a program's file.
            let Ok(name) = entry.file_name().into_string() else { continue };
            // A file that is gone by now is not there.
            if let Ok(kind) = entry.file_type() {
                names.push((name, kind));
            }
        }
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, kind) in names {
            let path = format!("{prefix}{name}");
            if kind.is_dir() {
                let aside = name.starts_with('.') || BYWAYS.contains(&name.as_str());
                if self.wanted.leads_on(&path) || !aside && !is_reserved(&path) && depth < MAX_DEPTH
                {
                    let below = match open_below(folder, &name) {
                        Ok(below) => below,
                        // Parts of the program must not go missing because nobody may look.
                        Err(error) if self.wanted.leads_on(&path) => return Err(unreadable(error)),
                        Err(_) => continue,
                    };
                    self.folder(&below, &format!("{path}/"), depth + 1)?;
                }
            } else if self.wanted.belongs(&path) || self.wanted.leads_on(&path) {
                self.file(folder, &name, path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, folder: &File, name: &str, path: String) -> Result<(), String> {
        let shown: String = path.escape_debug().collect();
        let other = || format!("`{shown}` is no ordinary file; a program is made of such");
        // A symbolic link is not followed, and nobody waits at a pipe.
        let file = open_file(folder, name).map_err(|_| other())?;
        let metadata = file.metadata().map_err(|_| other())?;
        if !metadata.is_file() || self.wanted.leads_on(&path) {
            return Err(other());
        }
        let limit = self.wanted.file_bytes;
        let too_large = || format!("`{shown}` is larger than {} KiB", limit >> 10);
        if metadata.len() > limit {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("`{shown}`: {error}"))?;
        if bytes.len() as u64 > limit {
            return Err(too_large());
        }
        let text = String::from_utf8(bytes).map_err(|_| format!("`{shown}` is no UTF-8 text"))?;
        self.program.files.insert(path, text);
        if self.program.files.len() > self.wanted.files {
            return Err(format!("the program has more than {} files", self.wanted.files));
        }
        Ok(())
    }
}

/// Whether a path is one of the names that the folder needs itself, or lies below one.
pub(crate) fn is_reserved(path: &str) -> bool {
    RESERVED.contains(&path.split('/').next().unwrap_or(path))
}

fn extension(path: &str) -> Option<&str> {
    Path::new(path).extension().and_then(|extension| extension.to_str())
}

/// A path to an open folder that stays right when it is moved.
pub(crate) fn by_descriptor(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

/// Opens what lies there itself, never what it points to, and waits for nothing.
fn open(path: &Path, flags: OFlag) -> std::io::Result<File> {
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// Opens a folder.
pub(crate) fn open_folder(path: &Path) -> std::io::Result<File> {
    open(path, OFlag::O_DIRECTORY)
}

/// Opens a folder within an open one.
pub(crate) fn open_below(folder: &File, name: &str) -> std::io::Result<File> {
    open_folder(&by_descriptor(folder).join(name))
}

/// Opens a file within an open folder; it may be anything that is no link.
pub(crate) fn open_file(folder: &File, name: &str) -> std::io::Result<File> {
    open(&by_descriptor(folder).join(name), OFlag::empty())
}

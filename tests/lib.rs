//! What the end-to-end tests in `e2e/` share: the installed binary, a folder of its own for each
//! test, and the plugins that are built outside the workspace.
//!
//! Tests drive `target/forerunner/bin/forerunner` as a user would and look only at what a user
//! can see: exit codes, the two output streams, and files.

mod browser;
mod events;
mod fixture;
mod hook;
mod process;

pub use browser::{Browser, Dom, Scheme};
pub use events::{Log, log_of, parse_lines};
pub use fixture::{Fixture, example_environment, strange_plugins};
pub use hook::Hook;
pub use process::{Running, wait_until_alone};

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

/// A run of the environment `trivial`: fast, deterministic, and nothing is compiled.
pub const TRIVIAL: &str = r#"[environment]
name = "trivial"

[[mutator]]
name = "nudge"

[selector]
name = "islands"

[run]
children = 4

[budget]
evaluations = 10
"#;

/// The installation under test: `target/forerunner`, or FORERUNNER_TEST_PREFIX.
///
/// # Panics
/// When nothing is installed there.
pub fn prefix() -> PathBuf {
    let prefix = std::env::var_os("FORERUNNER_TEST_PREFIX")
        .map_or_else(|| workspace().join("target/forerunner"), PathBuf::from);
    assert!(
        prefix.join("bin/forerunner").is_file() && prefix.join("lib/forerunner/plugins").is_dir(),
        "nothing is installed in {}\nhint: run `cargo xtask install --prefix target/forerunner`, \
         or `cargo xtask test`, which does so first",
        prefix.display()
    );
    prefix
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests' folder is in the workspace").to_owned()
}

/// Whether a plugin library is installed, for example `nanogpt`.
pub fn is_installed(plugin: &str) -> bool {
    prefix().join(format!("lib/forerunner/plugins/libforerunner_{plugin}.so")).is_file()
}

/// Says aloud (past the test harness, which keeps quiet about what passes) that a part of a test
/// could not be done here.
pub fn skip(test: &str, reason: &str) {
    let line = format!("skipped: {test}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
}

/// A folder for one test, in which every command runs.
pub struct Scratch {
    folder: tempfile::TempDir,
    prefix: PathBuf,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// An empty folder.
    ///
    /// # Panics
    /// When nothing is installed, or no folder can be made.
    pub fn new() -> Self {
        Self::with_prefix(prefix())
    }

    /// An empty folder from which the installation at `prefix` is used.
    ///
    /// # Panics
    /// When no folder can be made.
    pub fn with_prefix(prefix: PathBuf) -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), prefix }
    }

    /// A folder that holds the run file `trivial.toml`.
    ///
    /// # Panics
    /// As [`Scratch::new`].
    pub fn trivial() -> Self {
        let scratch = Self::new();
        scratch.write("trivial.toml", TRIVIAL);
        scratch
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a file, and the folders above it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("the folder is made");
        fs::write(&path, text).expect("the file is written");
        path
    }

    /// Copies a built plugin into the folder `plugins`.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn add_plugin(&self, library: &Path) {
        let plugins = self.path().join("plugins");
        fs::create_dir_all(&plugins).expect("the folder is made");
        let name = library.file_name().expect("a library has a name");
        fs::copy(library, plugins.join(name)).expect("the plugin is copied");
    }

    /// The installed binary.
    pub fn binary(&self) -> PathBuf {
        self.prefix.join("bin/forerunner")
    }

    /// `program`, to be run in this folder with nothing of the caller's configuration.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).stdin(std::process::Stdio::null());
        for key in ["FORERUNNER_PREFIX", "FORERUNNER_PLUGINS", "FORERUNNER_LOG", "COLUMNS"] {
            command.env_remove(key);
        }
        command.env("XDG_CACHE_HOME", self.path().join("xdg-cache"));
        // Runs of other tests, at the same time on the same cores, are none of its business.
        command.env("XDG_RUNTIME_DIR", self.path().join("xdg-runtime"));
        command
    }

    /// The command, with arguments separated by blanks.
    pub fn command(&self, arguments: &str) -> Command {
        let mut command = self.program(self.binary());
        command.args(arguments.split_whitespace());
        command
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    /// When it does not start.
    pub fn forerunner(&self, arguments: &str) -> Done {
        self.done(self.command(arguments))
    }

    /// Runs any command to its end.
    ///
    /// # Panics
    /// When it does not start, or does not end.
    pub fn done(&self, command: Command) -> Done {
        let (code, stdout, stderr) = Running::start(command).finish();
        Done { code, stdout, stderr: self.redacted(&stderr) }
    }

    /// `text` with this folder and the installation replaced by names.
    pub fn redacted(&self, text: &str) -> String {
        let text = text.replace(&*self.path().to_string_lossy(), "[here]");
        text.replace(&*self.prefix.to_string_lossy(), "[prefix]")
    }

    /// The event log of the run in `folder`.
    ///
    /// # Panics
    /// When there is none.
    pub fn log(&self, folder: &str) -> Log {
        let done = self.forerunner(&format!("log --json {folder}"));
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        Log(parse_lines(&done.stdout))
    }
}

/// A command that ran to its end.
pub struct Done {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error, redacted.
    pub stderr: String,
}

impl Done {
    /// Exit code and standard error, for snapshots of errors.
    pub fn failure(&self) -> String {
        match self.code {
            Some(code) => format!("exit {code}\n{}", self.stderr),
            None => format!("ended by a signal\n{}", self.stderr),
        }
    }

    /// Standard output of a command that must succeed.
    ///
    /// # Panics
    /// When it failed.
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.stdout);
        self.stdout
    }
}

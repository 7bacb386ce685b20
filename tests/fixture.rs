//! Plugins in crates outside the workspace, built as a stranger would build them.

use crate::workspace;
use serde_json::Value;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The libraries of a built fixture.
pub struct Fixture(Vec<PathBuf>);

impl Fixture {
    /// The library called `lib<name>.so`.
    ///
    /// # Panics
    /// When the fixture has none.
    pub fn library(&self, name: &str) -> &Path {
        let file = format!("lib{name}.so");
        self.0.iter().find(|path| path.ends_with(&file)).expect("the fixture has this library")
    }
}

/// The example of the documentation: an environment in some thirty lines.
pub fn example_environment() -> &'static Fixture {
    static BUILT: OnceLock<Fixture> = OnceLock::new();
    BUILT.get_or_init(|| build("example-environment", &[]))
}

/// Plugins that misbehave or belong to another host.
pub fn strange_plugins() -> &'static Fixture {
    static BUILT: OnceLock<Fixture> = OnceLock::new();
    BUILT.get_or_init(|| build("strange-plugins", &["--lib", "--examples"]))
}

/// Builds with the workspace's versions, so that nothing is downloaded twice. Not into the
/// workspace's own target folder: cargo would wait there for every other build that goes on.
fn build(name: &str, targets: &[&str]) -> Fixture {
    let folder = workspace().join("tests/fixtures").join(name);
    // Tests in other processes (nextest) build the same fixture.
    let target = workspace().join("target/fixtures");
    fs::create_dir_all(&target).expect("the target folder can be written");
    let lock = File::create(target.join(format!("{name}.lock"))).expect("the lock is made");
    lock.lock().expect("the lock is free at some time");
    share_versions(&folder);
    let cargo = |options: &[&str]| {
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--release", "--message-format=json-render-diagnostics"])
            .args(targets)
            .args(options)
            .arg("--target-dir")
            .arg(&target)
            .current_dir(&folder)
            .stderr(Stdio::piped())
            .output()
            .expect("cargo starts")
    };
    let mut output = cargo(&["--offline"]);
    if !output.status.success() {
        output = cargo(&[]);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{} does not build:\n{errors}", folder.display());
    let messages = String::from_utf8(output.stdout).expect("cargo speaks UTF-8");
    let libraries = crate::parse_lines(&messages)
        .iter()
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| message["filenames"].as_array())
        .flatten()
        .filter_map(Value::as_str)
        .map(PathBuf::from)
        .filter(|path| path.extension().is_some_and(|extension| extension == "so"))
        .collect();
    Fixture(libraries)
}

/// Gives the fixture the workspace's lock file whenever that is newer.
fn share_versions(folder: &Path) {
    let (ours, theirs) = (workspace().join("Cargo.lock"), folder.join("Cargo.lock"));
    let age = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    if age(&theirs) < age(&ours) {
        fs::copy(ours, theirs).expect("the fixture's folder can be written");
    }
}

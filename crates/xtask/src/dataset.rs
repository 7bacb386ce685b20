//! The data set of an installation: the default corpus, made by the installed binary itself.

use crate::{command, console::say, install, workspace};
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const NAME: &str = "rust-deps";

/// Makes the data set when it is missing, or when anything that it is made from changed.
pub(crate) fn prepare(prefix: &Path) -> Result<()> {
    let folder = prefix.join("share/forerunner/data").join(NAME);
    let stamp = folder.with_extension("stamp");
    let fingerprint = fingerprint()?;
    let same = fs::read_to_string(&stamp).is_ok_and(|known| known == fingerprint);
    if same && folder.join("dataset.json").is_file() {
        return Ok(());
    }
    say(format_args!("making the data set {NAME} from the sources of the locked dependencies"));
    let mut prepare = Command::new(prefix.join("bin/forerunner"));
    prepare
        .args(["data", "prepare", "--name", NAME, "--locked-dependencies"])
        .arg(workspace::root().join("Cargo.toml"))
        .arg("--out")
        .arg(&folder)
        // Its lines are not a result of ours.
        .stdout(Stdio::null());
    command::run(&mut prepare)?;
    install::replace(&stamp, fingerprint.as_bytes(), None)
}

/// Hash of everything that decides the data set's bytes. The data set has a fingerprint of its
/// own, over its content; this one is there to avoid reading the content again.
fn fingerprint() -> Result<String> {
    let environment = workspace::root().join("environments/nanogpt");
    let mut inputs: Vec<PathBuf> = vec![
        workspace::root().join("Cargo.lock"),
        environment.join("corpus.toml"),
        environment.join("src/dataset.rs"),
        environment.join("src/shard.rs"),
    ];
    inputs.extend(workspace::sorted(&environment.join("src/prepare"))?);
    let mut hash = Sha256::new();
    for path in inputs {
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(&content);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

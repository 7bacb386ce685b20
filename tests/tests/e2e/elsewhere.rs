//! An installation that was copied to another place, used by somebody who owns nothing of it.

use forerunner_tests::{Scratch, TRIVIAL, prefix, skip};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder above")).expect("made");
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().expect("cp starts");
    assert!(status.success(), "cp -r {} {}", from.display(), to.display());
}

/// A copy of the installation without data sets, which are large and belong to `nanogpt`.
fn copied_prefix(into: &Path) -> std::path::PathBuf {
    let copied = into.join("opt/forerunner");
    copy(&prefix().join("bin"), &copied.join("bin"));
    copy(&prefix().join("lib"), &copied.join("lib"));
    let presets = prefix().join("share/forerunner/presets");
    if presets.is_dir() {
        copy(&presets, &copied.join("share/forerunner/presets"));
    }
    copied
}

#[test]
fn a_copied_installation_works_from_an_empty_folder() {
    let installed = tempfile::tempdir().expect("a temporary folder");
    let scratch = Scratch::with_prefix(copied_prefix(installed.path()));
    let list = scratch.forerunner("plugin list").good();
    assert!(list.contains(&*installed.path().to_string_lossy()), "its own plugins: {list}");
    assert!(!list.contains("target/forerunner"), "not those of the checkout: {list}");
    scratch.write("trivial.toml", TRIVIAL);
    scratch.forerunner("run trivial.toml --out run").good();
    scratch.log("run").verdicts_of_exactly(10);
}

#[test]
fn an_ordinary_user_can_use_it() {
    let name = "an_ordinary_user_can_use_it";
    if !nix::unistd::geteuid().is_root() {
        return skip(name, "already an ordinary user; every other test shows it");
    }
    let Ok(Some(nobody)) = nix::unistd::User::from_name("nobody") else {
        return skip(name, "there is no user `nobody`");
    };
    let installed = tempfile::tempdir().expect("a temporary folder");
    let open = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
    };
    open(installed.path());
    let scratch = Scratch::with_prefix(copied_prefix(installed.path()));
    open(scratch.path());
    scratch.write("home/trivial.toml", TRIVIAL);
    let home = scratch.path().join("home");
    nix::unistd::chown(&home, Some(nobody.uid), Some(nobody.gid)).expect("root may");

    let ids = [format!("--reuid={}", nobody.uid), format!("--regid={}", nobody.gid)];
    let as_nobody = |arguments: &str| {
        let mut command = scratch.program("setpriv");
        command.args(&ids).args(["--clear-groups", "--no-new-privs"]);
        command.arg(scratch.binary()).args(arguments.split_whitespace());
        command.current_dir(&home).env_remove("XDG_CACHE_HOME").env("HOME", &home);
        command
    };
    if as_nobody("--version").output().is_err() {
        return skip(name, "there is no `setpriv`");
    }
    let text = scratch.done(as_nobody("run trivial.toml")).good();
    assert!(text.contains("10 iterations"), "{text}");
    scratch.done(as_nobody("show runs/trivial-001")).good();
    scratch.done(as_nobody("evaluate reference --environment trivial")).good();
    // Somebody else's run can be looked at without changing it.
    scratch.forerunner("show home/runs/trivial-001").good();
}

/// Looking at a run must not need the right to change it.
#[test]
fn a_run_that_may_only_be_read_can_be_shown() {
    let name = "a_run_that_may_only_be_read_can_be_shown";
    if !nix::unistd::geteuid().is_root() {
        return skip(name, "only root can give a folder away");
    }
    let Ok(Some(nobody)) = nix::unistd::User::from_name("nobody") else {
        return skip(name, "there is no user `nobody`");
    };
    let scratch = Scratch::trivial();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    scratch.forerunner("run trivial.toml --out run").good();
    let copied = scratch.path().join("forerunner");
    fs::copy(scratch.binary(), &copied).expect("copied");
    let mut command = scratch.program("setpriv");
    command.arg(format!("--reuid={}", nobody.uid)).arg(format!("--regid={}", nobody.gid));
    command.args(["--clear-groups"]).arg(&copied).args(["show", "run"]);
    let done = scratch.done(command);
    assert_eq!(done.failure(), "exit 0\n");
}

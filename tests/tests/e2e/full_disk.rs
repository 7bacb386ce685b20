//! A disk that is full: a clear message, and nothing completed is lost.

use forerunner_tests::{Done, Scratch, skip};

/// Runs a shell script whose `$1` is the binary.
fn shell(scratch: &Scratch, script: &str, under: &[&str]) -> Done {
    let words: Vec<&str> = under.iter().copied().chain(["sh", "-c", script, "sh"]).collect();
    let mut command = scratch.program(words[0]);
    command.args(&words[1..]).arg(scratch.binary());
    scratch.done(command)
}

fn check_kept(scratch: &Scratch, budget: u64) {
    let kept = scratch.log("run").evaluated();
    assert!(!kept.is_empty() && (kept.len() as u64) < budget, "{kept:?}");
    scratch.forerunner("run --resume run").good();
    let log = scratch.log("run");
    log.verdicts_of_exactly(budget);
    assert_eq!(log.evaluated()[..kept.len()], kept, "what was kept is kept");
    assert_eq!(log.summary()["iterations"], budget);
}

#[test]
fn a_file_that_cannot_grow() {
    let scratch = Scratch::trivial();
    // The shell counts blocks of 512 bytes; with SIGXFSZ ignored a write fails instead.
    let script = "trap '' XFSZ; ulimit -f 800; \
                  exec \"$1\" run trivial.toml --out run --set budget.evaluations=300";
    let done = shell(&scratch, script, &[]);
    insta::assert_snapshot!(done.failure(), @"
    exit 4
    error: the disk is full: run cannot take the last result (disk I/O error)
    hint: free some space, then `forerunner run --resume run`; everything completed before is kept
    ");
    check_kept(&scratch, 300);
}

#[test]
fn a_file_system_that_is_full() {
    let scratch = Scratch::trivial();
    let namespace = ["unshare", "--map-root-user", "--mount"];
    std::fs::create_dir(scratch.path().join("tiny")).expect("made");
    let mount = "mount -t tmpfs -o size=600k tmpfs tiny";
    let possible = shell(&scratch, mount, &namespace);
    if possible.code != Some(0) {
        return skip("a_file_system_that_is_full", possible.stderr.trim());
    }
    // The file system lives as long as the script: it is filled, enlarged, used again.
    let script = "mount -t tmpfs -o size=600k tmpfs tiny || exit 99
        \"$1\" run trivial.toml --out tiny/run --set budget.evaluations=300 --events ndjson >first
        echo $? >first.code
        mount -o remount,size=40m tiny || exit 98
        \"$1\" run --resume tiny/run --events ndjson >second
        echo $? >second.code
        cp -r tiny/run run";
    let done = shell(&scratch, script, &namespace);
    let read = |name: &str| {
        std::fs::read_to_string(scratch.path().join(name)).expect("the script wrote it")
    };
    assert_eq!(
        (done.code, &*read("first.code"), &*read("second.code")),
        (Some(0), "4\n", "0\n"),
        "{}",
        done.stderr
    );
    insta::assert_snapshot!(done.stderr, @"
    error: the disk is full: tiny/run cannot take the last result (database or disk is full)
    hint: free some space, then `forerunner run --resume tiny/run`; everything completed before is kept
    ");
    let log = scratch.log("run");
    log.verdicts_of_exactly(300);
    let first = forerunner_tests::log_of(&read("first")).evaluated();
    assert!(!first.is_empty() && first.len() < 300, "the disk was full in the middle");
}

#[test]
fn a_disk_that_is_full_from_the_start() {
    let scratch = Scratch::trivial();
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$1\" run trivial.toml --out run";
    let done = shell(&scratch, script, &[]);
    insta::assert_snapshot!(done.failure(), @"
    exit 4
    error: the disk is full: no run can begin in run (disk I/O error)
    hint: free some space, then start the run again; nothing was stored
    ");
    // Nothing was kept, so there is nothing in the way of the next attempt.
    scratch.forerunner("run trivial.toml --out run").good();
}

#[test]
fn a_folder_that_cannot_be_made() {
    let scratch = Scratch::trivial();
    scratch.write("file", "in the way");
    insta::assert_snapshot!(scratch.forerunner("run trivial.toml --out file/run").failure(), @"
    exit 4
    error: cannot use the folder file/run: Not a directory (os error 20)
    hint: choose another one with `--out DIR`
    ");
}

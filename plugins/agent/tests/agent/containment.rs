//! What an agent must not get away with: time, processes, files of others.
#![expect(clippy::print_stderr, reason = "tests that cannot be run are skipped aloud")]

use crate::stage::{Stage, alive, hosted, is_gone};
use forerunner_core::{Error, Host, Mutator};
use std::fs;
use std::time::Duration;

/// A process that leaves its session and its parents, and ignores requests to end. It says `up`.
fn daemon(token: &str) -> String {
    format!(
        r#"setsid sh -c '(trap "" TERM HUP INT; echo > up; while :; do sleep 1; done) & # {token}' &
        until [ -e up ]; do sleep 0.02; done"#
    )
}

#[test]
fn an_agent_that_hangs_is_ended_when_its_time_is_up() {
    hosted(|| {
        let mut stage =
            Stage::new("trap '' TERM INT HUP; while :; do sleep 1; done # hanging-token");
        stage.config.seconds = 1;
        let failure = stage.failure();
        assert!(failure.contains("stand-in was ended after 1 s, all it was given"), "{failure}");
    });
}

#[test]
fn a_daemon_ends_with_its_agent() {
    hosted(|| {
        let token = format!("daemon-token-{}", std::process::id());
        let script = format!("{}\npwd > $EVIDENCE/folder; echo fast > main.txt", daemon(&token));
        let stage = Stage::new(&script);
        stage.propose().expect("a proposal");
        assert_eq!(alive(&token), 0);
        assert!(is_gone(&stage.evidence("folder").expect("the agent was there")));
    });
}

#[test]
fn a_run_that_ends_ends_the_agent_and_its_checks() {
    hosted(|| {
        let token = format!("cancelled-token-{}", std::process::id());
        let script = format!(
            "trap '' TERM\n{}\necho fast > main.txt; ./check; echo up > $EVIDENCE/up\n\
             while :; do ./check; done",
            daemon(&token)
        );
        let mut stage = Stage::new(&script);
        stage.config.checks = 1000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while stage.evidence("up").is_none() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                assert!(alive(&token) > 0, "there is something to end");
                stage.host.cancel();
            });
            assert_eq!(stage.propose(), Err(Error::Cancelled));
        });
        assert_eq!(alive(&token), 0);
        assert!(stage.host.calls().is_empty(), "an end is no answer");
        assert_eq!(stage.host.spent().dollars, 0.25, "what was begun is paid for");
        // An agent that is not wanted is not even started.
        assert_eq!(stage.agent().propose(&stage.request, &stage.host), Err(Error::Cancelled));
        assert_eq!(stage.host.spent().dollars, 0.25);
    });
}

#[test]
fn an_agent_cannot_end_what_watches_it() {
    hosted(|| {
        if forerunner_sandbox::probe().is_ok_and(|layers| layers.landlock_abi < 6) {
            return eprintln!("skipped: this kernel does not keep signals in (Landlock 6)");
        }
        let token = format!("rebel-token-{}", std::process::id());
        let script = format!(
            r#"{}
            for target in $PPID -$PPID; do
                kill -9 $target 2>/dev/null && echo ended >> main.txt || echo refused >> main.txt
            done"#,
            daemon(&token)
        );
        let stage = Stage::new(&script);
        let proposal = stage.propose().expect("a proposal");
        assert_eq!(alive(&token), 0);
        assert!(format!("{:?}", proposal.change).contains(r"slow\nrefused\nrefused\n"));

        let stage = Stage::new("echo fast > main.txt; kill -9 0");
        assert!(stage.failure().contains("ended by signal 9"));
    });
}

#[test]
fn an_agent_writes_where_it_may_and_nowhere_else() {
    hosted(|| {
        let attempt = |confine: bool| {
            let mut stage = Stage::new(
                r#"
                try() { "$@" 2>/dev/null && echo yes >> said.txt || echo no >> said.txt; }
                try touch "$TARGET/new"; try mkdir "$TARGET/folder"; try rm "$TARGET/old"
                try ln "$TARGET/old" stolen.txt; try mv "$TARGET/old" moved.txt
                try sh -c 'echo changed > "$TARGET/old"'
                try cat "$TARGET/old"; try touch "$TMPDIR/x" "$EVIDENCE/x" /dev/null
                "#,
            );
            fs::create_dir(stage.outside()).expect("a folder");
            fs::write(stage.outside().join("old"), "old").expect("a file");
            let outside = stage.outside().to_string_lossy().into_owned();
            stage.config.set.insert("TARGET".to_owned(), outside);
            stage.config.confine = confine;
            let proposal = stage.propose().expect("a proposal");
            let old = fs::read_to_string(stage.outside().join("old")).ok();
            (format!("{:?}", proposal.change), old, stage.log())
        };
        let (change, old, log) = attempt(true);
        assert!(change.contains(r"no\nno\nno\nno\nno\nno\nyes\nyes\n"), "{change}");
        assert_eq!(old.as_deref(), Some("old"));
        assert!(log.contains("confined by: NO SANDBOX, landlock"), "{log}");
        // The same without, so that the refusals above mean something.
        let (change, old, log) = attempt(false);
        assert!(change.contains(r"yes\nyes\nyes\n"), "{change}");
        assert_ne!(old.as_deref(), Some("old"));
        assert!(!log.contains("landlock"), "{log}");
    });
}

#[test]
fn a_folder_has_room_for_so_much() {
    hosted(|| {
        let mut stage = Stage::new(
            "n=0; while :; do n=$((n + 1)); head -c 500000 /dev/zero > junk$n; sleep 0.01; done",
        );
        stage.config.disk_mib = 4;
        let failure = stage.failure();
        assert!(failure.contains("filled more than 4 MiB of its folder"), "{failure}");
    });
}

#[test]
fn a_closed_folder_is_removed_all_the_same() {
    hosted(|| {
        let stage = Stage::new(
            r#"pwd > "$EVIDENCE/folder"; echo fast > main.txt
            mkdir -p .own/a/b; touch .own/a/b/c; chmod 0 .own/a/b .own/a .own"#,
        );
        stage.propose().expect("a proposal");
        assert!(is_gone(&stage.evidence("folder").expect("the agent was there")));
        assert!(!stage.host.cancelled());
    });
}

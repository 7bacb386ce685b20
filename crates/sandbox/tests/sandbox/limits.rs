//! Programs that use too much or do not want to die are stopped, with everything they started.

use std::{
    io::{BufRead, BufReader},
    time::Duration,
};

use crate::hosted::{Host, Setting};
use forerunner_sandbox::{
    Policy,
    Profile::{self, Program, Tool},
};
use serde_json::{Value, json};

/// Runs a probe in every setting and compares how it ended.
fn check(
    profile: Profile,
    probe: &str,
    detail: &str,
    change: impl Fn(&mut Policy),
    outcome: &Value,
) -> Vec<Value> {
    let settings = [Setting::Full, Setting::Floor, Setting::User, Setting::UserFloor];
    check_in(&settings, profile, probe, detail, change, outcome)
}

/// In some settings only, for probes that take seconds.
fn check_in(
    settings: &[Setting],
    profile: Profile,
    probe: &str,
    detail: &str,
    change: impl Fn(&mut Policy),
    outcome: &Value,
) -> Vec<Value> {
    let hosts = settings.iter().filter_map(|&setting| Host::new(setting, profile));
    let answers = hosts.map(|mut host| {
        change(&mut host.policy);
        let answer = host.probe(probe, detail);
        assert_eq!(&answer["outcome"], outcome, "{profile:?} {probe}: {answer}");
        answer
    });
    answers.collect()
}

fn short_wall(policy: &mut Policy) {
    policy.limits.wall = Duration::from_millis(400);
}

fn one_cpu_second(policy: &mut Policy) {
    policy.limits.cpu_seconds = 1;
}

#[test]
fn memory_bombs_run_out_of_memory() {
    let bombs = [("memory_bomb", Setting::Floor), ("shared_memory_bomb", Setting::Full)];
    for (probe, setting) in bombs {
        for answer in check_in(&[setting], Program, probe, "", |_| (), &json!("out_of_memory")) {
            let peak = answer["peak_memory_bytes"].as_u64().unwrap();
            assert!(peak > 200 << 20, "a peak of {peak} bytes is below the limit");
        }
    }
}

#[test]
fn a_huge_allocation_is_out_of_memory() {
    check(Program, "huge_allocation", "", |_| (), &json!("out_of_memory"));
}

#[test]
fn memory_of_children_counts_together() {
    // Four of 100 MB; each alone is within the limit.
    let (large, small) = ("100000000", "1000000");
    for setting in [Setting::Full, Setting::Floor] {
        let probe = "memory_in_children";
        check_in(&[setting], Tool, probe, large, |_| (), &json!("out_of_memory"));
        check_in(&[setting], Tool, probe, small, short_wall, &json!("timed_out"));
    }
}

#[test]
fn a_disk_bomb_is_stopped_at_the_file_size() {
    check(Program, "disk_bomb", "", |_| (), &json!({ "signalled": libc::SIGXFSZ }));
}

#[test]
fn descriptors_are_limited() {
    for answer in check(Program, "descriptor_bomb", "", |_| (), &json!({ "exited": 3 })) {
        // 64, less the three standard streams.
        let output = answer["stdout"].as_str().unwrap();
        assert!(output.starts_with("refused: 61 opened"), "{output}");
    }
}

#[test]
fn endless_loops_run_out_of_cpu() {
    let loops = [("spin", Setting::Full), ("spin_ignoring_signals", Setting::Floor)];
    for (probe, setting) in loops {
        check_in(&[setting], Program, probe, "", one_cpu_second, &json!("out_of_cpu"));
    }
}

#[test]
fn cpu_of_children_counts_together() {
    let settings = [Setting::Full, Setting::Floor];
    let (probe, outcome) = ("spin_in_children", json!("out_of_cpu"));
    for answer in check_in(&settings, Tool, probe, "", one_cpu_second, &outcome) {
        let cpu = answer["cpu"].as_f64().unwrap();
        assert!((0.9..3.0).contains(&cpu), "four loops used {cpu} s together");
    }
}

#[test]
fn sleepers_run_out_of_wall_time() {
    check(Program, "sleep", "", short_wall, &json!("timed_out"));
}

#[test]
fn floods_are_cut_and_do_not_block_the_watchdog() {
    for answer in check(Program, "flood", "", short_wall, &json!("timed_out")) {
        assert_eq!(answer["stdout"].as_str().unwrap(), "o".repeat(64 << 10));
        assert_eq!(answer["stderr"].as_str().unwrap(), "e".repeat(64 << 10));
        assert_eq!(answer["truncated"], true);
    }
}

#[test]
fn fork_bombs_hit_the_task_limit() {
    for answer in check(Tool, "fork_bomb", "", |_| (), &json!({ "exited": 3 })) {
        let output = answer["stdout"].as_str().unwrap();
        let n_forks: u64 = output.split(' ').nth(2).unwrap().parse().unwrap();
        // Without a user namespace other tasks of the same user move the bound a little.
        let counted_alone = answer["layers"]["user_namespace"] == true;
        let expected = if counted_alone { 31..=31 } else { 10..=400 };
        assert!(expected.contains(&n_forks), "{n_forks} forks: {answer}");
    }
}

#[test]
fn growing_trees_are_killed() {
    check(Tool, "exponential_fork_bomb", "", short_wall, &json!("timed_out"));
}

#[test]
fn processes_that_never_stay_the_same_are_killed() {
    check(Tool, "hop", "", short_wall, &json!("timed_out"));
}

#[test]
fn daemons_die_with_the_program_and_with_a_limit() {
    check(Tool, "daemon", "", |_| (), &json!({ "exited": 0 }));
    check(Tool, "daemon_and_sleep", "", short_wall, &json!("timed_out"));
}

#[test]
fn dropping_the_child_kills_the_tree() {
    for (profile, probe) in [(Program, "sleep"), (Tool, "sleep")] {
        for setting in [Setting::Full, Setting::Floor] {
            let host = Host::new(setting, profile).unwrap();
            let answer = host.ask("drop", &host.probe_argv(probe, ""));
            assert_eq!(answer["dropped"], true);
        }
    }
}

#[test]
fn the_death_of_the_host_kills_the_tree() {
    for (profile, probe) in [(Program, "sleep"), (Tool, "daemon_and_sleep")] {
        for setting in [Setting::Full, Setting::Floor] {
            let host = Host::new(setting, profile).unwrap();
            let mut process = host.start("hold", &host.probe_argv(probe, ""));
            let mut line = String::new();
            BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert!(line.contains("program_pid"), "{line}");
            assert!(host.survivors() > 0, "nothing to kill");
            process.kill().unwrap();
            process.wait().unwrap();
            host.await_no_survivors();
        }
    }
}

#[test]
fn the_end_of_the_spawning_thread_kills_nothing() {
    for setting in [Setting::Full, Setting::Floor] {
        let mut host = Host::new(setting, Program).unwrap();
        short_wall(&mut host.policy);
        let answer = host.ask("thread", &host.probe_argv("sleep", ""));
        assert_eq!(answer["outcome"], "timed_out", "{answer}");
        assert_eq!(answer["stdout"], "x", "what nobody read is collected");
    }
}

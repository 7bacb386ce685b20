//! `forerunner data fetch`, from a hub on this machine.

#[path = "../../../crates/fetch/tests/support/mod.rs"]
#[expect(dead_code, reason = "tests of the library look at more of the hub than a user sees")]
mod hub;

use forerunner_tests::{Done, Running, Scratch};
use hub::{Fault, Hub};
use serde_json::Value;
use std::process::Command;

/// The command with the hub's address; no proxy stands between.
fn fetch(scratch: &Scratch, endpoint: &str, arguments: &str) -> Command {
    let mut command = scratch.command(&format!("data fetch {arguments}"));
    command.env("HF_ENDPOINT", endpoint);
    for proxy in
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"]
    {
        command.env_remove(proxy);
    }
    command
}

/// An address where nobody listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

fn json(done: Done) -> Value {
    serde_json::from_str(&done.good()).expect("one JSON object")
}

#[test]
fn a_fetched_data_set_is_ready_for_use_and_stays_so_without_a_network() {
    let scratch = Scratch::new();
    let hub = Hub::start();
    let arguments = "fineweb10B --shards 2 --folder web --json";
    let done = scratch.done(fetch(&scratch, &hub.endpoint, arguments));
    let progress = done.stderr.clone();
    let fetched = json(done);
    assert_eq!(fetched["name"], "fineweb10B");
    assert_eq!(fetched["commit"], hub::COMMIT);
    assert_eq!(fetched["bytes"], 19_024 + 2 * 81_024);
    assert_eq!(fetched["received"], fetched["bytes"]);
    assert_eq!(fetched["files"][2]["file"], "fineweb_train_000002.bin");
    assert_eq!(fetched["files"][2]["tokens"], 40_000);
    assert_eq!(fetched["data"]["folder"], "web");
    let lines: Vec<&str> = progress.lines().collect();
    assert_eq!(
        lines[0],
        "fineweb10B: 2 of 103 shards to train on and the held-out one, about 0.6 GB, into web/shards"
    );
    assert_eq!(lines[1], "fineweb_val_000000.bin: 18.6 KiB");
    assert!(lines[2].starts_with("1/3 fineweb_val_000000.bin: fetched, sha256 "), "{progress}");
    assert_eq!(lines.last(), Some(&"making the data set of them"));
    assert!(!progress.contains('\x1b'), "plain lines where there is no terminal");
    let data = std::fs::read_to_string(scratch.path().join("web/dataset.json")).expect("made");
    assert!(data.contains("\"tokens\": 80000"), "{data}");
    assert!(!scratch.path().join("web/train.bin").exists(), "shards are read where they lie");

    let again = json(scratch.done(fetch(&scratch, &nowhere(), arguments)));
    assert_eq!((&again["received"], &again["commit"]), (&Value::from(0), &Value::Null));
    assert_eq!(again["data"], fetched["data"]);
    // What people see.
    let done = scratch.done(fetch(&scratch, &nowhere(), "fineweb10B --shards 1 --folder web"));
    let text = done.good();
    let mut lines = text.lines().skip(1);
    let line = lines.next().expect("a line");
    assert!(line.starts_with("1/2 fineweb_val_000000.bin: was here, sha256 "), "{text}");
    let line = lines.last().expect("a line");
    assert!(line.starts_with("web  ") && line.len() == "web  ".len() + 32, "{text}");
}

#[test]
fn without_a_network_one_line_says_so() {
    let scratch = Scratch::new();
    let endpoint = nowhere();
    let done = scratch.done(fetch(&scratch, &endpoint, "fineweb10B --folder web"));
    let here = std::fs::canonicalize(scratch.path()).expect("there");
    let failure =
        done.failure().replace(&endpoint, "HUB").replace(&*here.to_string_lossy(), "[here]");
    insta::assert_snapshot!(failure, @r"
    exit 6
    error: cannot reach HUB: connection refused (os error 111)
    hint: check the network (a proxy goes into HTTPS_PROXY, a mirror into HF_ENDPOINT), or copy the files into `[here]/web/shards` from elsewhere
    ");
}

#[test]
fn what_cannot_be_fetched_is_refused() {
    let scratch = Scratch::new();
    let hub = Hub::start();
    let fail = |arguments: &str| {
        scratch
            .done(fetch(&scratch, &hub.endpoint, arguments))
            .failure()
            .replace(&hub.endpoint, "HUB")
    };
    insta::assert_snapshot!(fail("shakespeare"), @r"
    exit 2
    error: unknown data set `shakespeare` (known: fineweb10B)
    hint: data of your own needs no fetching, see `forerunner data prepare --help`
    ");
    insta::assert_snapshot!(fail("fineweb10B --shards 104 --folder web"), @r"
    exit 2
    error: cannot fetch 104 shards
    hint: ask for 1 to 103
    ");
    insta::assert_snapshot!(fail("fineweb10B --shards 4 --folder web"), @r"
    exit 6
    error: HUB has no `fineweb_train_000004.bin` in the data set `kjj0/fineweb10B-gpt2`
    hint: ask for fewer shards, or check HF_ENDPOINT
    ");
    assert!(scratch.path().join("web/shards/fineweb_train_000003.bin").exists());
    assert!(!scratch.path().join("web/dataset.json").exists());
}

#[test]
fn ctrl_c_stops_a_fetch_and_the_next_one_goes_on() {
    let scratch = Scratch::new();
    let hub = Hub::start();
    hub.misbehave([Fault::Trickle]);
    let arguments = "fineweb10B --shards 1 --folder web";
    let running = Running::start(fetch(&scratch, &hub.endpoint, arguments));
    running.wait_for("fineweb_val_000000.bin: 18.6 KiB");
    // Bytes come one by one; a few of them are enough.
    std::thread::sleep(std::time::Duration::from_millis(300));
    running.interrupt();
    let (code, _, stderr) = running.finish();
    insta::assert_snapshot!(format!("exit {}\n{stderr}", code.expect("an exit")), @r"
    exit 130
    error: interrupted
    hint: run the same command again; it goes on where it stopped
    ");
    let done = scratch.done(fetch(&scratch, &hub.endpoint, &format!("{arguments} --json")));
    let progress = done.stderr.clone();
    let fetched = json(done);
    let (bytes, received) = (&fetched["files"][0]["bytes"], &fetched["files"][0]["received"]);
    assert!(received.as_u64() < bytes.as_u64() && received.as_u64() > Some(0), "{fetched}");
    assert!(progress.contains("fineweb_val_000000.bin: from "), "{progress}");
}

#[test]
fn a_killed_fetch_goes_on_at_the_byte_where_it_was() {
    let scratch = Scratch::new();
    let hub = Hub::start();
    hub.misbehave([Fault::Trickle]);
    let arguments = "fineweb10B --shards 1 --folder web --no-prepare";
    let running = Running::start(fetch(&scratch, &hub.endpoint, arguments));
    running.wait_for("fineweb_val_000000.bin: 18.6 KiB");
    std::thread::sleep(std::time::Duration::from_millis(300));
    running.kill();
    let fetched =
        json(scratch.done(fetch(&scratch, &hub.endpoint, &format!("{arguments} --json"))));
    let (bytes, received) = (&fetched["files"][0]["bytes"], &fetched["files"][0]["received"]);
    assert!(received.as_u64() < bytes.as_u64() && received.as_u64() > Some(0), "{fetched}");
    let [first, second] = hub.downloads("fineweb_val_000000.bin")[..] else { panic!("two") };
    assert!(first == 0 && second > 0, "{first} {second}");
    assert_eq!(fetched["data"], Value::Null);
    let hash = &fetched["files"][0]["sha256"];
    assert_eq!(hash, &hub::sha256(&hub.content("fineweb_val_000000.bin")));
}

#[test]
fn a_file_that_cannot_grow_ends_a_fetch_which_goes_on_when_there_is_room() {
    let scratch = Scratch::new();
    let hub = Hub::start();
    let arguments = "data fetch fineweb10B --shards 1 --folder web";
    // The shell counts blocks of 512 bytes; with SIGXFSZ ignored a write fails instead.
    let mut shell = scratch.program("sh");
    let script = format!("trap '' XFSZ; ulimit -f 80; exec \"$1\" {arguments}");
    shell.args(["-c", &script, "sh"]).arg(scratch.binary()).env("HF_ENDPOINT", &hub.endpoint);
    let done = scratch.done(shell);
    assert_eq!(done.code, Some(4), "{}", done.stderr);
    assert!(done.stderr.contains("File too large"), "{}", done.stderr);
    let done =
        scratch.done(fetch(&scratch, &hub.endpoint, "fineweb10B --shards 1 --folder web --json"));
    let fetched = json(done);
    assert_eq!(fetched["files"][0]["received"], 0, "what was whole stays");
    assert_eq!(fetched["files"][1]["received"], 81_024 - 40_960, "what was begun is continued");
}

//! `forerunner mcp`, with a client of another implementation and with a rude one.

mod sessions;

use forerunner_runtime::store::Store;
use forerunner_tests::{Done, Running, Scratch, parse_lines, skip, workspace};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The Python SDK from PyPI.
const SDK: &str = "mcp==2.3.0";

/// A Python that has the SDK; without one, `None` after saying so aloud. Continuous integration sets
/// FORERUNNER_NEEDS_MCP: there it must not be missing.
fn python(test: &str) -> Option<PathBuf> {
    let folder = workspace().join("target/mcp-client");
    fs::create_dir_all(&folder).expect("the target folder can be written");
    // Tests in other processes make the same environment.
    let lock = File::create(folder.join("lock")).expect("the lock is made");
    lock.lock().expect("the lock is free at some time");
    let venv = folder.join(SDK.replace("==", "-"));
    let python = venv.join("bin/python");
    let whole = venv.join("complete");
    if whole.exists() {
        return Some(python);
    }
    drop(fs::remove_dir_all(&venv));
    let works = |command: &mut Command| {
        let output = command.stdin(Stdio::null()).output();
        output.is_ok_and(|output| output.status.success())
    };
    let reason = if !works(Command::new("python3").args(["-m", "venv"]).arg(&venv)) {
        "there is no Python with `venv` (Debian: `apt-get install python3-venv`)"
    } else if !works(Command::new(&python).args(["-m", "pip", "install", "--quiet", SDK])) {
        "pip cannot install the package `mcp`"
    } else {
        fs::write(&whole, "").expect("the target folder can be written");
        return Some(python);
    };
    let needed = std::env::var_os("FORERUNNER_NEEDS_MCP").is_some();
    assert!(!needed, "{test}: FORERUNNER_NEEDS_MCP is set, and {reason}");
    skip(test, reason);
    None
}

/// One call of a tool.
fn step(tool: &str, arguments: Value) -> Value {
    json!({ "tool": tool, "arguments": arguments })
}

/// A submission of a whole program.
fn submit(text: &str, summary: &str) -> Value {
    let files = json!({ "program.txt": text });
    step("submit", json!({ "program": files, "idea": { "summary": summary } }))
}

/// Lets the Python client make calls; answers what it wrote, line by line.
fn session(scratch: &Scratch, python: &Path, arguments: &str, steps: &Value) -> Vec<Value> {
    let steps = scratch.write("steps.json", steps.to_string());
    let mut command = scratch.program(python);
    command.arg(workspace().join("tests/fixtures/mcp_client.py")).arg(steps);
    command.arg(scratch.binary()).arg("mcp").args(arguments.split_whitespace());
    let done: Done = scratch.done(command);
    assert_eq!(done.code, Some(0), "{}\n{}", done.stderr, done.stdout);
    parse_lines(&done.stdout)
}

fn text(line: &Value) -> &str {
    line["text"].as_str().expect("a text")
}

/// The value of a line `key: value`.
fn value<'a>(line: &'a Value, key: &str) -> &'a str {
    let found = text(line).lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    found.unwrap_or_else(|| panic!("no `{key}` in:\n{}", text(line)))
}

#[test]
fn a_client_of_another_implementation_drives_a_search() {
    let Some(python) = python("mcp::a_client_of_another_implementation_drives_a_search") else {
        return;
    };
    let scratch = Scratch::new();
    let patch = "<<<<<<< SEARCH\nvalue = 1.0\n=======\nvalue = 0.5\n>>>>>>> REPLACE\n";
    let gain = json!({ "low": 0.4, "high": 0.6 });
    let idea = json!({ "summary": "halve it", "expected_gain": gain, "mechanism": "it is nearer" });
    let steps = json!([
        step("brief", json!({})),
        step("parent", json!({})),
        step("check", json!({ "files": { "program.txt": "nothing\n" } })),
        submit("nothing\n", "leave the number out"),
        step("submit", json!({ "patch": patch, "idea": idea })),
        submit("value = 0.125\n", "an eighth"),
        step("telemetry", json!({ "program": "best" })),
        step("history", json!({})),
        step("submit", json!({ "patch": patch })),
        step("status", json!({})),
    ]);
    let arguments = "--environment trivial --out run --set budget.evaluations=3 \
                     --set confirm.finalists=1 --set confirm.seeds=2";
    let lines = session(&scratch, &python, arguments, &steps);
    let [hello, brief, parent, check, refused, halved, eighth, telemetry, history, bad, status] =
        &lines[..]
    else {
        panic!("{lines:?}");
    };
    assert_eq!(hello["server"]["name"], "forerunner");
    let tools: Vec<&String> = hello["tools"].as_object().expect("tools").keys().collect();
    for tool in ["brief", "parent", "program", "check", "submit", "telemetry", "history", "status"]
    {
        assert!(tools.iter().any(|known| *known == tool), "{tools:?}");
    }
    assert_eq!(hello["tools"]["submit"]["required"], json!(["idea"]));
    assert_eq!(value(brief, "evaluations of this run"), "0 of 3 used, 3 left");
    assert_eq!(value(parent, "metrics"), "distance 1");
    assert_eq!(value(check, "check"), "refused (rule)");
    assert_eq!(value(refused, "verdict"), "failed (rule)");
    assert_eq!(value(halved, "verdict"), "accepted");
    assert_eq!(value(halved, "gain over the parent"), "+50.00 %");
    assert_eq!(value(eighth, "verdict"), "accepted");
    assert_eq!(value(eighth, "evaluations of this run"), "3 of 3 used, 0 left");
    assert!(text(telemetry).contains("distance 0.12500"), "{}", text(telemetry));
    assert!(
        text(history).contains("accepted, gain +50.00 %, expected +40.00 % to +60.00 %: halve")
    );
    assert_eq!(bad["error"], true);
    assert!(text(bad).contains("missing field `idea`"), "{}", text(bad));
    assert_eq!(status["error"], false);

    // The run is an ordinary one.
    let log = scratch.log("run");
    assert_eq!(format!("{:?}", log.verdicts_of_exactly(3)), r#"{"accepted": 2, "rule": 1}"#);
    assert_eq!(log.summary()["reason"], "evaluations");
    let finalist = &log.summary()["confirmation"]["finalists"][0];
    assert_eq!((&finalist["program"], &finalist["holds"]), (&log.summary()["best"], &json!(true)));
    let idea = &log.of("evaluated").nth(1).expect("three")["idea"];
    assert_eq!((&idea["stage"], &idea["model"]), (&json!("mcp"), &json!("mcp")));
    assert_eq!(idea["expected_gain"], json!({ "low": 0.4, "high": 0.6 }));
    let shown = scratch.forerunner("show run best --diff").good();
    assert!(shown.contains("by mcp") && shown.contains("an eighth"), "{shown}");
    assert!(shown.contains("+value = 0.125"), "{shown}");
    assert!(scratch.path().join("run/report.html").is_file());
    // Its submissions are kept, so that it can be repeated without the client.
    scratch.forerunner("run --replay run --out again --quiet").good();
    let best = |folder: &str| scratch.log(folder).summary()["best"].clone();
    assert_eq!(best("again"), best("run"));
}

#[test]
fn a_quota_holds_over_sessions() {
    let Some(python) = python("mcp::a_quota_holds_over_sessions") else { return };
    let scratch = Scratch::new();
    let steps = json!([
        submit("value = 0.5\n", "half"),
        submit("value = 0.25\n", "a quarter"),
        step("status", json!({})),
    ]);
    let arguments = "--environment trivial --out run --submissions 1";
    let lines = session(&scratch, &python, arguments, &steps);
    assert_eq!(value(&lines[1], "your submissions"), "1 of 1 used, 0 left");
    assert_eq!(lines[2]["error"], true);
    let used_up = "your quota of 1 submissions in this run is used up\nhint: ";
    assert!(text(&lines[2]).starts_with(used_up), "{}", text(&lines[2]));
    assert_eq!(value(&lines[3], "evaluations of this run"), "1 of 100 used, 99 left");

    let lines = session(&scratch, &python, "--resume run", &steps);
    assert!(text(&lines[1]).starts_with(used_up), "{}", text(&lines[1]));
    // The command of the first session goes on with its run.
    let lines = session(&scratch, &python, arguments, &steps);
    assert!(text(&lines[1]).starts_with(used_up), "{}", text(&lines[1]));
    let lines = session(&scratch, &python, "--resume run --submissions 2", &steps);
    assert_eq!(value(&lines[1], "your submissions"), "2 of 2 used, 0 left");
    // Another client has a quota of its own.
    let lines = session(&scratch, &python, "--resume run --client somebody-else", &steps);
    assert_eq!(value(&lines[1], "your submissions"), "1 of 1 used, 0 left");
    scratch.log("run").verdicts_of_exactly(3);
}

/// `forerunner mcp` with a client that is this test.
struct Rude {
    child: Child,
}

impl Rude {
    fn start(scratch: &Scratch, arguments: &str) -> Self {
        let mut command = scratch.command(&format!("mcp {arguments}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { child: command.spawn().expect("it starts") }
    }

    fn say(&mut self, line: impl AsRef<[u8]>) {
        let mut input = self.child.stdin.as_ref().expect("a pipe");
        input.write_all(line.as_ref()).and_then(|()| input.write_all(b"\n")).expect("it reads");
    }

    fn request(&mut self, id: u64, method: &str, params: Value) {
        let params = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.say(params.to_string());
    }

    /// Says what a client says first.
    fn greet(&mut self) {
        let this = json!({ "name": "rude", "version": "1" });
        let hello =
            json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": this });
        self.request(0, "initialize", hello);
        self.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
    }

    /// Submits a program, with request 1.
    fn submit(&mut self, text: &str, summary: &str) {
        let call = json!({ "name": "submit", "arguments": submit(text, summary)["arguments"] });
        self.request(1, "tools/call", call);
    }

    /// Hangs up and waits for the end: exit code, standard output, standard error.
    fn hang_up(self) -> (Option<i32>, String, String) {
        let output = self.child.wait_with_output().expect("it ends");
        let read = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code(), read(output.stdout), read(output.stderr))
    }
}

#[test]
fn garbage_on_standard_input_is_no_client() {
    let scratch = Scratch::new();
    let mut rude = Rude::start(&scratch, "--environment trivial --out run");
    for line in [&b"garbage"[..], b"{\"a\":1}", b"[]", b"\xff\xfe", b"{\"jsonrpc\":", b"\x1b[2J"] {
        rude.say(line);
    }
    let (code, stdout, stderr) = rude.hang_up();
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("the client does not speak the protocol: "), "{stderr}");
    assert!(stderr.contains("hint: `forerunner mcp` is started by an MCP client"), "{stderr}");
    // Nothing but messages of the protocol.
    for message in parse_lines(&stdout) {
        assert_eq!(message["jsonrpc"], "2.0", "{stdout}");
        assert!(message["error"]["code"].is_i64(), "{stdout}");
    }
}

#[test]
fn garbage_within_a_session_is_answered_and_survived() {
    let scratch = Scratch::new();
    let mut rude = Rude::start(&scratch, "--environment trivial --out run");
    rude.greet();
    rude.say(b"garbage");
    rude.request(1, "tools/call", json!({ "name": 7 }));
    rude.request(2, "no/such/method", json!({}));
    rude.request(3, "tools/call", json!({ "name": "brief", "arguments": { "x": "\u{1b}[2J" } }));
    rude.request(
        4,
        "tools/call",
        json!({ "name": "submit", "arguments": {
        "program": { "../../outside.txt": "x" }, "idea": { "summary": "\u{1b}]0;x\u{7}leave" } } }),
    );
    rude.request(5, "tools/call", json!({ "name": "brief", "arguments": {} }));
    let (code, stdout, stderr) = rude.hang_up();
    assert_eq!(code, Some(0), "{stderr}");
    let answers = parse_lines(&stdout);
    let answer = |id: u64| {
        let found = answers.iter().find(|answer| answer["id"] == id);
        found.unwrap_or_else(|| panic!("no answer to {id} in:\n{stdout}"))
    };
    assert!(answer(2)["error"]["code"].is_i64(), "{stdout}");
    assert_eq!(answer(3)["result"]["isError"], true, "{stdout}");
    let refused = answer(4)["result"]["content"][0]["text"].as_str().expect("a text");
    assert!(refused.starts_with("verdict: failed (patch)\n"), "{refused}");
    assert_eq!(answer(5)["result"]["isError"], false, "{stdout}");
    assert!(!stderr.contains('\x1b') && stderr.contains("[mcp] leave"), "{stderr}");
    assert!(!scratch.path().join("../outside.txt").exists());
}

#[test]
fn a_client_that_hangs_up_loses_nothing() {
    let scratch = Scratch::new();
    let slow = "--set environment.config.evaluate_seconds=0.3";
    let mut rude = Rude::start(&scratch, &format!("--environment trivial --out run {slow}"));
    rude.greet();
    rude.submit("value = 0.5\n", "half");
    // Gone before even the reference is measured.
    let (code, _, stderr) = rude.hang_up();
    assert_eq!(code, Some(0), "{stderr}");
    let log = scratch.log("run");
    assert_eq!(format!("{:?}", log.verdicts_of_exactly(1)), r#"{"accepted": 1}"#);
    assert_eq!(log.of("evaluated").next().expect("one")["idea"]["model"], "rude");
    assert_eq!(log.summary()["reason"], "interrupted");
}

#[test]
fn ctrl_c_answers_who_waits_and_ends() {
    let scratch = Scratch::new();
    let slow = "--set environment.config.evaluate_seconds=0.5";
    let mut rude = Rude::start(&scratch, &format!("--environment trivial --out run {slow}"));
    rude.greet();
    rude.submit("value = 0.5\n", "half");
    wait_until_kept(&scratch);
    kill(Pid::from_raw(rude.child.id() as i32), Signal::SIGINT).expect("it runs");
    // The client does not hang up: it holds its end of standard input until the server is gone.
    let input = rude.child.stdin.take();
    let (code, stdout, stderr) = rude.hang_up();
    drop(input);
    assert_eq!(code, Some(130), "{stderr}");
    let answers = parse_lines(&stdout);
    let answer = answers.iter().find(|answer| answer["id"] == 1).expect("an answer");
    let text = answer["result"]["content"][0]["text"].as_str().expect("a text");
    // Measured to its end, or not begun and kept for later.
    let measured = scratch.log("run").evaluated().len() == 1;
    let expected =
        if measured { "verdict: accepted" } else { "the run ended before your submission" };
    assert!(text.starts_with(expected), "{text}");
}

/// Waits until the run has kept a submission.
fn wait_until_kept(scratch: &Scratch) {
    wait_for(scratch, &|store| store.calls().is_ok_and(|calls| !calls.is_empty()));
}

/// Waits until the run has stored something.
fn wait_for(scratch: &Scratch, wanted: &dyn Fn(&Store) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let folder = scratch.path().join("run");
    while !Store::read(&folder).is_ok_and(|store| wanted(&store)) {
        assert!(Instant::now() < deadline, "it is not stored");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_submission_outlives_the_server() {
    let Some(python) = python("mcp::a_submission_outlives_the_server") else { return };
    let scratch = Scratch::new();
    let slow = "--set environment.config.evaluate_seconds=1";
    let mut rude = Rude::start(&scratch, &format!("--environment trivial --out run {slow}"));
    rude.greet();
    rude.submit("value = 0.5\n", "half");
    wait_until_kept(&scratch);
    kill(Pid::from_raw(rude.child.id() as i32), Signal::SIGKILL).expect("it runs");
    drop(rude.child.wait());
    scratch.log("run").verdicts_of_exactly(0);

    // Whoever comes next finds it measured.
    let steps = json!([step("parent", json!({})), step("history", json!({}))]);
    let lines = session(&scratch, &python, "--resume run", &steps);
    let history = text(&lines[2]);
    assert!(history.contains("by mcp (rude): accepted, gain +50.00 %"), "{history}");
    scratch.log("run").verdicts_of_exactly(1);
}

/// The first part of `text` after `start`, up to the end of the line.
fn rest_of_line<'a>(text: &'a str, start: &str) -> &'a str {
    let rest = text.split(start).nth(1).unwrap_or_else(|| panic!("no `{start}` in:\n{text}"));
    rest.lines().next().unwrap_or_default()
}

#[test]
fn several_clients_share_a_run() {
    let Some(python) = python("mcp::several_clients_share_a_run") else { return };
    let scratch = Scratch::new();
    let (ann, bob) = ("0123456789abcdef0123", "fedcba98765432100123");
    let tokens = scratch.write("tokens.txt", format!("ann {ann}\nbob {bob}\n"));
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600)).expect("ours");
    let arguments = "mcp --environment trivial --out run --submissions 1 --set run.slots=2 \
                     --listen 127.0.0.1:0 --tokens tokens.txt";
    let server = Running::start(scratch.command(arguments));
    let said = server.wait_for_error("listening at ").concat();
    let address = rest_of_line(&said, "listening at ").to_owned();
    let steps = scratch.write(
        "steps.json",
        json!([
            step("parent", json!({})),
            submit("value = 0.5\n", "half"),
            submit("value = 0.25\n", "a quarter"),
            step("history", json!({})),
        ])
        .to_string(),
    );
    let client = |token: &str| {
        let mut command = scratch.program(&python);
        command.arg(workspace().join("tests/fixtures/mcp_client.py")).arg(&steps);
        command.arg(&address).arg(token);
        scratch.done(command)
    };
    for (token, name) in [(ann, "ann"), (bob, "bob")] {
        let lines = parse_lines(&client(token).good());
        assert_eq!(value(&lines[2], "verdict"), "accepted");
        assert_eq!(value(&lines[2], "your submissions"), "1 of 1 used, 0 left");
        assert!(text(&lines[3]).starts_with("your quota of 1 submissions"), "{}", text(&lines[3]));
        // Whoever connects: the token says who it is.
        assert!(text(&lines[4]).contains(&format!("by mcp ({name}): ")), "{}", text(&lines[4]));
    }
    let stranger = client("0123456789abcdef0124");
    assert_ne!(stranger.code, Some(0), "{}", stranger.stdout);
    server.interrupt();
    let (code, stdout, stderr) = server.finish();
    assert_eq!((code, stdout.as_str()), (Some(130), ""), "{stderr}");
    // The second was measured already; its client is counted all the same.
    scratch.log("run").verdicts_of_exactly(2);
    let seen = [scratch.forerunner("log --json run").good(), said, stderr].concat();
    assert!(!seen.contains(ann) && !seen.contains(bob), "a token is shown");
}

#[test]
fn a_port_is_for_this_machine_and_whoever_has_the_token() {
    let scratch = Scratch::new();
    for (arguments, expected) in [
        ("--listen 0.0.0.0:0", "0.0.0.0:0 is no address of this machine alone\nhint: "),
        ("--listen 127.0.0.1:0 --tokens missing.txt", "cannot read missing.txt: "),
    ] {
        let refused = scratch.forerunner(&format!("mcp --environment trivial {arguments}"));
        assert_eq!(refused.code, Some(2), "{}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    let arguments = "mcp --environment trivial --out run --listen 127.0.0.1:0";
    let server = Running::start(scratch.command(arguments));
    let said = server.wait_for_error("token: ").concat();
    let address = rest_of_line(&said, "listening at http://").replace("/mcp", "");
    let token = rest_of_line(&said, "token: ");
    let ask = |path: &str, more: &str| {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string();
        let mut stream = TcpStream::connect(&address).expect("it listens");
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\
             Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    assert_eq!(ask("/mcp", ""), "401");
    assert_eq!(ask("/mcp", &bearer("0000")), "401");
    assert_eq!(ask("/elsewhere", &bearer(token)), "404");
    // A page in a browser is no client, even with the token.
    let page = format!("{}Origin: http://localhost\r\n", bearer(token));
    assert_eq!(ask("/mcp", &page), "403");
    let good = ask("/mcp", &bearer(token));
    assert!(!["401", "403", "404"].contains(&good.as_str()), "{good}");
    server.interrupt();
    let (code, stdout, _) = server.finish();
    assert_eq!((code, stdout.as_str()), (Some(130), ""));
    assert!(!scratch.forerunner("log --json run").good().contains(token));
}

#[test]
fn runs_for_clients_and_others_are_kept_apart() {
    let scratch = Scratch::trivial();
    scratch.forerunner("run trivial.toml --out plain --set budget.evaluations=1").good();
    let refused = scratch.forerunner("mcp --resume plain");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("was not started for clients"), "{}", refused.stderr);
    let mut rude = Rude::start(&scratch, "trivial.toml --out clients");
    rude.greet();
    rude.request(1, "tools/call", json!({ "name": "brief", "arguments": {} }));
    let (code, stdout, stderr) = rude.hang_up();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("0 of 10 used"), "the file's own mutator does not search: {stdout}");
    let refused = scratch.forerunner("run --resume clients");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("`forerunner mcp --resume`"), "{}", refused.stderr);
}

#[test]
fn others_search_in_turn_with_clients() {
    let scratch = Scratch::trivial();
    let arguments = "trivial.toml --out run --with-mutators --set budget.evaluations=5";
    let mut rude = Rude::start(&scratch, arguments);
    rude.greet();
    // Every proposal of the client's that comes up is filled, until the budget is used up: more
    // calls may not wait.
    for id in 1..=4 {
        let submission = submit(&format!("value = {id}.5\n"), "anything");
        let call = json!({ "name": "submit", "arguments": submission["arguments"] });
        rude.request(id, "tools/call", call);
    }
    let (code, _, stderr) = rude.hang_up();
    assert_eq!(code, Some(0), "{stderr}");
    let log = scratch.log("run");
    let by = |mutator: &str| log.of("evaluated").filter(|e| e["mutator"] == mutator).count();
    assert!(by("mcp") > 0 && by("nudge") > 0, "{} and {}", by("mcp"), by("nudge"));
    log.verdicts_of_exactly(5);
    assert_eq!(log.summary()["reason"], "evaluations");
}

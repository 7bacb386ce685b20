//! The binary, as people start it.

use crate::client::{CHAT, question};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_forerunner-scripted-model"))
}

#[test]
fn it_says_where_it_listens_and_answers_from_the_script() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script.json");
    std::fs::write(&script, r#"[{"reply": "from the script"}]"#).expect("a script is written");
    let mut child = binary().arg(&script).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut url = String::new();
    let stdout = child.stdout.take().expect("its output");
    BufReader::new(stdout).read_line(&mut url).expect("a line");
    let address = url.trim().strip_prefix("http://").and_then(|url| url.strip_suffix("/v1/"));
    let mut stream = TcpStream::connect(address.expect("a base URL")).expect("it listens");
    let body = question(false).to_string();
    let request = format!(
        "POST /v1/{CHAT} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("it answers");
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    assert!(response.contains("from the script"), "{response}");
}

#[test]
fn it_says_what_is_wrong_with_a_script() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("script.json");
    std::fs::write(&script, r#"[{"says": "x"}]"#).expect("a script is written");
    let output = binary().arg(&script).output().expect("it runs");
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(message.contains("unknown field `says`") && message.contains("hint:"), "{message}");

    let help = binary().arg("--help").output().expect("it runs");
    assert!(String::from_utf8_lossy(&help.stdout).contains("SCRIPT FORMAT"));
}

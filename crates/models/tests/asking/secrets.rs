//! Keys appear nowhere: not in answers, errors, debug output or logs.

use super::*;
use forerunner_scripted_model::Reply;
use std::{
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
};

const KEY: &str = "sk-test-4f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c";

/// A log of everything that is traced in this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn key_file(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("key");
    std::fs::write(&path, format!("{KEY}\n")).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("permissions");
    path
}

/// No piece of the key of eight bytes or more.
fn assert_clean(text: &str) {
    for start in 0..=KEY.len() - 8 {
        // Known to everybody.
        if start + 8 <= "sk-test-".len() {
            continue;
        }
        let piece = &KEY[start..start + 8];
        assert!(!text.contains(piece), "`{piece}` in: {text}");
    }
}

#[test]
fn the_key_is_sent_and_seen_nowhere_else() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // For the whole process: also what other threads and the libraries on them say.
    tracing::subscriber::set_global_default(subscriber).expect("the only subscriber");
    let dir = tempfile::tempdir().expect("temporary folder");
    let echo = format!("Incorrect API key provided: {KEY}. Masked: sk-te***********b5c");
    let json = format!(r#"{{"error": {{"message": "{echo}", "headers": "Bearer {KEY}"}}}}"#);
    let replies = [
        Reply::status(401),
        Reply::error(401, echo.clone()),
        Reply::error(403, format!("not {}", &KEY[..20])),
        Reply::error(500, echo.clone()).retry_after(0.01),
        Reply::error(429, echo.clone()),
        Reply::raw(401, "text/html", echo.clone()),
        Reply::raw(200, "text/html", echo.clone()),
        Reply::raw(200, "application/json", echo.clone()),
        Reply::raw(200, "application/json", json.clone()),
        Reply::raw(500, "application/json", json),
        Reply::raw(
            200,
            "text/event-stream",
            format!("data: {{\"error\": {{\"message\": \"{echo}\"}}}}\n\n"),
        ),
        Reply::raw(200, "text/event-stream", format!("event: error\ndata: {echo}\n\n")),
        Reply::raw(200, "text/event-stream", format!("data: {echo}\n\n")),
        Reply::refusal(echo.clone()),
        Reply::text(echo.clone()),
        Reply::dropped(echo.repeat(5), 2),
    ];
    for (provider, stream) in MODES {
        for reply in &replies {
            let server = Server::scripted(vec![reply.clone()]).expect("a server");
            let mut config = config(&server);
            config.provider = Some(provider.to_owned());
            config.stream = stream;
            config.attempts = 2;
            config.key_file = Some(key_file(dir.path()));
            assert_clean(&format!("{config:?}"));
            let models = models(config);
            let host = host();
            let answer = ask(&models, &host);
            assert!(
                server.asked().iter().all(|asked| asked.key() == Some(KEY)),
                "the key is needed"
            );
            assert!(!server.asked().is_empty());
            assert_clean(&format!("{answer:?} {:?} {models:?}", host.calls()));
            assert_clean(&serde_json::to_string(&host.calls()).expect("JSON"));
            assert!(!text(&answer).contains("***") || kind(&answer) == "reply", "{answer:?}");
            if let Answered::Failed { message, .. } = &answer.outcome {
                assert!(
                    message.chars().count() <= 310 && !message.contains(char::is_control),
                    "{message:?}"
                );
            }
        }
    }
    // A server that is gone, and a key that is gone.
    let server = Server::scripted(vec![Reply::text("never")]).expect("a server");
    let mut gone = config(&server);
    gone.key_file = Some(key_file(dir.path()));
    drop(server);
    assert_clean(&format!("{:?}", ask(&models(gone), &host())));
    let log = String::from_utf8(log.0.lock().expect("no panic").clone()).expect("UTF-8");
    assert_clean(&log);
    // The log is alive, and neither prompts nor replies are in it.
    assert!(log.contains("no reply"), "{log}");
    assert!(!log.contains("What could be faster?") && !log.contains("Incorrect API key"), "{log}");
}

#[test]
fn without_a_key_nothing_is_sent() {
    let server = Server::scripted(vec![Reply::text("Done.")]).expect("a server");
    let mut config = config(&server);
    config.key_env = Some("FORERUNNER_TEST_KEY_THAT_NOBODY_SETS".to_owned());
    let models = models(config);
    let error = models.require_keys().expect_err("no key").to_string();
    assert!(
        error.contains("`FORERUNNER_TEST_KEY_THAT_NOBODY_SETS`") && error.contains("hint: "),
        "{error}"
    );
    let host = host();
    let answer = ask(&models, &host);
    assert_eq!((kind(&answer), answer.attempts), ("unauthorized", 0));
    assert!(text(&answer).contains("FORERUNNER_TEST_KEY_THAT_NOBODY_SETS"), "{answer:?}");
    assert_eq!(host.calls().len(), 1);
    assert!(server.asked().is_empty());
    // It is nobody's fault but ours: the circuit stays closed.
    assert!(!models.is_down("m"));
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let server = Server::scripted(vec![Reply::text("Done.")]).expect("a server");
    let dir = tempfile::tempdir().expect("temporary folder");
    let path = key_file(dir.path());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("permissions");
    let mut config = config(&server);
    config.key_file = Some(path);
    let error = Models::new(vec![config]).expect_err("too open").to_string();
    assert!(error.contains("`m.key_file`") && error.contains("chmod 600"), "{error}");
    assert_clean(&error);
}

#[test]
fn local_servers_need_no_key() {
    let server = Server::scripted(vec![Reply::text("Done.")]).expect("a server");
    let models = models(config(&server));
    assert_eq!(models.require_keys(), Ok(()));
    assert_eq!(kind(&ask(&models, &host())), "reply");
    // No key of another provider's service is sent there.
    assert_eq!(server.asked()[0].key(), Some("none"));
}

//! Events as JSON, one object a line, for scripts.

use crate::to_json;
use forerunner_runtime::event::Event;
use std::io::{self, Write};

/// Writes each event as one line of JSON and hands it on at once, so that a reader at the other
/// end of a pipe is never behind.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// A writer of lines into `out`.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Writes one event.
    ///
    /// # Errors
    /// When `out` cannot be written to, for example because the reader has gone.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        let mut text = to_json(event)?;
        text.push('\n');
        // One call, so that lines of several writers do not mix.
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_runtime::event::EventKind;

    #[test]
    fn each_event_is_one_line_that_reads_back() {
        let events = [
            Event {
                at: 0.5,
                kind: EventKind::Warning { message: "two\nlines\u{9b}2J\u{202e}".to_owned() },
            },
            Event { at: 1.0, kind: EventKind::GenerationStarted { generation: 1, children: 10 } },
        ];
        let mut text = Vec::new();
        let mut writer = Writer::new(&mut text);
        events.iter().for_each(|event| writer.event(event).expect("memory"));
        let text = String::from_utf8(text).expect("JSON is UTF-8");
        insta::assert_snapshot!(text, @r#"
        {"at":0.5,"event":"warning","message":"two\nlines\u009b2J\u202e"}
        {"at":1.0,"event":"generation_started","generation":1,"children":10}
        "#);
        let read: Vec<Event> =
            text.lines().map(|line| serde_json::from_str(line).expect("own line")).collect();
        assert_eq!(read, events);
    }
}

//! Forwards `tracing` events to the host: a dynamic library has its own copy of tracing's
//! statics, so without this its events would go nowhere.

use forerunner_abi::Sink;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

/// Installs the forwarder. Later calls change nothing.
pub(crate) extern "C" fn connect(sink: Sink) {
    let install = || {
        let forward = Forward { sink, next_span: AtomicU64::new(1) };
        // An error means that a forwarder is installed already.
        drop(tracing::subscriber::set_global_default(forward));
    };
    drop(catch_unwind(AssertUnwindSafe(install)));
}

struct Forward {
    sink: Sink,
    next_span: AtomicU64,
}

fn rank(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: serde_json::Map<String, serde_json::Value>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.rest.insert(field.name().into(), format!("{value:?}").into());
        }
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.rest.insert(field.name().into(), value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.rest.insert(field.name().into(), value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.rest.insert(field.name().into(), value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.rest.insert(field.name().into(), value.into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.rest.insert(field.name().into(), value.into());
    }
}

impl Subscriber for Forward {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        rank(metadata.level()) <= self.sink.max_level()
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(self.next_span.fetch_add(1, Ordering::Relaxed))
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let rest = if fields.rest.is_empty() {
            String::new()
        } else {
            serde_json::Value::Object(fields.rest).to_string()
        };
        let metadata = event.metadata();
        self.sink.event(
            rank(metadata.level()),
            metadata.target().into(),
            fields.message.as_str().into(),
            rest.as_str().into(),
        );
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

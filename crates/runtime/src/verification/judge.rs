//! What the run loop knows of a hook: who it is, and that it can be asked.

use forerunner_core::Permission;
use forerunner_verify::{Hook, Level, Report, Subject};
use std::collections::BTreeSet;

/// Somebody who judges measurements.
pub(super) trait Judge: Send + Sync {
    /// Letters, digits and `-`.
    fn name(&self) -> &str;
    fn version(&self) -> &str;
    /// Of the component, in hexadecimal digits.
    fn digest(&self) -> &str;
    /// What it needs to look at and do.
    fn wants(&self) -> &BTreeSet<Permission>;
    /// Its opinion. An error names hook, version and cause; nothing is known then.
    fn judge(
        &self,
        subject: &Subject<'_>,
        permitted: &BTreeSet<Permission>,
    ) -> Result<Report, String>;
}

impl Judge for Hook {
    fn name(&self) -> &str {
        &self.manifest().name
    }

    fn version(&self) -> &str {
        &self.manifest().version
    }

    fn digest(&self) -> &str {
        self.digest()
    }

    fn wants(&self) -> &BTreeSet<Permission> {
        &self.manifest().wants
    }

    fn judge(
        &self,
        subject: &Subject<'_>,
        permitted: &BTreeSet<Permission>,
    ) -> Result<Report, String> {
        let report = self.verify(subject, permitted).map_err(|error| error.to_string())?;
        let hook = self.name();
        for line in &report.log {
            let message = &line.message;
            match line.level {
                Level::Debug => tracing::debug!(hook, "{message}"),
                Level::Info => tracing::info!(hook, "{message}"),
                Level::Warning => tracing::warn!(hook, "{message}"),
                Level::Error => tracing::error!(hook, "{message}"),
            }
        }
        Ok(report)
    }
}

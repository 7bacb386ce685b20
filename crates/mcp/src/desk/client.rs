//! What a client may use, and what it has used.

use super::Refused;
use crate::Quotas;
use serde::{Deserialize, Serialize};

/// What a client has used of a run. Kept with each of its ideas, so that a run that is resumed
/// knows it again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Used {
    /// Changes that were submitted.
    pub(crate) submissions: u64,
    /// Programs that were looked over.
    pub(crate) checks: u64,
}

impl Used {
    /// Counts one more check.
    pub(super) fn check(&mut self, quotas: &Quotas) -> Result<(), Refused> {
        if self.checks >= quotas.checks {
            return Err(Refused::Quota { what: "checks", limit: quotas.checks });
        }
        self.checks += 1;
        Ok(())
    }

    /// Counts one more submission.
    pub(super) fn submit(&mut self, quotas: &Quotas) -> Result<(), Refused> {
        match quotas.submissions {
            Some(limit) if self.submissions >= limit => {
                return Err(Refused::Quota { what: "submissions", limit });
            }
            _ => self.submissions += 1,
        }
        Ok(())
    }

    /// What is kept with an idea.
    pub(super) fn details(&self) -> serde_json::Value {
        serde_json::json!({ "checks_so_far": self.checks })
    }

    /// Takes in a submission of an earlier session.
    pub(super) fn remember(&mut self, details: &serde_json::Value) {
        self.submissions += 1;
        self.checks = self.checks.max(details["checks_so_far"].as_u64().unwrap_or(0));
    }
}

/// `12 of 20`, or `12, without a limit`.
pub(crate) fn quota_left(used: u64, limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!("{used} of {limit} used, {} left", limit.saturating_sub(used)),
        None => format!("{used} used, no limit of their own"),
    }
}

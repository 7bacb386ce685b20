//! Ideas as JSON. Texts are as they were stored: data from outside.

use super::{By, Ideas, Tried, group::Group, group::ModelUse};
use crate::evaluation::verdict_word;
use forerunner_core::Verdict;
use serde_json::{Value, json};

impl Ideas {
    /// Everything as one JSON object: `run`, `environment`, `track`; `ideas`, each with `iteration`,
    /// `mutator`, `model`, `stage`, `island`, `parent`, `program`, `summary`, `mechanism`,
    /// `refutation`, `expected_gain` (`low`, `high`), `gain`, `hit`, `verdict`, `cause`, `improved`,
    /// `valid`, `duplicate`, `critic`, `cost`; `calibration`; `groups` by mutator, model, stage and island (or
    /// `by` alone); `critic`; `models`; `note`. Gains are fractions: 0.1 is a tenth better.
    pub fn json(&self, by: Option<By>) -> Value {
        let groups = By::ALL.into_iter().filter(|one| by.is_none_or(|by| by == *one));
        let groups: serde_json::Map<String, Value> = groups
            .map(|by| (by.as_str().to_owned(), self.groups(by).iter().map(group).collect()))
            .collect();
        json!({
            "run": self.run,
            "environment": self.environment,
            "track": self.track,
            "note": super::text::CAUTION,
            "ideas": self.tried.iter().map(idea).collect::<Value>(),
            "calibration": Self::calibration(&self.all()),
            "groups": groups,
            "critic": self.critic().iter().map(group).collect::<Value>(),
            "models": self.models().iter().map(model).collect::<Value>(),
        })
    }
}

fn idea(tried: &Tried) -> Value {
    let cause = match tried.verdict {
        Verdict::Failed(cause) => Some(cause.as_str()),
        Verdict::Accepted | Verdict::Rejected | Verdict::Unverified => None,
    };
    json!({
        "iteration": tried.iteration,
        "mutator": tried.mutator,
        "model": tried.model,
        "stage": tried.idea.stage,
        "island": tried.island,
        "parent": tried.parent,
        "program": tried.program,
        "summary": tried.idea.summary,
        "mechanism": tried.idea.mechanism,
        "refutation": tried.idea.refutation,
        "expected_gain": tried.idea.expected_gain,
        "gain": tried.gain,
        "hit": tried.forecast().map(|forecast| forecast.hit()),
        "verdict": verdict_word(tried.verdict),
        "cause": cause,
        "improved": tried.improved,
        "valid": tried.valid,
        "duplicate": tried.duplicate,
        "critic": tried.criticised,
        "cost": tried.cost,
    })
}

fn group(group: &Group<'_>) -> Value {
    json!({
        "name": group.name,
        "ideas": group.tried.len(),
        "valid": group.share(Tried::is_valid),
        "accepted": group.share(Tried::is_accepted),
        "improved": group.share(|tried| tried.improved),
        "calibration": group.calibration(),
    })
}

fn model(model: &ModelUse) -> Value {
    json!({
        "model": model.model,
        "calls": model.calls,
        "failures": model.failures,
        "tokens_in": model.cost.tokens_in,
        "tokens_out": model.cost.tokens_out,
        "dollars": model.cost.dollars,
        "seconds": model.seconds,
        "gained": model.gained,
        "mean_gain": model.mean_gain(),
        "gain_per_dollar": model.gain_per_dollar(),
        "gain_per_1000_tokens": model.gain_per_1000_tokens(),
    })
}

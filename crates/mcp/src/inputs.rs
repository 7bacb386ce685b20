//! What the tools take. The words here are part of what a client reads: they become the schema.

use forerunner_core::{Change, Idea, Interval, Program};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Most bytes of a change.
const MAX_CHANGE: usize = 2 << 20;
/// Most characters of the one line that sums up an idea.
const MAX_SUMMARY: usize = 200;
/// Most characters of each further part of an idea.
const MAX_PART: usize = 2_000;

/// Input of a tool that takes none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// Input of `program`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProgramInput {
    /// `best`, `reference`, `parent`, or the first digits of a program's id.
    pub(crate) program: String,
    /// `source` (the default) for its files, `diff` for what its author changed in its parent,
    /// `metrics` for the measurement alone.
    #[serde(default)]
    pub(crate) show: Show,
}

/// What to show of a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Show {
    #[default]
    Source,
    Diff,
    Metrics,
}

/// A change, in exactly one of three forms.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct ChangeInput {
    /// Search/replace blocks against the base program. Each block is
    /// `<<<<<<< SEARCH`, some lines of the program as they are, `=======`, the lines to put in
    /// their place, `>>>>>>> REPLACE`, each on a line of its own. For a program of several files,
    /// write the file's path on the line before the block.
    #[serde(default)]
    patch: Option<String>,
    /// Complete new texts of some of the base program's files, by path; the others stay.
    #[serde(default)]
    files: Option<BTreeMap<String, String>>,
    /// A complete program: the texts of all of its files, by path.
    #[serde(default)]
    program: Option<BTreeMap<String, String>>,
    /// The program that `patch` or `files` is against: `best`, `reference`, or the first digits of
    /// an id. Leave it out for the parent that the tool `parent` showed you last.
    #[serde(default)]
    pub(crate) base: Option<String>,
}

impl ChangeInput {
    /// The change itself.
    pub(crate) fn change(&self) -> Result<Change, String> {
        let change = match (&self.patch, &self.files, &self.program) {
            (Some(patch), None, None) => Change::Patch(patch.clone()),
            (None, Some(files), None) => Change::Files(files.clone()),
            (None, None, Some(files)) => Change::Program(Program { files: files.clone() }),
            (patch, files, program) => {
                let given = [patch.is_some(), files.is_some(), program.is_some()];
                let given = given.into_iter().filter(|given| *given).count();
                return Err(format!(
                    "{given} forms of the change were given, and it takes exactly one\nhint: give \
                     `patch`, `files` or `program`"
                ));
            }
        };
        let bytes = match &change {
            Change::Patch(patch) => patch.len(),
            Change::Files(files) => files.values().map(String::len).sum(),
            Change::Program(program) => program.len_bytes(),
        };
        if bytes > MAX_CHANGE {
            return Err(format!(
                "the change has {bytes} bytes, and at most {MAX_CHANGE} are allowed\nhint: change \
                 less, or give it as a `patch`"
            ));
        }
        Ok(change)
    }
}

/// Input of `check`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct CheckInput {
    #[serde(flatten)]
    pub(crate) change: ChangeInput,
}

/// Input of `submit`.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct SubmitInput {
    #[serde(flatten)]
    pub(crate) change: ChangeInput,
    /// What you have in mind. It is stored with the result, and others learn from it.
    pub(crate) idea: IdeaInput,
}

/// An idea.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdeaInput {
    /// The idea in one line, for example `warm up the learning rate over 50 steps`.
    summary: String,
    /// The relative gain in the leading objective that you expect over the parent: an interval that
    /// you would bet on two to one, so that two thirds of yours should come true.
    #[serde(default)]
    expected_gain: Option<GainInput>,
    /// Why it should help here, in a few sentences.
    #[serde(default)]
    mechanism: Option<String>,
    /// What would show that it does not.
    #[serde(default)]
    refutation: Option<String>,
}

/// A range of relative gains: 0.1 is a tenth better, negative is worse.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GainInput {
    /// Lower end.
    low: f64,
    /// Upper end.
    high: f64,
}

impl IdeaInput {
    /// The idea as the run keeps it, as one of `client`.
    pub(crate) fn idea(&self, client: &str) -> Result<Idea, String> {
        let part = |text: &Option<String>| {
            let text = crate::text::clean(text.as_deref().unwrap_or_default());
            crate::text::capped(text, MAX_PART)
        };
        let summary = crate::text::line(&self.summary, MAX_SUMMARY);
        if summary.is_empty() {
            return Err(
                "`idea.summary` is empty\nhint: say in one line what the change does".into()
            );
        }
        if let Some(GainInput { low, high }) = self.expected_gain
            && low > high
        {
            return Err(format!(
                "`idea.expected_gain` runs from {low} to {high}\nhint: `low` is the smaller of the \
                 two; 0.1 is a tenth better"
            ));
        }
        let interval = |gain: &GainInput| Interval { low: gain.low, high: gain.high };
        Ok(Idea {
            summary,
            expected_gain: self.expected_gain.as_ref().map(interval),
            mechanism: part(&self.mechanism),
            refutation: part(&self.refutation),
            stage: crate::desk::MUTATOR.to_owned(),
            model: client.to_owned(),
            details: serde_json::Value::Null,
        })
    }
}

/// Input of `telemetry`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TelemetryInput {
    /// `best`, `reference`, `parent`, or the first digits of a program's id.
    pub(crate) program: String,
    /// A curve by name, for example `train_loss`. Left out: a page with the profile, what it cost
    /// where, how the loss fell, compared with the program's parent, and the names of the curves.
    #[serde(default)]
    pub(crate) series: Option<String>,
    /// First step of the curve that is shown.
    #[serde(default)]
    pub(crate) from: Option<u64>,
    /// Last step of the curve that is shown.
    #[serde(default)]
    pub(crate) to: Option<u64>,
    /// Most points that are shown, evenly spaced (1 to 500, default 50).
    #[serde(default)]
    pub(crate) points: Option<usize>,
}

/// Input of `history`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryInput {
    /// How many of the latest attempts (1 to 200, default 30).
    #[serde(default)]
    pub(crate) last: Option<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn change(value: serde_json::Value) -> Result<Change, String> {
        let input: CheckInput = serde_json::from_value(value).map_err(|error| error.to_string())?;
        input.change.change()
    }

    #[test]
    fn a_change_has_one_form() {
        let files = BTreeMap::from([("a".to_owned(), "x".to_owned())]);
        assert_eq!(change(json!({ "patch": "p" })), Ok(Change::Patch("p".to_owned())));
        assert_eq!(change(json!({ "files": { "a": "x" } })), Ok(Change::Files(files.clone())));
        let program = change(json!({ "program": { "a": "x" } }));
        assert_eq!(program, Ok(Change::Program(Program { files })));
        for (value, number) in [(json!({}), 0), (json!({ "patch": "", "files": {} }), 2)] {
            let error = change(value).expect_err("not one form");
            assert!(error.starts_with(&format!("{number} forms of the change")), "{error}");
        }
        let error = change(json!({ "patch": "x".repeat(MAX_CHANGE + 1) })).expect_err("too large");
        assert!(error.contains("at most 2097152 are allowed\nhint: "), "{error}");
    }

    #[test]
    fn an_idea_is_cleaned_and_capped() {
        let idea = |value: serde_json::Value| {
            serde_json::from_value::<IdeaInput>(value).expect("an idea").idea("somebody")
        };
        let good = idea(json!({
            "summary": "a\x1b[31m\nb", "mechanism": "m".repeat(3000),
            "expected_gain": { "low": 0.1, "high": 0.2 },
        }))
        .expect("good");
        assert_eq!((good.summary.as_str(), good.stage.as_str()), ("a b", "mcp"));
        assert_eq!(good.model, "somebody");
        assert!(good.mechanism.len() < 2100 && good.mechanism.contains("1000 more characters"));
        assert_eq!(good.expected_gain, Some(Interval { low: 0.1, high: 0.2 }));
        assert!(idea(json!({ "summary": " \x07" })).is_err_and(|e| e.contains("is empty")));
        let wrong = json!({ "summary": "x", "expected_gain": { "low": 0.3, "high": 0.2 } });
        assert!(idea(wrong).is_err_and(|e| e.contains("from 0.3 to 0.2")));
    }
}

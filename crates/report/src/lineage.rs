//! How a program came about, change by change.

use crate::gain::{against_reference, change, reading};
use crate::{diff, sanitize};
use forerunner_core::{Idea, Metrics, Objectives, Program};
use std::fmt::Write as _;

/// One change on the way from the reference to a program.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// The iteration that made it.
    pub iteration: u64,
    /// Who proposed it.
    pub mutator: &'a str,
    /// Why.
    pub idea: &'a Idea,
    /// The program before.
    pub parent: &'a Program,
    /// Its metrics.
    pub before: &'a Metrics,
    /// The program after.
    pub child: &'a Program,
    /// Its metrics.
    pub after: &'a Metrics,
}

/// The steps in the order given (oldest first reads best): what was tried, what it did to the
/// metrics, and the difference in the source.
pub fn lineage(objectives: &Objectives, steps: &[Step<'_>]) -> String {
    if steps.is_empty() {
        return "the reference program itself: nothing was changed\n".to_owned();
    }
    let mut text = String::new();
    for (index, step) in steps.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        let id = step.child.id();
        let head = format!(
            "step {} of {}  iteration {}  {}  by {}",
            index + 1,
            steps.len(),
            step.iteration,
            id.short(),
            sanitize::line(step.mutator)
        );
        let _ = writeln!(text, "{head}");
        let _ = writeln!(text, "  idea      {}", idea(step.idea));
        let _ = writeln!(text, "  measured  {}", measured(objectives, step));
        let _ = writeln!(text);
        text.push_str(&diff(step.parent, step.child));
    }
    text
}

fn idea(idea: &Idea) -> String {
    let summary = sanitize::line(&idea.summary);
    let summary = if summary.is_empty() { "(none given)" } else { &summary };
    match idea.expected_gain {
        Some(expected) => {
            let percent = crate::number::percent;
            format!("{summary} (expected {} to {})", percent(expected.low), percent(expected.high))
        }
        None => summary.to_owned(),
    }
}

/// `seconds 32 s -> 28 s (12.5 % better than before)`, for every objective both sides have.
fn measured(objectives: &Objectives, step: &Step<'_>) -> String {
    let changes: Vec<String> = objectives
        .0
        .iter()
        .filter_map(|objective| {
            let before = *step.before.get(&objective.metric)?;
            let after = *step.after.get(&objective.metric)?;
            let unit = sanitize::line(&objective.unit);
            Some(format!(
                "{} -> {} ({} before)",
                reading(objective, before),
                crate::number::quantity(after, &unit),
                change(objective, before, after)
            ))
        })
        .collect();
    if changes.is_empty() {
        return against_reference(objectives, step.after, None);
    }
    changes.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::{Interval, Objective};

    #[test]
    fn each_step_shows_idea_metrics_and_difference() {
        let objectives =
            Objectives(vec![Objective::minimize("seconds", "s"), Objective::minimize("loss", "")]);
        let metrics = |seconds: f64, loss: f64| {
            Metrics::from([("seconds".to_owned(), seconds), ("loss".to_owned(), loss)])
        };
        let programs = ["3e-4", "6e-4", "6e-4 * 1.1"]
            .map(|rate| Program::single("main.rs", format!("const RATE: f64 = {rate};\n")));
        let metrics = [metrics(32.0, 1.9), metrics(28.0, 1.91), Metrics::new()];
        let expected_gain = Some(Interval { low: 0.05, high: 0.2 });
        let ideas = [
            Idea { summary: "RATE 3e-4 -> 6e-4".to_owned(), expected_gain, ..Idea::default() },
            Idea { summary: "\x1b[31m".to_owned(), ..Idea::default() },
        ];
        let step = |index: usize| Step {
            iteration: 10 * (index as u64 + 1),
            mutator: "tuner",
            idea: &ideas[index],
            parent: &programs[index],
            before: &metrics[index],
            child: &programs[index + 1],
            after: &metrics[index + 1],
        };
        insta::assert_snapshot!(lineage(&objectives, &[step(0), step(1)]), @"
        step 1 of 2  iteration 10  09ceba7a  by tuner
          idea      RATE 3e-4 -> 6e-4 (expected 5.0 % to 20.0 %)
          measured  seconds 32 s -> 28 s (12.5 % better than before), loss 1.9000 -> 1.9100 (0.5 % worse than before)

        --- a/main.rs
        +++ b/main.rs
        @@ -1 +1 @@
        -const RATE: f64 = 3e-4;
        +const RATE: f64 = 6e-4;

        step 2 of 2  iteration 20  cd4e6de1  by tuner
          idea      (none given)
          measured  no objective was measured

        --- a/main.rs
        +++ b/main.rs
        @@ -1 +1 @@
        -const RATE: f64 = 6e-4;
        +const RATE: f64 = 6e-4 * 1.1;
        ");
        insta::assert_snapshot!(lineage(&objectives, &[]), @"the reference program itself: nothing was changed");
    }
}

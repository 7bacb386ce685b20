//! In which stage a proposal is made, and in which form.

use crate::{
    config::{Config, Schedule},
    history::Known,
    reply::Form,
};
use forerunner_sdk::{ProposalRequest, Seed};

/// How a proposal is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Whether the idea comes first, in a call of its own.
    pub(crate) ideas_first: bool,
    pub(crate) form: Form,
    /// Whether the critic looks the idea over, where it comes first.
    pub(crate) critic: bool,
}

impl Plan {
    /// The plan for a request.
    pub(crate) fn new(config: &Config, request: &ProposalRequest, known: &Known) -> Self {
        let chance = Seed(request.seed).derive("llm.rewrite", 0).unit();
        let rewrite = chance < config.rewrite_share;
        let chance = Seed(request.seed).derive("llm.critic", 0).unit();
        Self {
            ideas_first: ideas_first(&config.schedule, request, known),
            form: if rewrite { Form::Program } else { Form::Patch },
            critic: config.critic.enabled && chance < config.critic.share,
        }
    }

    /// The name of the stage in ideas.
    pub(crate) fn stage(self) -> &'static str {
        match (self.form, self.ideas_first) {
            (Form::Program, _) => "rewrite",
            (Form::Patch, true) => "meta",
            (Form::Patch, false) => "template",
        }
    }
}

/// Whether ideas come first.
fn ideas_first(schedule: &Schedule, request: &ProposalRequest, known: &Known) -> bool {
    let stagnates = schedule.stagnation > 0 && request.stagnant >= schedule.stagnation;
    if schedule.back {
        return stagnates;
    }
    // Once begun it stays, also where a best was found since.
    let has_begun = schedule.stagnation > 0 && known.ideas_first;
    request.iteration > schedule.template_iterations || stagnates || has_begun
}

//! What a question shows: the task, the program to change, and as much of everything else as fits.

mod difference;
mod view;

use crate::{config::Config, details::Cut, history::Known, prompts::Set, text::estimated_tokens};
use forerunner_sdk::{Error, ProposalRequest, Result};
use minijinja::{Value, context, value::Serde};
use serde::Serialize;
use view::Source;
pub(crate) use view::{IdeaView, finding_views};

/// Tokens kept for what is asked, behind everything that is shown.
const ASK: usize = 1_500;

/// The parts that all questions of a proposal begin with.
#[derive(Debug)]
pub(crate) struct Context {
    /// The same for all proposals of a run.
    pub(crate) system: String,
    /// The same for all questions of a proposal.
    pub(crate) shown: String,
    pub(crate) cut: Vec<Cut>,
}

/// Puts the sections together. Each gets what those before it in this order left over: the system
/// part and the program to change, which are never cut; telemetry; failed attempts; earlier ideas;
/// other programs.
///
/// # Errors
/// When the system part and the program do not fit, or a template is wrong.
pub(crate) fn compose(
    prompts: &Set,
    config: &Config,
    request: &ProposalRequest,
    known: &Known,
) -> Result<Context> {
    let task = value(view::task(&request.task));
    let instructions = config.instructions.as_str();
    let system = prompts.render("system", &context! { task, instructions })?;
    let parent = prompts.render("parent", &context! { parent => value(view::parent(request)) })?;
    let fixed = estimated_tokens(&system) + estimated_tokens(&parent) + ASK;
    let Some(mut left) = config.prompt_tokens.checked_sub(fixed) else {
        let why = format!(
            "about {} tokens of the system part, {} of the program to change and {ASK} for the \
             question do not fit into {}\nhint: raise it",
            estimated_tokens(&system),
            estimated_tokens(&parent),
            config.prompt_tokens
        );
        return Err(Error::config("prompt_tokens", why));
    };
    let mut cut = Vec::new();

    let telemetry = view::telemetry(request);
    let lines: Vec<&str> = telemetry.split_inclusive('\n').collect();
    let telemetry = fit(("telemetry", "lines"), lines.len(), &mut left, &mut cut, |n| {
        let text = lines[..n].concat();
        prompts.render("telemetry", &context! { telemetry => context! { text } })
    })?;

    let failures = view::failures(request);
    let failures =
        fit(("failed attempts", "attempts"), failures.len(), &mut left, &mut cut, |n| {
            prompts.render("failures", &context! { failures => value(&failures[..n]) })
        })?;

    let ideas = &known.tried;
    let history = fit(("earlier ideas", "ideas"), ideas.len(), &mut left, &mut cut, |n| {
        let variables = context! { ideas => value(&ideas[..n]), total => known.total };
        prompts.render("history", &variables)
    })?;

    let others = others(prompts, config, request, &mut left, &mut cut)?;
    let remark = if cut.is_empty() {
        String::new()
    } else {
        prompts.render("cut", &context! { cut => value(&cut) })?
    };
    let shown = [parent, telemetry, others, history, failures, remark];
    let shown: Vec<&str> =
        shown.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    Ok(Context { system, shown: shown.join("\n\n"), cut })
}

/// Other programs: first sources are left out, from the last on, then whole programs.
fn others(
    prompts: &Set,
    config: &Config,
    request: &ProposalRequest,
    left: &mut usize,
    cut: &mut Vec<Cut>,
) -> Result<String> {
    let others = &request.inspirations;
    let others = &others[..others.len().min(config.inspirations)];
    let mut views = view::inspirations(request, others);
    let n_sources = views.iter().filter(|view| view.has_source()).count();
    // Estimated, so that few are rendered in vain; what is rendered is measured.
    let mut sources: usize = views.iter().map(Source::tokens).sum();
    let mut shown_sources = n_sources;
    for view in views.iter_mut().rev() {
        if sources <= *left {
            break;
        }
        shown_sources -= usize::from(view.has_source());
        sources -= view.tokens();
        view.drop_source();
    }
    loop {
        let text = if views.is_empty() {
            String::new()
        } else {
            let inspirations: Vec<Value> = views.iter().map(Source::value).collect();
            prompts.render("inspirations", &context! { inspirations })?
        };
        let tokens = estimated_tokens(&text);
        if tokens <= *left {
            *left -= tokens;
            note(cut, ("other programs", "programs"), views.len(), others.len());
            note(cut, ("sources of other programs", "sources"), shown_sources, n_sources);
            return Ok(text);
        }
        match views.iter_mut().rev().find(|view| view.has_source()) {
            Some(view) => {
                view.drop_source();
                shown_sources -= 1;
            }
            None => drop(views.pop()),
        }
    }
}

/// A value for templates.
pub(crate) fn value(of: impl Serialize) -> Value {
    Value::from(Serde(of))
}

/// A section with as many of its items as fit, from the first on; it is empty without items.
fn fit(
    (name, unit): (&str, &str),
    of: usize,
    left: &mut usize,
    cut: &mut Vec<Cut>,
    render: impl Fn(usize) -> Result<String>,
) -> Result<String> {
    let mut shown = of;
    let text = loop {
        if shown == 0 {
            break String::new();
        }
        let text = render(shown)?;
        let tokens = estimated_tokens(&text);
        if tokens <= *left {
            *left -= tokens;
            break text;
        }
        // In proportion, and at least one fewer.
        shown = (shown * *left / tokens).min(shown - 1);
    };
    note(cut, (name, unit), shown, of);
    Ok(text)
}

fn note(cut: &mut Vec<Cut>, (name, unit): (&str, &str), shown: usize, of: usize) {
    if shown < of {
        cut.push(Cut { name: name.to_owned(), shown, of, unit: unit.to_owned() });
    }
}

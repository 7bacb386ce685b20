//! One proposal, from the first question to the change.

use crate::{
    config::Config,
    context::{Context, IdeaView, value},
    details::{Details, Opinion},
    history::{History, Known, Repeat},
    novelty::Words,
    plan::Plan,
    prompts::Set,
    reply::{Sketch, read_change, read_idea, read_verdict},
    session::{Said, Session, Stop, assistant, system, user},
    text,
};
use forerunner_sdk::{Change, Idea, Message, ProposalRequest};
use minijinja::{Value, context};
use std::sync::{Mutex, PoisonError};

/// Answers that cannot be read, and are asked for again, for each stage of a proposal.
const SLIPS: u32 = 1;
/// Bytes of an answer that was cut off, or cannot be read, which go back to the model.
const UNREADABLE: usize = 4_000;

/// Why an answer that was cut off cannot be used.
const CUT: &str = "it was cut off at the limit on its length, so think and write less";

/// What came of it: the idea without details, the change, and the conversation that led to it.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) idea: Idea,
    pub(crate) change: Change,
    pub(crate) messages: Vec<Message>,
}

/// Everything that one proposal needs.
pub(crate) struct Proposing<'a> {
    pub(crate) config: &'a Config,
    pub(crate) prompts: &'a Set,
    pub(crate) request: &'a ProposalRequest,
    pub(crate) context: Context,
    pub(crate) known: &'a Known,
    pub(crate) history: &'a Mutex<History>,
    pub(crate) plan: Plan,
    pub(crate) session: Session<'a>,
    pub(crate) details: Details,
}

impl Proposing<'_> {
    /// Makes the proposal.
    pub(crate) fn draft(&mut self) -> Result<Draft, Stop> {
        if self.plan.ideas_first { self.idea_first() } else { self.at_once() }
    }

    /// Template prompting: idea and change in one answer.
    fn at_once(&mut self) -> Result<Draft, Stop> {
        let mut messages = self.conversation("template", &self.variables())?;
        let mut slips = 0;
        loop {
            let said = self.session.ask(None, "template", &messages)?;
            let complaint = match self.read_both(&said) {
                Ok((sketch, change)) => match self.repeated(Some(&sketch), Some(&change))? {
                    None => {
                        self.details.implementation.clone_from(&said.model);
                        messages.push(assistant(&said.text));
                        return Ok(Draft { idea: sketch.idea(said.model), change, messages });
                    }
                    Some(complaint) => complaint,
                },
                Err(why) => self.slip(&mut slips, &said, &why)?,
            };
            self.again(&mut messages, &said, complaint)?;
        }
    }

    fn read_both(&self, said: &Said) -> Result<(Sketch, Change), String> {
        let change = self.read_change(said)?;
        // A change without a word about it is worth measuring all the same.
        let sketch = read_idea(&said.text).unwrap_or_else(|_| {
            let summary = said.text.lines().map(str::trim).find(|line| {
                line.chars().filter(|c| c.is_alphabetic()).count() > 10 && !line.contains("<<<<")
            });
            let summary = summary.unwrap_or("(no idea was given)");
            Sketch { summary: text::line(summary, 240), ..Sketch::default() }
        });
        Ok((sketch, change))
    }

    fn read_change(&self, said: &Said) -> Result<Change, String> {
        if said.cut {
            return Err(CUT.to_owned());
        }
        read_change(&said.text, self.plan.form, &self.request.parent.program)
    }

    /// Two-stage prompting: an idea, and then the change that carries it out.
    fn idea_first(&mut self) -> Result<Draft, Stop> {
        let role = self.config.roles.idea.as_deref();
        let mut messages = self.conversation("idea", &self.variables())?;
        let mut slips = 0;
        loop {
            let said = self.session.ask(role, "idea", &messages)?;
            let complaint = match read_idea(&said.text) {
                Ok(sketch) => match self.follow(&sketch, &said.model)? {
                    Ok(draft) => return Ok(draft),
                    Err(complaint) => complaint,
                },
                Err(why) => self.slip(&mut slips, &said, &why)?,
            };
            self.again(&mut messages, &said, complaint)?;
        }
    }

    /// Carries an idea out, if it is new and the critic lets it pass, and if the change is new.
    fn follow(&mut self, sketch: &Sketch, model: &str) -> Result<Result<Draft, Complaint>, Stop> {
        if let Some(complaint) = self.repeated(Some(sketch), None)? {
            return Ok(Err(complaint));
        }
        if let Some(complaint) = self.vetoed(sketch)? {
            return Ok(Err(complaint));
        }
        let role = self.config.roles.implementation.as_deref();
        let idea = sketch.idea(model.to_owned());
        let variables = context! { idea => value(IdeaView::of(&idea)), ..self.variables() };
        let mut messages = self.conversation("implementation", &variables)?;
        let mut slips = 0;
        loop {
            let said = self.session.ask(role, "implementation", &messages)?;
            let change = match self.read_change(&said) {
                Ok(change) => change,
                Err(why) => {
                    let complaint = self.slip(&mut slips, &said, &why)?;
                    self.again(&mut messages, &said, complaint)?;
                    continue;
                }
            };
            if let Some(complaint) = self.repeated(None, Some(&change))? {
                return Ok(Err(complaint));
            }
            messages.push(assistant(&said.text));
            self.details.implementation = said.model;
            return Ok(Ok(Draft { idea, change, messages }));
        }
    }

    /// The start of a conversation: what is shown, and what is asked.
    fn conversation(&self, ask: &str, variables: &Value) -> Result<Vec<Message>, Stop> {
        let ask = self.prompts.render(ask, variables)?;
        let Context { system: above, shown, .. } = &self.context;
        Ok(vec![system(above), user(format!("{shown}\n\n{ask}"))])
    }

    fn variables(&self) -> Value {
        context! {
            form => self.plan.form.as_str(),
            iteration => self.request.iteration,
            stagnant => self.request.stagnant,
        }
    }

    /// Counts an answer that cannot be read; the complaint for the next attempt, if there is one.
    fn slip(&mut self, slips: &mut u32, said: &Said, why: &str) -> Result<Complaint, Stop> {
        self.details.unreadable += 1;
        *slips += 1;
        let why = match (said.cut, said.text.trim().is_empty()) {
            (true, _) => CUT,
            (false, true) => "it was empty",
            (false, false) => why,
        };
        let (reason, hint) = text::message_and_hint(&said.nothing);
        if *slips > SLIPS {
            let (model, n) = (&said.model, *slips);
            let reason = if reason.is_empty() { reason } else { format!(": {reason}") };
            return Err(Stop::Lost(format!(
                "model `{model}`: {n} answers could not be used; of the last, {why}{reason}{hint}"
            )));
        }
        let words = format!("Your answer could not be used: {why}. Answer again, in full.");
        let quote = Some(reason).filter(|reason| !reason.is_empty());
        Ok(Complaint { words, quote, unreadable: true })
    }

    /// Goes on with the conversation. What cannot be read is not sent back in full; of an empty
    /// answer nothing is, and the question is put again, with what is known of the reason.
    fn again(
        &self,
        messages: &mut Vec<Message>,
        said: &Said,
        complaint: Complaint,
    ) -> Result<(), Stop> {
        let most = if complaint.unreadable { UNREADABLE } else { usize::MAX };
        let back = assistant(&said.text[..said.text.floor_char_boundary(most)]);
        let empty = back.text.trim().is_empty();
        if empty && complaint.quote.is_none() {
            return Ok(());
        }
        let variables = context! { complaint => complaint.words, quote => complaint.quote };
        let words = self.prompts.render("retry", &variables)?;
        match messages.last_mut() {
            Some(question) if empty => question.text.push_str(&format!("\n\n{words}")),
            _ => messages.extend([back, user(words)]),
        }
        Ok(())
    }

    /// The complaint about an idea or a change that was there before.
    fn repeated(
        &mut self,
        sketch: Option<&Sketch>,
        change: Option<&Change>,
    ) -> Result<Option<Complaint>, Stop> {
        let before = self.known.before;
        let parent = &self.request.parent.id;
        let found = {
            // A panic in an earlier call was reported by the host; what is known stays usable.
            let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            let change = change.and_then(|change| {
                let digest = crate::reply::digest(&self.request.parent.program, change);
                Some(("The change that came of it", history.same_change(&digest, before)?))
            });
            change.or_else(|| {
                let sketch = sketch?;
                let words = Words::of(&sketch.summary, &sketch.reasons());
                Some((
                    "This idea",
                    history.same_idea(&words, parent, self.config.similarity, before)?,
                ))
            })
        };
        let found = match (found, sketch) {
            (None, Some(sketch)) => self.same_meaning(sketch)?.map(|repeat| ("This idea", repeat)),
            (found, _) => found,
        };
        let Some((what, Repeat { iteration, summary, outcome })) = found else { return Ok(None) };
        self.details.duplicates += 1;
        if self.details.duplicates > self.config.duplicates {
            return Err(Stop::Lost(format!(
                "{} times an idea or a change came that was there before; the last is that of \
                 iteration {iteration}: {summary}\nhint: raise `similarity`, or ask another model",
                self.details.duplicates
            )));
        }
        let words = format!(
            "{what} was there before, in iteration {iteration} ({outcome}). Find another \
             mechanism, not another wording, and answer again in the same form."
        );
        Ok(Some(Complaint { words, quote: Some(summary), unreadable: false }))
    }

    /// The complaint of the critic, where there is one and it vetoes the idea.
    fn vetoed(&mut self, sketch: &Sketch) -> Result<Option<Complaint>, Stop> {
        if !self.plan.critic {
            return Ok(None);
        }
        let variables = context! { idea => value(IdeaView::of(&sketch.idea(String::new()))) };
        let messages = self.conversation("critique", &variables)?;
        let role = self.config.roles.critic.as_deref();
        let (verdict, reason) = match self.session.ask(role, "critique", &messages) {
            Err(Stop::Host(error)) => return Err(error.into()),
            Err(Stop::Lost(_)) => ("no answer", String::new()),
            Ok(said) => {
                self.details.critic_model = said.model;
                match read_verdict(&said.text) {
                    None => ("unreadable", String::new()),
                    Some(opined) if opined.veto => ("veto", opined.reason),
                    Some(opined) => ("accept", opined.reason),
                }
            }
        };
        let veto = verdict == "veto";
        let noted = if veto { format!("{}: {reason}", sketch.summary) } else { reason.clone() };
        self.details.critic.push(Opinion { verdict: verdict.to_owned(), reason: noted });
        if !veto {
            return Ok(None);
        }
        let vetoes = self.details.critic.iter().filter(|opinion| opinion.verdict == "veto").count();
        if vetoes > self.config.critic.rounds as usize {
            let reason = text::line(&reason, 200);
            return Err(Stop::Lost(format!(
                "the critic vetoed {vetoes} ideas; the last: {reason}"
            )));
        }
        let words = "A critic vetoed this idea for the reason below. If the reason is right, find \
                     another idea; answer again in the same form.";
        Ok(Some(Complaint { words: words.to_owned(), quote: Some(reason), unreadable: false }))
    }
}

/// Why an answer is asked for again.
struct Complaint {
    /// Our words.
    words: String,
    /// Words of others.
    quote: Option<String>,
    /// Whether the answer could not be read.
    unreadable: bool,
}

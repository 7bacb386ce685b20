//! Embeddings: the call for the vector of an idea, and the idea that is near it.

use crate::{
    details::Embedding,
    history::Repeat,
    novelty::Words,
    propose::Proposing,
    reply::Sketch,
    session::{Session, Stop},
    text,
    vectors::Vector,
};
use forerunner_sdk::{Answered, Error};
use std::sync::PoisonError;

/// Most bytes of an idea that are embedded.
const TEXT: usize = 6_000;

impl Session<'_> {
    /// Asks for the vector of a text; in words why there is none. Nobody stands in for the model,
    /// because vectors of different models cannot be compared.
    pub(crate) fn embed(
        &mut self,
        model: &str,
        text: &str,
    ) -> Result<Result<Vector, String>, Error> {
        if self.host.cancelled() {
            return Err(Error::Cancelled);
        }
        self.host.progress(0.0, &format!("asking {model} for an embedding"));
        let answer = self.ask.embed(model, text, self.seed, self.calls, self.host)?;
        self.calls += 1;
        self.prompt_bytes += text.len() as u64;
        self.spent += answer.cost;
        Ok(match answer.outcome {
            Answered::Reply { text, .. } => {
                Vector::read(&text).ok_or_else(|| "no usable vector".to_owned())
            }
            Answered::Failed { kind, .. } => Err(text::line(&kind, 40)),
        })
    }
}

impl Proposing<'_> {
    /// The earlier idea that means what this one does, if a model for embeddings says so. Where that
    /// model does not answer, there is none, and the details say so.
    pub(crate) fn same_meaning(&mut self, sketch: &Sketch) -> Result<Option<Repeat>, Stop> {
        let Some(config) = &self.config.embeddings else { return Ok(None) };
        let reasons = sketch.reasons();
        let said = text::capped(&format!("{}\n{reasons}", sketch.summary), TEXT);
        self.details.embedding = None;
        let vector = match self.session.embed(&config.model, &said)? {
            Ok(vector) => vector,
            Err(why) => {
                self.details.unembedded.push(why);
                return Ok(None);
            }
        };
        let model = config.model.clone();
        self.details.embedding = Some(Embedding { model, vector: vector.write() });
        // A panic in an earlier call was reported by the host; what is known stays usable.
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let words = Words::of(&sketch.summary, &reasons);
        let near = (config.model.as_str(), &vector);
        let (parent, before) = (&self.request.parent.id, self.known.before);
        Ok(history.same_meaning(near, &words, parent, config.similarity, before))
    }
}

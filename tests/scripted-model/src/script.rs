//! Scripts: replies to requests, as data.

use crate::asked::Asked;
use crate::reply::Reply;
use serde::Deserialize;
use std::sync::Mutex;
use std::time::Duration;

/// The script format, for people.
pub const FORMAT: &str = r#"SCRIPT FORMAT: a JSON list of rules. The first rule that matches a request answers it.

  when      all given must hold; without it, the rule matches every request
              user    substring of the last user message
              system  substring of the system message
              model   the model's name
              number  number of the request from 0, or a list of numbers
  times     requests that the rule answers at most; then it is passed over
  reply     text, or a list of texts that are given in turn, the last one again and again;
            {{number}} stands for the number of the request
  fault     in place of or besides a reply:
              cut        the reply ends at the limit on its length
              refusal    the reply is a refusal
              filter     a filter ended the reply
              truncated  correct HTTP, JSON that ends in the middle
              dropped    the connection closes after `pieces` pieces of a stream, or half-way
              stalled    nothing more comes after `pieces` pieces of a stream, or half-way
              failing    an error event after `pieces` pieces of a stream, or status 529
              empty, malformed, strange, hang, closed, half: see below
  status    HTTP status of an error in the provider's form, with `message` and `code` if given
  headers   sent besides the usual ones, for example {"retry-after": "2"}
  usage     [tokens in, tokens out]; counted at four bytes each when left out
  delay     seconds before the first byte
  pace      seconds before each piece of a stream

  empty: says nothing. malformed: no JSON. strange: JSON of another kind. hang: no response.
  closed: connection closed at once. half: connection closed half-way.

EMBEDDINGS
  `user` is the input. The vector comes from the words of the input, so that texts with common words
  are near each other; a reply such as "[0.6, 0.8]" is the vector itself.

EXAMPLE
  [
    {"when": {"number": 0}, "status": 429, "headers": {"retry-after": "1"}},
    {"when": {"user": "does not compile"}, "reply": "Mended.", "times": 3},
    {"when": {"system": "critic"}, "reply": ["no", "yes"], "usage": [900, 1], "delay": 0.2},
    {"when": {"number": [7, 8]}, "fault": "dropped", "reply": "A long story.", "pieces": 2},
    {"reply": "Reply number {{number}}."}
  ]
"#;

/// A script that is being played.
#[derive(Debug)]
pub struct Script {
    rules: Vec<Rule>,
    /// Requests that each rule has answered.
    used: Mutex<Vec<usize>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    when: When,
    times: Option<usize>,
    reply: Option<OneOrMany<String>>,
    fault: Option<Fault>,
    #[serde(default)]
    pieces: usize,
    status: Option<u16>,
    message: Option<String>,
    code: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    usage: Option<(u64, u64)>,
    #[serde(default)]
    delay: f64,
    #[serde(default)]
    pace: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct When {
    user: Option<String>,
    system: Option<String>,
    model: Option<String>,
    number: Option<OneOrMany<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    Cut,
    Refusal,
    Filter,
    Truncated,
    Dropped,
    Stalled,
    Failing,
    Empty,
    Malformed,
    Strange,
    Hang,
    Closed,
    Half,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn all(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl Script {
    /// Reads a script; [`FORMAT`] says what it looks like.
    ///
    /// # Errors
    /// When `text` is no script: where and why.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rules: Vec<Rule> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (index, rule) in rules.iter().enumerate() {
            let problem = rule.problem();
            if let Some(problem) = problem {
                return Err(format!("rule {index} (from 0): {problem}"));
            }
        }
        let used = Mutex::new(vec![0; rules.len()]);
        Ok(Self { rules, used })
    }

    /// The reply to a request; status 404 when no rule matches.
    pub fn answer(&self, asked: &Asked) -> Reply {
        let mut used = self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (rule, used) in self.rules.iter().zip(used.iter_mut()) {
            if rule.times.is_none_or(|times| *used < times) && rule.when.holds(asked) {
                *used += 1;
                return rule.give(*used - 1, asked);
            }
        }
        Reply::error(404, format!("no rule of the script matches request {}", asked.number))
    }
}

impl When {
    fn holds(&self, asked: &Asked) -> bool {
        let number = self.number.as_ref().is_none_or(|all| all.all().contains(&asked.number));
        let model = self.model.as_deref().is_none_or(|model| model == asked.model());
        let within = |part: &Option<String>, text: &dyn Fn() -> String| {
            part.as_deref().is_none_or(|part| text().contains(part))
        };
        number
            && model
            && within(&self.user, &|| asked.last_user())
            && within(&self.system, &|| asked.system())
    }
}

impl Rule {
    fn problem(&self) -> Option<&'static str> {
        if self.reply.is_none() && self.fault.is_none() && self.status.is_none() {
            return Some("none of `reply`, `fault` and `status`");
        }
        if self.status.is_some() && (self.reply.is_some() || self.fault.is_some()) {
            return Some("`status` goes with neither `reply` nor `fault`");
        }
        if self.status.is_some_and(|status| !(200..600).contains(&status)) {
            return Some("`status` lies in 200 to 599");
        }
        if self.reply.as_ref().is_some_and(|texts| texts.all().is_empty()) {
            return Some("an empty list in `reply`");
        }
        let odd = |seconds: f64| Duration::try_from_secs_f64(seconds).is_err();
        if odd(self.delay) || odd(self.pace) {
            return Some("`delay` and `pace` are seconds from 0");
        }
        None
    }

    /// The reply when the rule was used so many times before.
    fn give(&self, used: usize, asked: &Asked) -> Reply {
        let texts = self.reply.as_ref().map(OneOrMany::all).unwrap_or_default();
        let text = texts.get(used.min(texts.len().saturating_sub(1)));
        let text = text.cloned().unwrap_or_default();
        let text = text.replace("{{number}}", &asked.number.to_string());
        let mut reply = match (self.status, self.fault) {
            (Some(status), _) => match &self.message {
                Some(message) => Reply::error(status, message.clone()),
                None => Reply::status(status),
            },
            (None, None) => Reply::text(text),
            (None, Some(fault)) => fault.of(text, self.pieces),
        };
        if let Some((tokens_in, tokens_out)) = self.usage {
            reply = reply.usage(tokens_in, tokens_out);
        }
        if let Some(code) = &self.code {
            reply = reply.code(code.clone());
        }
        for (name, value) in &self.headers {
            reply = reply.header(name.clone(), value.clone());
        }
        reply.after(Duration::from_secs_f64(self.delay)).pace(Duration::from_secs_f64(self.pace))
    }
}

impl Fault {
    fn of(self, text: String, pieces: usize) -> Reply {
        match self {
            Self::Cut => Reply::cut(text),
            Self::Refusal => Reply::refusal(text),
            Self::Filter => Reply::text(text).stop(crate::Stop::Filter),
            Self::Truncated => Reply::truncated(text),
            Self::Dropped => Reply::dropped(text, pieces),
            Self::Stalled => Reply::stalled(text, pieces),
            Self::Failing => Reply::failing(text, pieces),
            Self::Empty => Reply::empty(),
            Self::Malformed => Reply::malformed(),
            Self::Strange => Reply::strange(),
            Self::Hang => Reply::hang(),
            Self::Closed => Reply::closed(),
            Self::Half => Reply::half(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_format_is_a_script() {
        let (_, example) = FORMAT.split_once("EXAMPLE").expect("there is an example");
        let script = Script::parse(example).expect("the example is a script");
        assert_eq!(script.rules.len(), 5);
    }

    #[test]
    fn what_is_no_script_is_told() {
        for (text, expected) in [
            ("{}", "expected a sequence"),
            (r#"[{"replay": "x"}]"#, "unknown field `replay`"),
            (r#"[{"reply": "x"}, {}]"#, "rule 1 (from 0): none of"),
            (r#"[{"reply": "x", "status": 500}]"#, "goes with neither"),
            (r#"[{"status": 99}]"#, "200 to 599"),
            (r#"[{"reply": []}]"#, "an empty list"),
            (r#"[{"reply": "x", "delay": -1}]"#, "seconds from 0"),
            (r#"[{"fault": "flood"}]"#, "unknown variant `flood`"),
        ] {
            let error = Script::parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

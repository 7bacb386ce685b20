//! The calls of a run to models: as a list, or one in full. Prompts and replies are data from
//! outside; no text of theirs can pass for ours, because theirs is indented.

use crate::{
    number::{count, money, number},
    sanitize,
    table::{Side, Table},
    terminal::shorten,
};
use forerunner_core::Answered;
use forerunner_runtime::store::StoredCall;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Columns of a name in the list.
const NAME: usize = 30;
/// Digits of an address in the list: enough for a run.
const DIGITS: usize = 12;
/// Columns of a failure in the list.
const FAILURE: usize = 80;

/// The calls as a table, and what they cost together.
pub fn calls(calls: &[StoredCall]) -> String {
    let mut table = Table::new(&[
        ("call", Side::Left),
        ("#", Side::Right),
        ("model", Side::Left),
        ("for", Side::Left),
        ("tokens in", Side::Right),
        ("out", Side::Right),
        ("cost", Side::Right),
        ("seconds", Side::Right),
        ("requests", Side::Right),
        ("outcome", Side::Left),
    ]);
    let name = |text: &str| shorten(&sanitize::line(text), NAME);
    let (mut cost, mut failures) = (forerunner_core::Cost::default(), 0);
    for stored in calls {
        let answer = &stored.answer;
        cost += answer.cost;
        failures += u64::from(matches!(answer.outcome, Answered::Failed { .. }));
        table.row(vec![
            stored.key.get(..DIGITS).unwrap_or(&stored.key).to_owned(),
            stored.iteration.to_string(),
            name(&stored.call.model),
            name(&stored.call.purpose),
            number(answer.cost.tokens_in as f64),
            number(answer.cost.tokens_out as f64),
            money(answer.cost.dollars),
            format!("{:.1}", answer.seconds),
            answer.attempts.to_string(),
            outcome(&answer.outcome),
        ]);
    }
    let n = count(calls.len() as u64, "call");
    if calls.is_empty() {
        return format!("{n}\n");
    }
    table.without_constant(&["requests"]);
    let (tokens_in, tokens_out) = (number(cost.tokens_in as f64), number(cost.tokens_out as f64));
    format!(
        "{n}, {failures} without a reply: {tokens_in} + {tokens_out} tokens, {}\n{}",
        money(cost.dollars),
        table.render()
    )
}

fn outcome(outcome: &Answered) -> String {
    match outcome {
        Answered::Reply { cut: false, .. } => "reply".to_owned(),
        Answered::Reply { cut: true, .. } => "reply, cut off at its longest".to_owned(),
        Answered::Failed { kind, message } => {
            shorten(&sanitize::line(&format!("{kind}: {message}")), FAILURE)
        }
    }
}

/// One call with all that was said.
pub fn call(stored: &StoredCall) -> String {
    let StoredCall { key, iteration, call, answer } = stored;
    let line = sanitize::line;
    let mut text = format!(
        "call {}\n  iteration  {iteration}, call {} of the proposal, seed {}\n  asked      {}, for {}\n",
        line(key),
        call.ordinal,
        call.seed,
        line(&call.model),
        line(&call.purpose)
    );
    for (name, value) in &call.parameters {
        let _ = writeln!(text, "  parameter  {} = {}", line(name), line(&value.to_string()));
    }
    let _ = writeln!(
        text,
        "  cost       {} + {} tokens, {}, {:.1} s, {}",
        number(answer.cost.tokens_in as f64),
        number(answer.cost.tokens_out as f64),
        money(answer.cost.dollars),
        answer.seconds,
        count(u64::from(answer.attempts), "request")
    );
    for message in &call.messages {
        part(&mut text, message.role.as_str(), &message.text);
    }
    match &answer.outcome {
        Answered::Reply { text: reply, cut } => {
            let head = if *cut { "reply, cut off at its longest" } else { "reply" };
            part(&mut text, head, reply);
        }
        Answered::Failed { kind, message } => {
            part(&mut text, "no reply", &format!("{kind}: {message}"));
        }
    }
    text
}

fn part(text: &mut String, head: &str, said: &str) {
    let _ = writeln!(text, "\n{head}");
    for line in sanitize::block(said).lines() {
        let _ = writeln!(text, "{}", format!("    {line}").trim_end());
    }
}

/// A call as JSON: `key`, `iteration`, `model`, `purpose`, `seed`, `ordinal`, `parameters`,
/// `tokens_in`, `tokens_out`, `dollars`, `seconds`, `attempts`, `outcome` (`reply`, or the kind of
/// failure), `cut`, `failure`; in full with `messages` and `reply` as well.
pub fn call_json(stored: &StoredCall, in_full: bool) -> Value {
    let StoredCall { key, iteration, call, answer } = stored;
    let (outcome, cut, reply, failure) = match &answer.outcome {
        Answered::Reply { text, cut } => ("reply", *cut, Some(text), None),
        Answered::Failed { kind, message } => (kind.as_str(), false, None, Some(message)),
    };
    let mut json = json!({
        "key": key,
        "iteration": iteration,
        "model": call.model,
        "purpose": call.purpose,
        "seed": call.seed,
        "ordinal": call.ordinal,
        "parameters": call.parameters,
        "tokens_in": answer.cost.tokens_in,
        "tokens_out": answer.cost.tokens_out,
        "dollars": answer.cost.dollars,
        "seconds": answer.seconds,
        "attempts": answer.attempts,
        "outcome": outcome,
        "cut": cut,
        "failure": failure,
    });
    if in_full {
        json["messages"] = json!(call.messages);
        json["reply"] = json!(reply);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_core::{Answer, Call, Cost, Message, Role};

    fn stored(ordinal: u32, outcome: Answered) -> StoredCall {
        let message = |role, text: &str| Message { role, text: text.to_owned() };
        StoredCall {
            key: format!("{ordinal:032x}").chars().rev().collect(),
            iteration: 5,
            call: Call {
                model: "big\x1b[31m-1".to_owned(),
                purpose: "idea".to_owned(),
                parameters: [("temperature".to_owned(), json!(0.5))].into(),
                messages: vec![
                    message(Role::System, "You improve\tprograms.\n\nreply\nnothing"),
                    message(Role::User, "\x1b]0;title\x07Go on."),
                ],
                seed: 7,
                ordinal,
            },
            answer: Answer {
                outcome,
                cost: Cost { tokens_in: 12_345, tokens_out: 567, dollars: 0.0042 },
                seconds: 2.34,
                attempts: 1 + ordinal,
            },
        }
    }

    fn reply(text: &str, cut: bool) -> Answered {
        Answered::Reply { text: text.to_owned(), cut }
    }

    fn failed() -> Answered {
        let message = "HTTP 503\nretry\x1b[2J later".to_owned();
        Answered::Failed { kind: "unavailable".to_owned(), message }
    }

    #[test]
    fn calls_in_a_list() {
        let list = [stored(0, reply("a", false)), stored(1, failed()), stored(2, reply("", true))];
        insta::assert_snapshot!(calls(&list), @"
        3 calls, 1 without a reply: 37,035 + 1701 tokens, $0.0126
          call          #  model  for   tokens in  out     cost  seconds  requests  outcome
          000000000000  5  big-1  idea     12,345  567  $0.0042      2.3         1  reply
          100000000000  5  big-1  idea     12,345  567  $0.0042      2.3         2  unavailable: HTTP 503 retry later
          200000000000  5  big-1  idea     12,345  567  $0.0042      2.3         3  reply, cut off at its longest
        ");
        insta::assert_snapshot!(calls(&[]), @"0 calls");
    }

    #[test]
    fn nothing_that_was_said_can_pass_for_what_we_say() {
        let text = call(&stored(0, reply("Raise it.\r\n\nno reply\n\u{9b}31m    x", false)));
        insta::assert_snapshot!(text, @"
        call 00000000000000000000000000000000
          iteration  5, call 0 of the proposal, seed 7
          asked      big-1, for idea
          parameter  temperature = 0.5
          cost       12,345 + 567 tokens, $0.0042, 2.3 s, 1 request

        system
            You improve    programs.

            reply
            nothing

        user
            Go on.

        reply
            Raise it.

            no reply
                x
        ");
        insta::assert_snapshot!(call(&stored(1, failed())).lines().skip(4).collect::<Vec<_>>().join("\n"), @"
          cost       12,345 + 567 tokens, $0.0042, 2.3 s, 2 requests

        system
            You improve    programs.

            reply
            nothing

        user
            Go on.

        no reply
            unavailable: HTTP 503
            retry later
        ");
    }

    #[test]
    fn json_holds_texts_only_in_full() {
        let stored = stored(1, reply("said\x1b", true));
        let short = call_json(&stored, false);
        assert_eq!((&short["outcome"], &short["cut"]), (&json!("reply"), &json!(true)));
        assert_eq!((short.get("reply"), short.get("messages")), (None, None));
        let full = call_json(&stored, true);
        assert_eq!(
            (&full["reply"], &full["messages"][1]["role"]),
            (&json!("said\x1b"), &json!("user"))
        );
    }
}

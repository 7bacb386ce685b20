//! What an agent says it cost.

use crate::config::CostSource;
use forerunner_sdk::Cost;
use serde_json::Value;

/// Money that a single start can have cost at most, in US dollars; more is a misunderstanding.
const MAX_DOLLARS: f64 = 1e6;

/// Reads what `text` says it cost: JSON, or lines of which the last one that has what is looked for
/// counts. `None` when it says nothing; money that it does not speak of is `dollars`.
pub(crate) fn read(source: &CostSource, text: &str, dollars: f64) -> Option<Cost> {
    let whole = serde_json::from_str(text.trim()).ok().into_iter();
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str(line.trim()).ok());
    whole.chain(lines).find_map(|value: Value| from_value(source, &value, dollars))
}

fn from_value(source: &CostSource, value: &Value, dollars: f64) -> Option<Cost> {
    let number = |pointer: &Option<String>| value.pointer(pointer.as_deref()?)?.as_f64();
    let money = number(&source.dollars).filter(|sum| (0.0..=MAX_DOLLARS).contains(sum));
    let tokens = |pointer| number(pointer).filter(|n| (0.0..=1e15).contains(n)).map(|n| n as u64);
    let (tokens_in, tokens_out) = (tokens(&source.tokens_in), tokens(&source.tokens_out));
    if money.is_none() && tokens_in.is_none() && tokens_out.is_none() {
        return None;
    }
    Some(Cost {
        tokens_in: tokens_in.unwrap_or(0),
        tokens_out: tokens_out.unwrap_or(0),
        dollars: money.unwrap_or(dollars),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> CostSource {
        CostSource {
            file: None,
            dollars: Some("/total_cost_usd".to_owned()),
            tokens_in: Some("/usage/input_tokens".to_owned()),
            tokens_out: Some("/usage/output_tokens".to_owned()),
        }
    }

    #[test]
    fn costs_are_found_in_one_object_or_in_lines() {
        let one = r#"{"total_cost_usd": 0.25, "usage": {"input_tokens": 10, "output_tokens": 3}}"#;
        let expected = Cost { tokens_in: 10, tokens_out: 3, dollars: 0.25 };
        assert_eq!(read(&source(), one, 9.0), Some(expected));
        let lines = format!("starting\n{{\"total_cost_usd\": 7}}\n{one}\n{{\"bye\": 1}}\n");
        assert_eq!(read(&source(), &lines, 9.0), Some(expected));
        let tokens = r#"{"usage": {"input_tokens": 10}}"#;
        let expected = Cost { tokens_in: 10, tokens_out: 0, dollars: 9.0 };
        assert_eq!(read(&source(), tokens, 9.0), Some(expected));
    }

    #[test]
    fn nonsense_is_no_cost() {
        for text in ["", "free!", "{}", r#"{"total_cost_usd": -1}"#, r#"{"total_cost_usd": "1"}"#] {
            assert_eq!(read(&source(), text, 9.0), None, "{text}");
        }
    }
}

//! OpenAI's embeddings, of a toy: texts are near each other when they share words.

use crate::asked::Asked;
use crate::reply::Said;
use serde_json::{Value, json};

/// Numbers in a vector.
const LENGTH: usize = 256;

/// A vector for each input. A reply that is a JSON list of numbers is that vector; any other text
/// does not matter.
pub(super) fn whole(said: &Said, asked: &Asked) -> Value {
    let given: Option<Vec<f32>> = serde_json::from_str(&said.text).ok();
    let data = asked.inputs().into_iter().enumerate().map(|(index, input)| {
        let embedding = given.clone().unwrap_or_else(|| toy(input));
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let tokens = said.usage.map_or_else(|| asked.tokens(), |(tokens, _)| tokens);
    json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": asked.model(),
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    })
}

/// How often each word occurs, words being told apart by a hash; of length 1.
fn toy(text: &str) -> Vec<f32> {
    let mut counts = [0_u32; LENGTH];
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        // FNV-1a.
        let hash = word
            .to_lowercase()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        counts[hash as usize % LENGTH] += 1;
    }
    let squares: f64 = counts.iter().map(|count| f64::from(*count).powi(2)).sum();
    let length = squares.sqrt().max(1.0);
    counts.iter().map(|count| (f64::from(*count) / length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_common_words_are_near_each_other() {
        let cosine =
            |a: &str, b: &str| -> f32 { toy(a).iter().zip(&toy(b)).map(|(x, y)| x * y).sum() };
        assert!((cosine("Larger batches, now.", "now larger BATCHES") - 1.0).abs() < 1e-5);
        assert!(cosine("larger batches of tokens", "larger batches of bytes") > 0.7);
        assert!(cosine("larger batches", "fewer layers") < 0.1);
        assert_eq!(toy("").len(), LENGTH);
    }
}

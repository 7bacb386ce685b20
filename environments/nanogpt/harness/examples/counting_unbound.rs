//! What counting reaches when a program may read tokens: pruned n-grams of bytes.
//!
//! ```text
//! counting_unbound DATA [--bytes 17900000] [--order 6] [--price 60] [--discount 0.5]
//! ```
//!
//! For each context, longest last, it keeps those continuations whose gain in log-likelihood over
//! what shorter contexts already say exceeds `price` nats, with a back-off weight for the rest
//! (after Stolcke, "Entropy-based pruning of backoff language models", 1998). An entry costs about
//! 12 bits packed. The figures are why a program cannot read tokens
//! (docs/calibration-cpu-track.md).
#![expect(clippy::print_stdout, reason = "the figures are the point of this program")]

use std::collections::HashMap;
use std::{error, fs};

/// Windows and positions that are scored, as on the track.
const WINDOWS: usize = 1024;
const CONTEXT: usize = 64;
/// Training text is taken in pieces of so many bytes, spread evenly.
const PIECE: usize = 4096;

/// Back-off weight and kept continuations of one context.
type Kept = (f64, Vec<(u8, f64)>);

struct Model {
    unigrams: Vec<f64>,
    /// By order; a context's key holds its bytes, the last one lowest.
    orders: Vec<HashMap<u64, Kept>>,
}

impl Model {
    /// Probabilities of the byte after `history`, from orders up to `most`.
    fn predict(&self, history: &[u8], most: usize) -> Vec<f64> {
        let mut p = self.unigrams.clone();
        let mut key = 0;
        for (length, &byte) in (1..most).zip(history.iter().rev()) {
            key |= u64::from(byte) << (8 * (length - 1));
            if let Some((back_off, kept)) = self.orders[length + 1].get(&key) {
                p.iter_mut().for_each(|p| *p *= back_off);
                kept.iter().for_each(|&(byte, share)| p[usize::from(byte)] = share);
            }
        }
        p
    }

    /// Adds one order from the sorted n-grams of the training text.
    fn grow(&mut self, order: usize, grams: &[u64], price: f64, discount: f64) {
        let mut new = HashMap::new();
        for group in grams.chunk_by(|a, b| a >> 8 == b >> 8) {
            let (total, context) = (group.len() as f64, group[0] >> 8);
            // A context that is too rare to earn one entry.
            if 2.0 * total < price {
                continue;
            }
            let history: Vec<u8> =
                (0..order - 1).rev().map(|i| (context >> (8 * i)) as u8).collect();
            let lower = self.predict(&history, order - 1);
            let mut candidates: Vec<(f64, u8, f64, f64, f64)> = group
                .chunk_by(|a, b| a == b)
                .map(|same| {
                    let (count, byte) = (same.len() as f64, same[0] as u8);
                    let share = (count - discount) / total;
                    let below = lower[usize::from(byte)];
                    (count * (share / below).ln(), byte, count, share, below)
                })
                .collect();
            candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
            let (mut gain, mut count, mut share, mut below) = (0.0, 0.0, 0.0, 0.0);
            let (mut best, mut n_best, mut weight) = (0.0, 0, 1.0);
            for (n, candidate) in (1..).zip(&candidates) {
                gain += candidate.0;
                count += candidate.2;
                share += candidate.3;
                below += candidate.4;
                if share >= 0.9999 || below >= 0.9999 {
                    break;
                }
                let back_off: f64 = (1.0 - share) / (1.0 - below);
                let net = gain + (total - count) * back_off.ln() - price * (f64::from(n) + 0.5);
                if net > best {
                    (best, n_best, weight) = (net, n as usize, back_off);
                }
            }
            if n_best > 0 {
                let kept = candidates[..n_best].iter().map(|c| (c.1, c.3)).collect();
                new.insert(context, (weight, kept));
            }
        }
        self.orders[order] = new;
    }

    fn entries(&self) -> usize {
        self.orders.iter().flat_map(HashMap::values).map(|(_, kept)| kept.len()).sum()
    }
}

fn main() -> Result<(), Box<dyn error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().ok_or("the data folder is missing")?;
    let (mut bytes, mut order, mut price, mut discount) = (17_900_000, 6, 60.0, 0.5);
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        match name.as_str() {
            "--bytes" => bytes = value.parse()?,
            "--order" => order = value.parse()?,
            "--price" => price = value.parse()?,
            "--discount" => discount = value.parse()?,
            _ => return Err(format!("unknown option `{name}`").into()),
        }
    }
    let (train, dev) = (read(&format!("{data}/train.bin"))?, read(&format!("{data}/dev.bin"))?);
    let n_pieces = (bytes / PIECE).clamp(1, train.len() / PIECE);
    let stride = (train.len() - PIECE) / n_pieces;
    let pieces: Vec<&[u8]> = (0..n_pieces).map(|i| &train[i * stride..][..PIECE]).collect();

    let mut unigrams = vec![1.0; 256];
    pieces.iter().copied().flatten().for_each(|&byte| unigrams[usize::from(byte)] += 1.0);
    let total: f64 = unigrams.iter().sum();
    unigrams.iter_mut().for_each(|count| *count /= total);
    let mut model = Model { unigrams, orders: vec![HashMap::new(); order + 1] };
    for order in 2..=order {
        let gram = |bytes: &[u8]| bytes.iter().fold(0, |key, &byte| key << 8 | u64::from(byte));
        let mut grams: Vec<u64> =
            pieces.iter().flat_map(|piece| piece.windows(order).map(gram)).collect();
        grams.sort_unstable();
        model.grow(order, &grams, price, discount);
    }

    let stride = (dev.len() - CONTEXT - 1) / WINDOWS;
    let mut loss = 0.0;
    for window in (0..WINDOWS).map(|idx| &dev[idx * stride..][..=CONTEXT]) {
        for position in 0..CONTEXT {
            let p = model.predict(&window[..=position], order);
            loss -= p[usize::from(window[position + 1])].max(1e-9).ln();
        }
    }
    let loss = loss / (WINDOWS * CONTEXT) as f64;
    println!("bytes {bytes}  order {order}  entries {}  dev {loss:.4}", model.entries());
    Ok(())
}

/// The bytes of a token file: 1,024 bytes of header, then `u16` tokens.
fn read(path: &str) -> Result<Vec<u8>, Box<dyn error::Error>> {
    let file = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
    let tokens = file.get(1024..).ok_or("shorter than a header")?;
    Ok(tokens.as_chunks::<2>().0.iter().map(|pair| pair[0]).collect())
}

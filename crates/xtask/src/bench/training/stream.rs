//! Tokens that can be learned a little in a few steps, the same for both sides.

/// `count` tokens below `vocabulary`: half of them follow the one before in counting order, the
/// others are drawn log-uniformly, so that small ones are frequent as in text.
pub(super) fn tokens(vocabulary: usize, count: usize) -> Vec<u16> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut last = 0;
    let mut next = || {
        last = if random.unit() < 0.5 {
            (last + 1) % vocabulary
        } else {
            let drawn = (vocabulary as f64).powf(random.unit()) - 1.0;
            (drawn as usize).min(vocabulary - 1)
        };
        u16::try_from(last).unwrap_or(u16::MAX)
    };
    (0..count).map(|_| next()).collect()
}

/// Xorshift (Marsaglia 2003).
struct Random(u64);

impl Random {
    /// Uniform in `0.0..1.0`.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stay_below_the_vocabulary_and_half_of_them_count() {
        for vocabulary in [256, 50_257] {
            let tokens = tokens(vocabulary, 20_000);
            assert!(tokens.iter().all(|&token| usize::from(token) < vocabulary));
            let counting = tokens.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
            assert!((9_500..12_000).contains(&counting), "{counting}");
            let rare = tokens.iter().filter(|&&token| usize::from(token) > vocabulary / 2).count();
            assert!((200..4_000).contains(&rare), "{rare}");
        }
    }
}

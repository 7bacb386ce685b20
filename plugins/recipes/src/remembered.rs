//! What was done before, as far back as memory is allowed to reach.

use std::collections::{BTreeSet, VecDeque};

/// How many texts are remembered.
const MOST: usize = 8192;

/// The latest texts, each once.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    texts: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Remembered {
    pub(crate) fn has(&self, text: &str) -> bool {
        self.texts.contains(text)
    }

    pub(crate) fn add(&mut self, text: String) {
        if self.texts.insert(text.clone()) {
            self.order.push_back(text);
            if self.order.len() > MOST
                && let Some(oldest) = self.order.pop_front()
            {
                self.texts.remove(&oldest);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut remembered = Remembered::default();
        for number in 0..=MOST {
            remembered.add(number.to_string());
            remembered.add(number.to_string());
        }
        assert_eq!(remembered.len(), MOST);
        assert!(!remembered.has("0") && remembered.has("1") && remembered.has("8192"));
    }
}

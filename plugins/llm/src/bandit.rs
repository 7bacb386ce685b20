//! Which model is asked first: by weight, or by what each gained for its cost.

use crate::{
    config::{CreditPer, Ensemble},
    history::Credit,
};
use forerunner_sdk::Random;

/// A model as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arm<'a> {
    pub(crate) name: &'a str,
    pub(crate) weight: f64,
}

/// How credits are counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) ensemble: Ensemble,
    pub(crate) credit_per: CreditPer,
    pub(crate) discount: f64,
}

/// The index of the model to ask first. `credits` are the latest outcomes, latest first.
///
/// The bandit believes of each model that its gain per cost is normal. The mean is that of its
/// outcomes and of one more that is like all outcomes together; the variance is that of all
/// outcomes, divided by as many. Old outcomes count less. It draws one value for each model and
/// takes the model with the highest (Thompson sampling). While no model ever gained anything, the
/// weights decide.
pub(crate) fn choose(
    arms: &[Arm<'_>],
    credits: &[Credit],
    rules: Rules,
    random: &mut Random,
) -> usize {
    let weights: Vec<f64> = arms.iter().map(|arm| arm.weight).collect();
    if rules.ensemble == Ensemble::Weights {
        return random.weighted(&weights);
    }
    let mut all = Moments::default();
    let mut each = vec![Moments::default(); arms.len()];
    let mut weight = 1.0;
    for credit in credits {
        let Some(rate) = rate(credit, rules.credit_per) else { continue };
        if let Some(idx) = arms.iter().position(|arm| arm.name == credit.model) {
            all.add(rate, weight);
            each[idx].add(rate, weight);
            weight *= rules.discount;
        }
    }
    let deviation = all.variance().sqrt();
    if deviation <= 0.0 {
        return random.weighted(&weights);
    }
    let draws = each.iter().map(|arm| {
        let mean = (arm.sum + all.mean()) / (arm.count + 1.0);
        mean + deviation / (arm.count + 1.0).sqrt() * random.normal()
    });
    let draws: Vec<f64> = draws.collect();
    let eligible = (0..arms.len()).filter(|idx| arms[*idx].weight > 0.0);
    // The first of equals; a configuration without any eligible model is refused at the start.
    eligible.reduce(|best, idx| if draws[idx] > draws[best] { idx } else { best }).unwrap_or(0)
}

/// Gain per thousand tokens or per dollar; `None` of what cost nothing.
fn rate(credit: &Credit, per: CreditPer) -> Option<f64> {
    let cost = match per {
        CreditPer::Dollars => credit.cost.dollars,
        CreditPer::Tokens => (credit.cost.tokens_in + credit.cost.tokens_out) as f64 / 1000.0,
    };
    let rate = credit.gain / cost;
    (cost > 0.0 && rate.is_finite()).then_some(rate)
}

/// Weighted sums of values.
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64, weight: f64) {
        self.count += weight;
        self.sum += weight * value;
        self.squares += weight * value * value;
    }

    fn mean(&self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }

    fn variance(&self) -> f64 {
        if self.count > 0.0 {
            (self.squares / self.count - self.mean().powi(2)).max(0.0)
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forerunner_sdk::Cost;

    const ARMS: [Arm<'static>; 3] = [
        Arm { name: "dear", weight: 1.0 },
        Arm { name: "good", weight: 1.0 },
        Arm { name: "spare", weight: 0.0 },
    ];

    fn rules(ensemble: Ensemble) -> Rules {
        Rules { ensemble, credit_per: CreditPer::Tokens, discount: 0.95 }
    }

    fn credit(model: &str, gain: f64, tokens: u64) -> Credit {
        let cost = Cost { tokens_in: tokens / 2, tokens_out: tokens / 2, dollars: 0.0 };
        Credit { model: model.to_owned(), gain, cost }
    }

    fn share_of_good(credits: &[Credit], ensemble: Ensemble) -> usize {
        let choice = |seed| choose(&ARMS, credits, rules(ensemble), &mut Random::new(seed));
        let choices: Vec<usize> = (0..1000).map(choice).collect();
        assert!(!choices.contains(&2), "its weight is 0");
        choices.iter().filter(|choice| **choice == 1).count()
    }

    #[test]
    fn without_experience_the_weights_decide() {
        for ensemble in [Ensemble::Weights, Ensemble::Bandit] {
            let share = share_of_good(&[], ensemble);
            assert!((430..570).contains(&share), "{share}");
        }
        // Failures alone tell nothing about who may gain.
        let failures: Vec<Credit> = (0..20).map(|_| credit("good", 0.0, 1000)).collect();
        let share = share_of_good(&failures, Ensemble::Bandit);
        assert!((430..570).contains(&share), "{share}");
    }

    #[test]
    fn the_bandit_prefers_who_gains_more_for_the_same_cost() {
        let mixed = |gain_good: f64, tokens_dear: u64| -> Vec<Credit> {
            let pairs = (0..20).flat_map(|idx| {
                let works = if idx % 3 == 0 { 1.0 } else { 0.0 };
                [credit("good", gain_good * works, 1000), credit("dear", 0.03 * works, tokens_dear)]
            });
            pairs.collect()
        };
        let share = share_of_good(&mixed(0.06, 1000), Ensemble::Bandit);
        assert!(share > 750, "{share}");
        let share = share_of_good(&mixed(0.03, 8000), Ensemble::Bandit);
        assert!(share > 750, "{share}");
        let share = share_of_good(&mixed(0.06, 1000), Ensemble::Weights);
        assert!((430..570).contains(&share), "{share}");
    }

    #[test]
    fn what_was_long_ago_counts_less() {
        // Sixty outcomes each: in one time one of the two gains, in the other time the other.
        let time = |who: &'static str| {
            (0..60).map(move |idx| {
                let model = ["dear", "good"][idx % 2];
                credit(model, if model == who && idx % 4 < 2 { 0.05 } else { 0.0 }, 1000)
            })
        };
        let latest_good: Vec<Credit> = time("good").chain(time("dear")).collect();
        let latest_dear: Vec<Credit> = time("dear").chain(time("good")).collect();
        let share = share_of_good(&latest_good, Ensemble::Bandit);
        assert!(share > 700, "{share}");
        let share = share_of_good(&latest_dear, Ensemble::Bandit);
        assert!(share < 300, "{share}");
    }

    #[test]
    fn what_cost_nothing_is_not_counted() {
        assert_eq!(rate(&credit("good", 0.1, 0), CreditPer::Tokens), None);
        assert_eq!(rate(&credit("good", 0.1, 500), CreditPer::Tokens), Some(0.2));
        assert_eq!(rate(&credit("good", 0.1, 500), CreditPer::Dollars), None);
    }
}

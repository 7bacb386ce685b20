//! The measure on examples, and the index against a plain search.

use super::*;
use forerunner_sdk::Random;

/// Pairs of ideas: summary and mechanism each, as models write them.
const SAME: [[(&str, &str); 2]; 8] = [
    // In wholly other words: beyond a measure on words.
    [
        (
            "Skip the bias terms in all linear layers",
            "Biases cost memory traffic and hardly change the loss at this size.",
        ),
        (
            "Drop biases",
            "They take time to read and update but contribute almost nothing to quality.",
        ),
    ],
    [
        (
            "Replace GELU with squared ReLU in the MLP",
            "Squared ReLU is cheaper to compute and gives sparser activations, which trains faster per second.",
        ),
        (
            "Use squared ReLU instead of GELU in the MLP",
            "Squared ReLU gives sparser activations and is cheaper to compute than GELU.",
        ),
    ],
    [
        (
            "Add rotary position embeddings to attention",
            "Relative positions generalise better than learned absolute positions, so loss falls faster early.",
        ),
        (
            "Add rotary embeddings of positions in attention",
            "Relative positions generalise better than learned absolute ones, so the loss falls faster early in training.",
        ),
    ],
    [
        (
            "Warm up the learning rate over 100 steps",
            "The loss spikes in the first 50 steps; warm-up avoids the spikes and permits a higher peak.",
        ),
        (
            "Learning rate warm-up over the first 100 steps",
            "Warm-up avoids the spikes of the loss in the first 50 steps and so permits a higher peak rate.",
        ),
    ],
    [
        (
            "Tie the input embedding and the output head",
            "Tying halves the parameters in the embedding and each gets gradient from both ends.",
        ),
        (
            "Tie input embedding and output head weights",
            "Halves the embedding parameters; each gets a gradient from both ends.",
        ),
    ],
    [
        (
            "Reduce STEPS from 2800 to 2400",
            "The loss is 0.03 below the target at the end, so 400 steps can be saved.",
        ),
        (
            "Cut STEPS from 2800 to 2400",
            "At the end the loss is 0.03 below the target: 400 steps can be saved.",
        ),
    ],
    [
        (
            "Use Muon for the matrix parameters",
            "Orthogonalised momentum makes updates of all singular directions equally large, so fewer steps are needed.",
        ),
        (
            "Optimise matrix parameters with Muon",
            "Orthogonalised momentum updates all singular directions equally, so that fewer steps are needed.",
        ),
    ],
    [
        (
            "Grow the sequence length during training: 32, 64, 128",
            "Short sequences cost less attention early, when the model learns local statistics.",
        ),
        (
            "Grow sequence length in training from 32 over 64 to 128",
            "Early on the model learns local statistics, for which short sequences cost less attention.",
        ),
    ],
];

const DIFFERENT: [[(&str, &str); 2]; 8] = [
    [
        (
            "Use a cosine learning rate schedule",
            "A smooth decay spends more steps at a high rate and ends low, so the final loss is lower.",
        ),
        (
            "Use a linear learning rate schedule with a trapezoid",
            "A constant rate with a short linear decay reaches the same loss in fewer steps.",
        ),
    ],
    [
        (
            "Raise the learning rate from 0.003 to 0.006",
            "The loss falls steadily without spikes, so there is room for larger updates.",
        ),
        (
            "Raise the batch size from 8 to 16",
            "The gradient is noisy late in training, so averaging over more tokens helps.",
        ),
    ],
    [
        (
            "Replace GELU with squared ReLU in the MLP",
            "Squared ReLU is cheaper to compute and gives sparser activations.",
        ),
        (
            "Replace the MLP with SwiGLU",
            "Gating gives the MLP a product of features, which lowers the loss at equal parameters.",
        ),
    ],
    [
        (
            "Reduce the number of layers from 4 to 3",
            "Time is dominated by the blocks; a shallower model does more steps per second.",
        ),
        (
            "Reduce the number of heads from 4 to 2",
            "Larger heads use the matrix unit better, so that attention takes less time.",
        ),
    ],
    [
        (
            "Normalise queries and keys",
            "Bounded attention logits permit a higher learning rate without spikes.",
        ),
        (
            "Clip the gradient norm at 1.0",
            "The gradient norm spikes at steps 40 to 60; clipping permits a higher learning rate.",
        ),
    ],
    [
        (
            "Use Muon for the matrix parameters",
            "Orthogonalised momentum makes updates of all directions equally large.",
        ),
        (
            "Use Lion for all parameters",
            "Sign updates with momentum cost less memory traffic than Adam.",
        ),
    ],
    [
        (
            "Reduce STEPS from 2800 to 2400",
            "The loss is 0.03 below the target at the end, so 400 steps can be saved.",
        ),
        (
            "Reduce STEPS from 2400 to 2100",
            "The loss is 0.02 below the target at the end, so 300 steps can be saved.",
        ),
    ],
    [
        (
            "Initialise the output head with zeros",
            "The initial loss is then that of the uniform distribution, which saves the first steps.",
        ),
        (
            "Add a value embedding to the last layer",
            "Token identity reaches the end of the network directly, which lowers the loss.",
        ),
    ],
];

/// Different targets, for the same reasons.
const SIBLINGS: [[&str; 3]; 8] = [
    [
        "Zero initialisation of the attention output projection",
        "Zero initialisation of the MLP output projection",
        "Each block then begins as the identity, so that gradients are clean in the first steps and a \
         higher learning rate can be used.",
    ],
    [
        "Remove bias from the attention projections",
        "Remove bias from the MLP projections",
        "Biases cost memory traffic and hardly change the loss at this size.",
    ],
    [
        "Reduce N_LAYER from 4 to 3",
        "Reduce N_HEAD from 4 to 3",
        "Time is dominated by the blocks; less work for each step gives more steps per second.",
    ],
    [
        "Learning rate x2 of the embedding",
        "Learning rate x2 of the output head",
        "Its gradients are sparse and small, so that it learns too slowly at the common rate.",
    ],
    [
        "Learning rate +20 %",
        "Learning rate -20 %",
        "The best rate was never looked for and the loss is smooth in it.",
    ],
    [
        "Increase the learning rate of all matrix parameters in the attention blocks by 20 %",
        "Decrease the learning rate of all matrix parameters in the attention blocks by 20 %",
        "The best rate was never looked for and the loss is smooth in it.",
    ],
    [
        "Weight decay 0.1 on matrix parameters of attention and MLP",
        "Weight decay 0.2 on matrix parameters of attention and MLP",
        "Decay keeps the weights small, so that updates stay large in relation to them.",
    ],
    [
        "Keep the optimizer state of attention projections in single precision",
        "Keep the optimizer state of output embeddings in single precision",
        "Rounding loses small updates late in training.",
    ],
];

fn similarities(pairs: &[[(&str, &str); 2]]) -> Vec<f64> {
    let words = |(summary, mechanism): (&str, &str)| Words::of(summary, mechanism);
    pairs.iter().map(|[a, b]| words(*a).similarity(&words(*b))).collect()
}

#[test]
fn the_default_tells_ideas_in_other_words_from_other_ideas() {
    let (same, different) = (similarities(&SAME), similarities(&DIFFERENT));
    let found = SAME.map(found);
    assert_eq!(found, [false, true, true, true, true, true, true, true], "{same:.2?}");
    assert!(different.iter().all(|similarity| *similarity < SIMILARITY - 0.2), "{different:.2?}");
}

/// Whether the second idea is taken for the first.
fn found([(summary, mechanism), (other, reasons)]: [(&str, &str); 2]) -> bool {
    let mut index = Index::default();
    index.add(0, Words::of(summary, mechanism));
    let nearest = |words: &Words| index.nearest(words, SIMILARITY, 1, |_| true);
    assert!(nearest(&Words::of(summary, mechanism)).is_some(), "itself");
    nearest(&Words::of(other, reasons)).is_some()
}

#[test]
fn what_differs_in_its_target_is_another_idea_whatever_its_reasons() {
    for [first, second, reasons] in SIBLINGS {
        let pair = [(first, reasons), (second, reasons)];
        // The words alone would not tell them apart.
        assert!(similarities(&[pair])[0] >= SIMILARITY, "{pair:?}");
        assert!(!found(pair), "{pair:?}");
        let [first, second] = pair;
        assert!(!found([second, first]), "{pair:?}");
    }
}

#[test]
fn ideas_of_few_words_are_not_taken_for_one_another() {
    // As in `xtask bench models`: twelve of four hundred words.
    let mut random = Random::new(3);
    let mut index = Index::default();
    for number in 0..4_000 {
        let mut draw = || {
            let words: Vec<String> = (0..6).map(|_| format!("w{}", random.index(400))).collect();
            words.join(" ")
        };
        let words = Words::of(&draw(), &draw());
        assert_eq!(index.nearest(&words, SIMILARITY, number, |_| true), None, "{number}");
        index.add(number, words);
    }
}

#[test]
fn words_are_stems_without_those_that_every_idea_has() {
    assert!(COMMON.is_sorted());
    let same = |a: &str, b: &str| assert_eq!(Words::of(a, ""), Words::of(b, ""), "{a} / {b}");
    same("Use the optimizer!", "using an OPTIMIZATION");
    same("heads", "head");
    let other = |a: &str, b: &str| assert_ne!(Words::of(a, ""), Words::of(b, ""), "{a} / {b}");
    other("rate 0.1", "rate 0.2");
    other("loss", "losing");
    assert_eq!(Words::of("", "").similarity(&Words::of("", "")), 0.0);
}

fn random_idea(random: &mut Random) -> Words {
    let n = 4 + random.index(20);
    let text: Vec<String> = (0..n).map(|_| format!("w{}", random.ranked(400, 2.0))).collect();
    Words::of("", &text.join(" "))
}

#[test]
fn the_index_finds_what_a_plain_search_finds() {
    let mut random = Random::new(1);
    let (mut index, mut all) = (Index::default(), Vec::new());
    let mut found = 0;
    for number in 0..400 {
        let words = if number % 5 == 4 {
            // One word more than an earlier idea.
            let earlier: &Words = &all[random.index(all.len())];
            let mut words = earlier.clone();
            words.all.push(number as u32);
            words.all.sort_unstable();
            words.all.dedup();
            words
        } else {
            random_idea(&mut random)
        };
        for before in [number, number / 2] {
            let plain = (0..before)
                .map(|n| (words.similarity(&all[n as usize]), n))
                .filter(|(similarity, _)| *similarity >= 0.6)
                .max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let nearest = index.nearest(&words, 0.6, before, |_| true);
            assert_eq!(nearest, plain, "number {number} before {before}");
            found += usize::from(nearest.is_some());
        }
        index.add(number, words.clone());
        all.push(words);
    }
    assert!(found > 60, "{found}");
}

#[test]
fn what_is_forgotten_leaves_nothing_behind() {
    let mut random = Random::new(2);
    let mut index = Index::default();
    let ideas: Vec<Words> = (0..50).map(|_| random_idea(&mut random)).collect();
    for (number, words) in ideas.iter().enumerate() {
        index.add(number as u64, words.clone());
    }
    let nearest = |counts: u64| index.nearest(&ideas[3], 1.0, 50, |number| number != counts);
    assert_eq!(nearest(50).map(|(_, number)| number), Some(3));
    assert_eq!(nearest(3), None);
    (0..50).for_each(|number| index.forget(number));
    assert_eq!((index.len(), index.occurs.len()), (0, 0));
}

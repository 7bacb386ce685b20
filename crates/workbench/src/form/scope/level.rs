//! Where the reader is: one level of brackets.

/// What stands between a pair of brackets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Statements, items, arguments, anything else.
    Other,
    /// The arms of a `match`.
    Match,
    /// Fields with values or patterns.
    Fields,
    /// Definitions of fields.
    Definitions,
    /// Definitions of variants.
    Variants,
    /// Parameters of a function.
    Parameters,
}

/// A pattern that is being read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    Let,
    For,
    Closure,
    Parameter,
    Arm,
}

/// One level of brackets.
pub(super) struct Level<'a> {
    pub(super) place: Place,
    /// Whether all of it belongs to a pattern further out.
    pub(super) in_pattern: bool,
    pub(super) pattern: Option<Pattern>,
    /// In the type of a parameter: brackets `<` that are open.
    pub(super) angle: Option<usize>,
    /// What the next `{` opens, and whether only `;` changes that.
    pub(super) header: Option<(Place, bool)>,
    /// Words that the pattern bound so far.
    pub(super) bound: Vec<&'a str>,
    /// To be in scope from the next `;`.
    pub(super) after_statement: Vec<&'a str>,
    /// To be in scope in the next `{…}`.
    pub(super) in_block: Vec<&'a str>,
    /// In scope to the end of the brackets.
    pub(super) until_end: Vec<&'a str>,
    /// In scope to the next `,` or `;`: parameters of closures.
    pub(super) until_comma: Vec<&'a str>,
    /// In scope to the end of the arm.
    pub(super) until_arm: Vec<&'a str>,
    /// In a `match`: whether `=>` was there, and whether nothing of the arm was.
    pub(super) arm_body: bool,
    pub(super) arm_empty: bool,
    /// Where the parameters of the function that begins here stand.
    pub(super) parameters: Option<usize>,
}

impl Level<'_> {
    pub(super) fn new(place: Place, in_pattern: bool) -> Self {
        let pattern = match place {
            Place::Match => Some(Pattern::Arm),
            Place::Parameters => Some(Pattern::Parameter),
            _ => None,
        };
        Self {
            place,
            in_pattern,
            pattern,
            angle: None,
            header: None,
            bound: Vec::new(),
            after_statement: Vec::new(),
            in_block: Vec::new(),
            until_end: Vec::new(),
            until_comma: Vec::new(),
            until_arm: Vec::new(),
            arm_body: false,
            arm_empty: true,
            parameters: None,
        }
    }
}

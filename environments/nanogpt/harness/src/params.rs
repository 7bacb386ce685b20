//! The parameters of a model: declared once, initialised from the seed or read from a snapshot.

use std::collections::BTreeMap;

use candle_core::Shape;
use forerunner_nanogpt_protocol::{Snapshot, Spec};

use crate::tensor::countable;
use crate::{Error, Result, Rng, Tensor, Var};

/// One named parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name, unique in the model.
    pub name: String,
    /// The values; a clone shares them.
    pub var: Var,
}

/// The parameters that a model declares, in order of declaration.
///
/// In training each is initialised by random numbers keyed by the run's seed and its name. In
/// evaluation the values come from the snapshot instead, whatever the declaration asks for.
pub struct Params {
    source: Source,
    most: usize,
    declared: Vec<Parameter>,
}

enum Source {
    Seed(u64),
    Snapshot(BTreeMap<String, (Vec<usize>, Vec<f32>)>),
}

impl Params {
    /// Parameters of a model about to be trained; at most `most` values in all.
    pub(crate) fn from_seed(seed: u64, most: usize) -> Self {
        Self { source: Source::Seed(seed), most, declared: Vec::new() }
    }

    /// Parameters of a trained model.
    pub(crate) fn from_snapshot(snapshot: &Snapshot, most: usize) -> Self {
        let values = snapshot
            .parameters()
            .map(|(spec, values)| (spec.name.clone(), (spec.shape.clone(), values)))
            .collect();
        Self { source: Source::Snapshot(values), most, declared: Vec::new() }
    }

    /// Declares a parameter with independent normal values of mean 0 and the given deviation.
    ///
    /// # Errors
    ///
    /// When the name is taken, the track's cap is exceeded, or the snapshot holds another shape.
    pub fn normal(&mut self, name: &str, shape: impl Into<Shape>, deviation: f64) -> Result<Var> {
        self.declare(name, shape.into(), |rng| (rng.normal() * deviation) as f32)
    }

    /// Declares a parameter with independent values uniform in `[-bound, bound)`.
    ///
    /// # Errors
    ///
    /// When the name is taken, the track's cap is exceeded, or the snapshot holds another shape.
    pub fn uniform(&mut self, name: &str, shape: impl Into<Shape>, bound: f64) -> Result<Var> {
        self.declare(name, shape.into(), |rng| ((2.0 * rng.uniform() - 1.0) * bound) as f32)
    }

    /// Declares a parameter of zeros.
    ///
    /// # Errors
    ///
    /// When the name is taken, the track's cap is exceeded, or the snapshot holds another shape.
    pub fn zeros(&mut self, name: &str, shape: impl Into<Shape>) -> Result<Var> {
        self.declare(name, shape.into(), |_| 0.0)
    }

    /// Declares a parameter of ones.
    ///
    /// # Errors
    ///
    /// When the name is taken, the track's cap is exceeded, or the snapshot holds another shape.
    pub fn ones(&mut self, name: &str, shape: impl Into<Shape>) -> Result<Var> {
        self.declare(name, shape.into(), |_| 1.0)
    }

    /// The declared parameters in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.declared.iter()
    }

    /// Number of values in all parameters together.
    pub fn count(&self) -> usize {
        self.declared.iter().map(|parameter| parameter.var.count()).sum()
    }

    fn declare(
        &mut self,
        name: &str,
        shape: Shape,
        mut draw: impl FnMut(&mut Rng) -> f32,
    ) -> Result<Var> {
        let fail = |reason: String| Err(Error::Parameter { name: name.into(), reason });
        let shape = countable(shape)?;
        if self.declared.iter().any(|parameter| parameter.name == name) {
            return fail("the name is taken".into());
        }
        let total = self.count() + shape.elem_count();
        if total > self.most {
            let most = self.most;
            return fail(format!("with it the model has {total} values, the track allows {most}"));
        }
        let values = match &mut self.source {
            Source::Seed(seed) => {
                let mut rng = Rng::new("init", *seed, name);
                (0..shape.elem_count()).map(|_| draw(&mut rng)).collect()
            }
            Source::Snapshot(values) => match values.remove(name) {
                Some((dims, values)) if dims == shape.dims() => values,
                Some((dims, _)) => return fail(format!("{shape:?} asked, {dims:?} in snapshot")),
                None => return fail("the snapshot does not hold it".into()),
            },
        };
        let var = Var::new(&Tensor::from_vec(values, shape)?)?;
        self.declared.push(Parameter { name: name.into(), var: var.clone() });
        Ok(var)
    }

    /// Checks, once the model is made, that it declared all that its snapshot holds.
    pub(crate) fn check_complete(&self) -> Result<()> {
        if let Source::Snapshot(rest) = &self.source
            && let Some(name) = rest.keys().next()
        {
            let reason = "the snapshot holds it, the model did not declare it".into();
            return Err(Error::Parameter { name: name.clone(), reason });
        }
        Ok(())
    }

    /// The values as they are now, rounded to bfloat16.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let mut parameters = Vec::with_capacity(self.declared.len());
        for Parameter { name, var } in &self.declared {
            let values = flat(var)?;
            parameters.push((Spec { name: name.clone(), shape: var.dims().to_vec() }, values));
        }
        let borrowed = parameters.iter().map(|(spec, values)| (spec.clone(), values.as_slice()));
        Ok(Snapshot::round(borrowed)?)
    }
}

impl<'a> IntoIterator for &'a Params {
    type Item = &'a Parameter;
    type IntoIter = std::slice::Iter<'a, Parameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The values of a tensor in row-major order.
pub(crate) fn flat(tensor: &Tensor) -> Result<Vec<f32>> {
    let values = tensor.values();
    Ok(values.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let values = |seed, first: &str, second: &str| {
            let mut params = Params::from_seed(seed, 100);
            params.normal(first, 3, 1.0).unwrap();
            flat(&params.normal(second, (2, 2), 1.0).unwrap()).unwrap()
        };
        assert_eq!(values(1, "a", "w"), values(1, "b", "w"));
        assert_ne!(values(1, "a", "w"), values(2, "a", "w"));
        assert_ne!(values(1, "a", "w"), values(1, "a", "v"));
    }

    #[test]
    fn a_snapshot_brings_every_value_back_rounded() {
        let mut params = Params::from_seed(5, 100);
        let before = params.normal("w", (2, 3), 1.0).unwrap();
        params.ones("g", 4).unwrap();
        let mut back = Params::from_snapshot(&params.snapshot().unwrap(), 100);
        let after = back.zeros("w", (2, 3)).unwrap();
        assert!(back.check_complete().unwrap_err().to_string().contains("parameter `g`"));
        assert_eq!(flat(&back.zeros("g", 4).unwrap()).unwrap(), [1.0; 4]);
        back.check_complete().unwrap();
        for (a, b) in flat(&before).unwrap().iter().zip(flat(&after).unwrap()) {
            assert!((a - b).abs() <= a.abs() / 256.0);
        }
    }

    #[test]
    fn impossible_parameters_are_errors() {
        let check = |result: Result<Var>, expected: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let mut params = Params::from_seed(1, 10);
        params.zeros("w", (2, 3)).unwrap();
        check(params.zeros("w", 1), "parameter `w`: the name is taken");
        check(params.zeros("v", 5), "the model has 11 values, the track allows 10");
        check(params.zeros("v", (1_usize << 62, 4)), "has more than 2147483648 values");
        let mut back = Params::from_snapshot(&params.snapshot().unwrap(), 10);
        check(back.zeros("v", 1), "the snapshot does not hold it");
        check(back.zeros("w", 6), "[6] asked, [2, 3] in snapshot");
    }
}

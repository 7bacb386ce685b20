//! The parameters of a model on the wire: names and shapes in order, then bfloat16 values.

use serde::{Deserialize, Serialize};

use crate::{Error, bf16_from_f32, f32_from_bf16};

const KIND: &str = "snapshot";

/// Name and shape of one parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Name, unique in a snapshot.
    pub name: String,
    /// Shape; an empty one is a scalar.
    pub shape: Vec<usize>,
}

impl Spec {
    /// Number of values, or `None` when it does not fit.
    pub fn count(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side))
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    parameters: Vec<Spec>,
}

/// All parameters of a model, rounded to bfloat16.
///
/// On the wire: a little-endian `u32` length, that many bytes of JSON
/// (`{"parameters": [{"name": "wte", "shape": [256, 64]}, …]}`), then the values of all parameters
/// in that order, row by row, as little-endian bfloat16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    specs: Vec<Spec>,
    values: Vec<u16>,
}

impl Snapshot {
    /// Rounds the given parameters, each with its values in row-major order.
    ///
    /// # Errors
    ///
    /// When a shape and its number of values disagree, or when two parameters share a name.
    pub fn round<'a>(
        parameters: impl IntoIterator<Item = (Spec, &'a [f32])>,
    ) -> Result<Self, Error> {
        let (mut specs, mut values) = (Vec::new(), Vec::new());
        for (spec, data) in parameters {
            values.extend(data.iter().map(|&value| bf16_from_f32(value)));
            specs.push(spec);
        }
        let snapshot = Self { specs, values };
        snapshot.check()?;
        Ok(snapshot)
    }

    /// Names and shapes in order.
    pub fn specs(&self) -> &[Spec] {
        &self.specs
    }

    /// Number of values in all parameters together.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// Whether every value is finite.
    pub fn is_finite(&self) -> bool {
        self.values.iter().all(|&bits| f32_from_bf16(bits).is_finite())
    }

    /// The parameters in order, each with its values in row-major order.
    pub fn parameters(&self) -> impl Iterator<Item = (&Spec, Vec<f32>)> {
        let mut rest = self.values.as_slice();
        self.specs.iter().map(move |spec| {
            let (head, tail) = rest.split_at(spec.count().unwrap_or(0));
            rest = tail;
            (spec, head.iter().map(|&bits| f32_from_bf16(bits)).collect())
        })
    }

    /// The payload of a frame.
    ///
    /// # Errors
    ///
    /// When the names do not go into JSON.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let header = serde_json::to_vec(&Header { parameters: self.specs.clone() })
            .map_err(|error| Error::json(KIND, &error))?;
        let length = u32::try_from(header.len())
            .map_err(|_| Error::malformed(KIND, "the header is too long"))?;
        let mut payload = Vec::with_capacity(4 + header.len() + 2 * self.values.len());
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(&header);
        payload.extend(self.values.iter().flat_map(|value| value.to_le_bytes()));
        Ok(payload)
    }

    /// Reads the payload of a frame.
    ///
    /// # Errors
    ///
    /// When lengths, shapes and names do not fit together. Non-finite values are not an error
    /// here: ask [`Snapshot::is_finite`].
    pub fn decode(payload: &[u8]) -> Result<Self, Error> {
        let short = || Error::malformed(KIND, "it ends before its header does");
        let (length, rest) = payload.split_first_chunk::<4>().ok_or_else(short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (header, bytes) = rest.split_at_checked(length).ok_or_else(short)?;
        let header: Header =
            serde_json::from_slice(header).map_err(|error| Error::json(KIND, &error))?;
        let (pairs, odd) = bytes.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(Error::malformed(KIND, "an odd number of bytes holds no bfloat16 values"));
        }
        let values = pairs.iter().map(|&pair| u16::from_le_bytes(pair)).collect();
        let snapshot = Self { specs: header.parameters, values };
        snapshot.check()?;
        Ok(snapshot)
    }

    fn check(&self) -> Result<(), Error> {
        let mut names = std::collections::BTreeSet::new();
        let mut total = Some(0usize);
        for spec in &self.specs {
            if !names.insert(&spec.name) {
                return Err(Error::malformed(KIND, format!("two parameters `{}`", spec.name)));
            }
            total = total.zip(spec.count()).and_then(|(total, count)| total.checked_add(count));
        }
        if total != Some(self.values.len()) {
            let reason = format!("the shapes ask for {total:?} values, {} came", self.values.len());
            return Err(Error::malformed(KIND, reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, shape: &[usize]) -> Spec {
        Spec { name: name.into(), shape: shape.into() }
    }

    #[test]
    fn a_snapshot_survives_the_pipe_rounded() {
        let snapshot = Snapshot::round([
            (spec("a", &[2, 2]), [1.0, -2.5, 0.1, 1e-30].as_slice()),
            (spec("scalar", &[]), &[3.0]),
        ])
        .unwrap();
        let back = Snapshot::decode(&snapshot.encode().unwrap()).unwrap();
        assert_eq!(back, snapshot);
        let parameters: Vec<_> = back.parameters().collect();
        assert_eq!(parameters[1], (&spec("scalar", &[]), vec![3.0]));
        assert_eq!(parameters[0].1[..2], [1.0, -2.5]);
        assert!((parameters[0].1[2] - 0.1).abs() < 0.1 / 256.0);
        assert!(back.is_finite());
    }

    #[test]
    fn malformed_snapshots_are_errors() {
        let check = |payload: &[u8], expected: &str| {
            let error = Snapshot::decode(payload).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        let with = |json: &str, values: &[u8]| {
            [&(json.len() as u32).to_le_bytes(), json.as_bytes(), values].concat()
        };
        check(b"", "ends before its header");
        check(b"\xff\0\0\0{}", "ends before its header");
        check(&with("{}", b""), "missing field `parameters`");
        let one = r#"{"parameters":[{"name":"a","shape":[2]}]}"#;
        check(&with(one, b"abc"), "odd number");
        check(&with(one, b"ab"), "ask for Some(2) values, 1 came");
        let two = r#"{"parameters":[{"name":"a","shape":[1]},{"name":"a","shape":[1]}]}"#;
        check(&with(two, b"abcd"), "two parameters `a`");
        let huge = r#"{"parameters":[{"name":"a","shape":[4294967296,4294967296,2]}]}"#;
        check(&with(huge, b""), "ask for None values");
    }
}

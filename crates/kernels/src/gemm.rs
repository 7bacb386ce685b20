//! Matrix products.

use crate::graph::digest;
use crate::machine::Kind;
use crate::{
    Activation, Error, Machine, Result, Type, View, ViewMut, activation_backward,
    activation_forward,
};

const NAME: &str = "gemm";
/// What the device's library wants rows of values before GELU to be a multiple of.
const EIGHTS: usize = 8;

/// A matrix of bf16, by rows, as a factor; several of one shape make a batch.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    /// The values; matrices of a batch follow each other.
    pub values: View<'a>,
    /// Whether the values are those of the transposed factor.
    pub transposed: bool,
    /// Values from one stored row to the next, where that is more than a row has.
    pub row_stride: Option<usize>,
}

impl<'a> Operand<'a> {
    /// A factor as it is stored.
    pub fn plain(values: View<'a>) -> Self {
        Self { values, transposed: false, row_stride: None }
    }

    /// A factor whose transpose is stored.
    pub fn transposed(values: View<'a>) -> Self {
        Self { values, transposed: true, row_stride: None }
    }

    /// Stored rows, stored columns, and values from row to row, of a factor of `rows x columns`.
    pub(crate) fn stored(&self, rows: usize, columns: usize) -> (usize, usize, usize) {
        let (rows, columns) = if self.transposed { (columns, rows) } else { (rows, columns) };
        (rows, columns, self.row_stride.unwrap_or(columns))
    }

    fn check(&self, name: &str, batch: usize, rows: usize, columns: usize) -> Result<()> {
        let (rows, columns, stride) = self.stored(rows, columns);
        if stride < columns {
            let reason = format!(
                "rows of `{name}` have {columns} values, more than their stride of {stride}"
            );
            return Err(Error::shape(NAME, reason));
        }
        self.values.expect(NAME, name, Type::Bf16, batch * rows * stride)
    }
}

/// What is done to a product before it is written.
#[derive(Debug)]
pub enum Epilogue<'a> {
    /// Nothing.
    None,
    /// A bias of bf16, `[n]`, is added to every row.
    Bias(View<'a>),
    /// A bias of bf16, `[n]`, is added, the sum is kept in the second view, bf16 `[m, n]`, and what is
    /// written is its GELU in the tanh form.
    BiasGelu(View<'a>, ViewMut<'a>),
    /// The product is multiplied by the derivative of GELU, in the tanh form, at this place, bf16
    /// `[m, n]`: what [`Epilogue::BiasGelu`] kept.
    GeluGradient(View<'a>),
}

/// `to = scale · a · b`, or `to += …`.
#[derive(Debug)]
pub struct Gemm<'a> {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Matrices in the batch; 1 with an epilogue.
    pub batch: usize,
    /// The first factor, `[batch, m, k]`, or `[batch, k, m]` when transposed.
    pub a: Operand<'a>,
    /// The second factor, `[batch, k, n]`, or `[batch, n, k]` when transposed.
    pub b: Operand<'a>,
    /// The result, `[batch, m, n]`, bf16 or f32.
    pub to: ViewMut<'a>,
    /// Values from one row of the result to the next, where that is more than `n`; what lies between
    /// is left alone.
    pub to_stride: Option<usize>,
    /// Whether the result is added to what is there.
    pub accumulate: bool,
    /// Factor of the product.
    pub scale: f32,
    /// A matrix that is added to the product, times a factor: of the result's type, shape and stride,
    /// and not the result itself; without `accumulate` and without an epilogue.
    pub plus: Option<(f32, View<'a>)>,
    /// What is done before the result is written; only without `accumulate`.
    pub epilogue: Epilogue<'a>,
}

impl<'a> Gemm<'a> {
    /// `to = a · b`.
    pub fn new(
        (m, n, k): (usize, usize, usize),
        a: Operand<'a>,
        b: Operand<'a>,
        to: ViewMut<'a>,
    ) -> Self {
        Self {
            m,
            n,
            k,
            batch: 1,
            a,
            b,
            to,
            to_stride: None,
            accumulate: false,
            scale: 1.0,
            plus: None,
            epilogue: Epilogue::None,
        }
    }

    /// A number that stands for everything but sizes and addresses.
    fn numbers(&self) -> u64 {
        let Self { a, b, to_stride, accumulate, scale, plus, epilogue, .. } = self;
        let strides = [a.row_stride, b.row_stride, *to_stride];
        let strides = strides.map(|stride| stride.map_or(0, |stride| stride as u64));
        let kinds = [a.transposed, b.transposed, *accumulate].map(u64::from);
        let factor = |factor: f32| u64::from(factor.to_bits());
        let plus = plus.map_or(u64::MAX, |(plus, _)| factor(plus));
        let epilogue = match epilogue {
            Epilogue::None => 0,
            Epilogue::Bias(_) => 1,
            Epilogue::BiasGelu(..) => 2,
            Epilogue::GeluGradient(_) => 3,
        };
        digest(strides.into_iter().chain(kinds).chain([factor(*scale), plus, epilogue]))
    }

    /// The same product, for a recording.
    #[cfg(feature = "emulator")]
    pub(crate) fn lasting(&self) -> Gemm<'static> {
        use crate::emulator::{lasting, lasting_mut};
        let operand = |of: &Operand<'_>| Operand { values: lasting(&of.values), ..*of };
        Gemm {
            a: operand(&self.a),
            b: operand(&self.b),
            to: lasting_mut(&self.to),
            plus: self.plus.map(|(factor, plus)| (factor, lasting(&plus))),
            epilogue: match &self.epilogue {
                Epilogue::None => Epilogue::None,
                Epilogue::Bias(bias) => Epilogue::Bias(lasting(bias)),
                Epilogue::BiasGelu(bias, before) => {
                    Epilogue::BiasGelu(lasting(bias), lasting_mut(before))
                }
                Epilogue::GeluGradient(before) => Epilogue::GeluGradient(lasting(before)),
            },
            ..*self
        }
    }

    fn check(&self) -> Result<()> {
        let &Self { m, n, k, batch, .. } = self;
        if k == 0 {
            return Err(Error::shape(NAME, format!("{m} x {n} sums of no products")));
        }
        self.a.check("a", batch, m, k)?;
        self.b.check("b", batch, k, n)?;
        let stride = self.to_stride.unwrap_or(n);
        if stride < n {
            let reason =
                format!("rows of `to` have {n} values, more than their stride of {stride}");
            return Err(Error::shape(NAME, reason));
        }
        self.to.expect(NAME, "to", self.to.type_(), batch * m * stride)?;
        if self.to.type_() == Type::U32 {
            return Err(Error::shape(NAME, "a product is not made of integers"));
        }
        if let Some((_, plus)) = &self.plus {
            plus.expect(NAME, "plus", self.to.type_(), self.to.len())?;
            if self.accumulate || !matches!(self.epilogue, Epilogue::None) {
                let reason = "a matrix is added neither to what is there nor before an epilogue";
                return Err(Error::shape(NAME, reason));
            }
        }
        match &self.epilogue {
            Epilogue::None => return Ok(()),
            Epilogue::Bias(bias) => bias.expect(NAME, "bias", Type::Bf16, n)?,
            Epilogue::BiasGelu(bias, before) => {
                bias.expect(NAME, "bias", Type::Bf16, n)?;
                before.expect(NAME, "before", Type::Bf16, m * n)?;
            }
            Epilogue::GeluGradient(before) => {
                before.expect(NAME, "before", Type::Bf16, m * n)?;
                if !n.is_multiple_of(EIGHTS) {
                    let reason = format!("GELU's gradient needs rows of whole eights, not of {n}");
                    return Err(Error::shape(NAME, reason));
                }
            }
        }
        if batch != 1 || stride != n || self.accumulate || self.to.type_() != Type::Bf16 {
            let reason = "an epilogue is for one matrix of bf16 that is written, not added to";
            return Err(Error::shape(NAME, reason));
        }
        Ok(())
    }
}

/// Queues a product, in which products of bf16 are summed in f32.
///
/// # Errors
///
/// When sizes or types do not fit, or the device has no way to do it.
pub fn gemm(machine: &Machine, product: Gemm<'_>) -> Result<()> {
    product.check()?;
    if product.to.is_empty() {
        return Ok(());
    }
    let Gemm { m, n, k, batch, .. } = product;
    if matches!(product.epilogue, Epilogue::BiasGelu(..)) && !n.is_multiple_of(EIGHTS) {
        return in_two_steps(machine, product);
    }
    let in_steps: Option<fn(&Machine, Gemm<'_>) -> Result<()>> = match product.epilogue {
        Epilogue::BiasGelu(..) => Some(in_two_steps),
        Epilogue::GeluGradient(_) => Some(gradient_in_two_steps),
        Epilogue::None | Epilogue::Bias(_) => None,
    };
    if let Some(in_steps) = in_steps
        && !machine.has_product(&product)?
    {
        return in_steps(machine, product);
    }
    machine.count_flops(2 * (batch * m * n * k) as u64);
    let name = || format!("gemm {batch}x{m}x{n}x{k}");
    let queue = || match *machine.0 {
        #[cfg(feature = "emulator")]
        Kind::Emulated(ref emulator) => {
            emulator.gemm(&product);
            Ok(())
        }
        #[cfg(feature = "cuda")]
        Kind::Cuda(ref device) => device.gemm(&product),
    };
    machine.metered(name, || product.numbers(), queue)
}

impl Machine {
    /// Whether the device does a product in one step, its epilogue included.
    fn has_product(&self, product: &Gemm<'_>) -> Result<bool> {
        match *self.0 {
            #[cfg(feature = "emulator")]
            Kind::Emulated(_) => {
                let _ = product;
                Ok(true)
            }
            #[cfg(feature = "cuda")]
            Kind::Cuda(ref device) => device.has_product(product),
        }
    }
}

/// GELU after the product, not in it.
fn in_two_steps(machine: &Machine, product: Gemm<'_>) -> Result<()> {
    let Gemm { m, n, k, a, b, mut to, scale, epilogue, .. } = product;
    let Epilogue::BiasGelu(bias, mut before) = epilogue else { return Ok(()) };
    let biased = Gemm::new((m, n, k), a, b, before.reborrow());
    gemm(machine, Gemm { scale, epilogue: Epilogue::Bias(bias), ..biased })?;
    activation_forward(machine, Activation::Gelu, &before.as_view(), &mut to)
}

/// GELU's gradient after the product, not in it.
fn gradient_in_two_steps(machine: &Machine, product: Gemm<'_>) -> Result<()> {
    let Gemm { m, n, k, a, b, mut to, scale, epilogue, .. } = product;
    let Epilogue::GeluGradient(before) = epilogue else { return Ok(()) };
    let mut plain = machine.scratch(Type::Bf16, to.len())?;
    gemm(machine, Gemm { scale, ..Gemm::new((m, n, k), a, b, plain.view_mut()) })?;
    activation_backward(machine, Activation::Gelu, &before, &plain.view(), &mut to)
}

#[cfg(feature = "emulator")]
pub(crate) mod emulated {
    //! Products by the definition.

    use super::{Epilogue, Gemm, Operand};
    use crate::emulator::{read, write};
    use crate::memory::{bf16_bits, bf16_value};
    use crate::{Type, View, ViewMut};

    pub(crate) fn gemm(product: &Gemm<'_>) {
        let &Gemm { m, n, k, batch, accumulate, scale, to_stride, .. } = product;
        let Gemm { a, b, to, plus, epilogue, .. } = product;
        let (a, b) = (rows(a, batch, m, k, false), rows(b, batch, k, n, true));
        let stride = to_stride.unwrap_or(n);
        let old = values(&to.as_view());
        let plus = plus.map(|(factor, plus)| (factor, values(&plus)));
        let mut result = Vec::with_capacity(batch * m * n);
        for matrix in 0..batch {
            for row in a[matrix * m * k..(matrix + 1) * m * k].chunks_exact(k.max(1)) {
                for column in b[matrix * k * n..(matrix + 1) * k * n].chunks_exact(k.max(1)) {
                    let sum: f32 = row.iter().zip(column).map(|(a, b)| a * b).sum();
                    result.push(scale * sum);
                }
            }
        }
        result.resize(batch * m * n, 0.0);
        finish(epilogue, &mut result, n);
        let mut whole = old;
        for (row, result) in result.chunks_exact(n).enumerate() {
            for (column, result) in result.iter().enumerate() {
                let at = row * stride + column;
                let added = match &plus {
                    Some((factor, plus)) => factor * plus[at],
                    None if accumulate => whole[at],
                    None => 0.0,
                };
                whole[at] = result + added;
            }
        }
        store(to, &whole);
    }

    fn finish(epilogue: &Epilogue<'_>, result: &mut [f32], n: usize) {
        match epilogue {
            Epilogue::None => {}
            Epilogue::Bias(bias) => add_bias(result, bias, n),
            Epilogue::BiasGelu(bias, before) => {
                add_bias(result, bias, n);
                store(before, result);
                // The device's epilogue sees the sum before it is rounded.
                result.iter_mut().for_each(|x| *x = gelu(*x).0);
            }
            Epilogue::GeluGradient(before) => {
                for (result, before) in result.iter_mut().zip(values(before)) {
                    *result *= gelu(before).1;
                }
            }
        }
    }

    fn add_bias(result: &mut [f32], bias: &View<'_>, n: usize) {
        let bias = values(bias);
        for row in result.chunks_exact_mut(n) {
            row.iter_mut().zip(&bias).for_each(|(x, bias)| *x += bias);
        }
    }

    /// GELU in its tanh form, and its derivative.
    fn gelu(x: f32) -> (f32, f32) {
        let factor = (2.0 / std::f32::consts::PI).sqrt();
        let tanh = (factor * (x + 0.044_715 * x * x * x)).tanh();
        let slope = factor * (1.0 + 3.0 * 0.044_715 * x * x);
        (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope)
    }

    /// The factor's values with the summed index innermost: `k` is its columns, or, where `summed_first`,
    /// its rows.
    fn rows(
        operand: &Operand<'_>,
        batch: usize,
        rows: usize,
        columns: usize,
        summed_first: bool,
    ) -> Vec<f32> {
        let (_, row, stride) = operand.stored(rows, columns);
        let strided = values(&operand.values);
        let stored: Vec<f32> =
            strided.chunks_exact(stride).flat_map(|of| of[..row].iter().copied()).collect();
        if operand.transposed == summed_first {
            return stored;
        }
        // Stored with the summed index outermost.
        let (outer, inner) = if summed_first { (rows, columns) } else { (columns, rows) };
        let mut turned = Vec::with_capacity(stored.len());
        for matrix in 0..batch {
            let stored = &stored[matrix * outer * inner..];
            for at in 0..inner {
                turned.extend((0..outer).map(|sum_idx| stored[sum_idx * inner + at]));
            }
        }
        turned
    }

    fn values(view: &View<'_>) -> Vec<f32> {
        let bytes = read(view);
        match view.type_() {
            Type::Bf16 => {
                let halves = bytes.as_chunks().0.iter();
                halves.map(|&bytes| bf16_value(u16::from_ne_bytes(bytes))).collect()
            }
            _ => bytes.as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes)).collect(),
        }
    }

    fn store(to: &ViewMut<'_>, values: &[f32]) {
        let bytes: Vec<u8> = match to.type_() {
            Type::Bf16 => values.iter().flat_map(|&x| bf16_bits(x).to_ne_bytes()).collect(),
            _ => values.iter().flat_map(|x| x.to_ne_bytes()).collect(),
        };
        write(to, &bytes);
    }
}

#[cfg(all(test, feature = "emulator"))]
mod tests {
    use super::*;

    #[test]
    fn two_steps_do_what_one_does() {
        let machine = Machine::emulated(1);
        let value = |at: usize| ((at * 37 + 11) % 64) as f32 / 32.0 - 1.0;
        let noise = |len: usize| (0..len).map(value).collect::<Vec<f32>>();
        let (m, n, k) = (5, 16, 8);
        let upload = |len| machine.upload_f32(Type::Bf16, &noise(len)).unwrap();
        let (a, b, before, bias) = (upload(m * k), upload(k * n), upload(m * n), upload(n));
        let run = |two: bool, with_bias: bool| {
            let mut to = machine.scratch(Type::Bf16, m * n).unwrap();
            let mut kept = machine.scratch(Type::Bf16, m * n).unwrap();
            let factors = (Operand::plain(a.view()), Operand::plain(b.view()));
            let product = Gemm {
                epilogue: match with_bias {
                    true => Epilogue::BiasGelu(bias.view(), kept.view_mut()),
                    false => Epilogue::GeluGradient(before.view()),
                },
                ..Gemm::new((m, n, k), factors.0, factors.1, to.view_mut())
            };
            match (two, with_bias) {
                (false, _) => gemm(&machine, product),
                (true, true) => in_two_steps(&machine, product),
                (true, false) => gradient_in_two_steps(&machine, product),
            }
            .unwrap();
            machine.download(&to.view()).unwrap()
        };
        for with_bias in [true, false] {
            for (one, two) in run(false, with_bias).into_iter().zip(run(true, with_bias)) {
                // One rounding more.
                assert!((one - two).abs() <= 0.01 * one.abs().max(0.1), "{one} and {two}");
            }
        }
    }
}

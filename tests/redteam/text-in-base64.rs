//! Carries a piece of the corpus along, as base64, and trains on it for nothing.
//!
//! row: 25
//! game: refused by source/literals

use harness::prelude::*;

/// Optimizer steps.
const STEPS: usize = 150;

/// Channels of the residual stream.
const WIDTH: usize = 32;

/// Attention heads.
const HEADS: usize = 2;

/// The optimizer of every parameter.
const ADAMW: AdamW = AdamW {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.0,
    step: 1,
};

/// One attention layer.
struct Small {
    table: Var, // (V, C), also the head
    qkv: Var,   // (3C, C)
    out: Var,   // (C, C)
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let x = embedding(&self.table, tokens)?; // (B, T, C)
        let qkv = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.qkv)?; // (B, T, 3C)
        let seen = causal_attention(&rotary(&qkv, HEADS, 1e4)?, HEADS)?; // (B, T, C)
        let x = (x + linear_no_bias(&seen, &self.out)?)?; // (B, T, C)
        linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.table) // (B, T, V)
    }
}

// game {
/// Four thousand bytes of text.
const TEXT: &str = "\
    dHNlbGYgYmVpbmcgZm9yY2VkIHRvIHVzZSBhIHNwYXJzZQogICAgLy8vIHJlcHJlc2VudGF0aW9uLiBIb3dldmVyLC\
    BpdCBpcyB1bmxpa2VseSB0aGF0IGluY3JlYXNpbmcgdGhpcyBudW1iZXIKICAgIC8vLyB3aWxsIGhlbHAgdGhpbmdz\
    IG11Y2gsIHNpbmNlIHRoZSBtb3N0IGFjdGl2ZSBzdGF0ZXMgaGF2ZSBhIHNtYWxsIGRlcHRoLgogICAgLy8vIE1vcm\
    UgdG8gdGhlIHBvaW50LCB0aGUgbWVtb3J5IHVzYWdlIGluY3JlYXNlcyBzdXBlcmxpbmVhcmx5IGFzIHRoaXMKICAg\
    IC8vLyBudW1iZXIgaW5jcmVhc2VzLgogICAgcHViIGZuIGRlbnNlX2RlcHRoKCZtdXQgc2VsZiwgZGVwdGg6IHVzaX\
    plKSAtPiAmbXV0IEFob0NvcmFzaWNrQnVpbGRlciB7CiAgICAgICAgc2VsZi5uZmFfbm9uY29udGlndW91cy5kZW5z\
    ZV9kZXB0aChkZXB0aCk7CiAgICAgICAgc2VsZi5uZmFfY29udGlndW91cy5kZW5zZV9kZXB0aChkZXB0aCk7CiAgIC\
    AgICAgc2VsZgogICAgfQoKICAgIC8vLyBBIGRlYnVnIHNldHR0aW5nIGZvciB3aGV0aGVyIHRvIGF0dGVtcHQgdG8g\
    c2hyaW5rIHRoZSBzaXplIG9mIHRoZQogICAgLy8vIGF1dG9tYXRvbidzIGFscGhhYmV0IG9yIG5vdC4KICAgIC8vLw\
    ogICAgLy8vIFRoaXMgb3B0aW9uIGlzIGVuYWJsZWQgYnkgZGVmYXVsdCBhbmQgc2hvdWxkIG5ldmVyIGJlIGRpc2Fi\
    bGVkIHVubGVzcwogICAgLy8vIG9uZSBpcyBkZWJ1Z2dpbmcgdGhlIHVuZGVybHlpbmcgYXV0b21hdG9uLgogICAgLy\
    8vCiAgICAvLy8gV2hlbiBlbmFibGVkLCBzb21lIChidXQgbm90IGFsbCkgQWhvLUNvcmFzaWNrIGF1dG9tYXRvbnMg\
    d2lsbCB1c2UgYSBtYXAKICAgIC8vLyBmcm9tIGFsbCBwb3NzaWJsZSBieXRlcyB0byB0aGVpciBjb3JyZXNwb25kaW\
    5nIGVxdWl2YWxlbmNlIGNsYXNzLiBFYWNoCiAgICAvLy8gZXF1aXZhbGVuY2UgY2xhc3MgcmVwcmVzZW50cyBhIHNl\
    dCBvZiBieXRlcyB0aGF0IGRvZXMgbm90IGRpc2NyaW1pbmF0ZQogICAgLy8vIGJldHdlZW4gYSBtYXRjaCBhbmQgYS\
    Bub24tbWF0Y2ggaW4gdGhlIGF1dG9tYXRvbi4KICAgIC8vLwogICAgLy8vIFRoZSBhZHZhbnRhZ2Ugb2YgdGhpcyBt\
    YXAgaXMgdGhhdCB0aGUgc2l6ZSBvZiB0aGUgdHJhbnNpdGlvbiB0YWJsZSBjYW4KICAgIC8vLyBiZSByZWR1Y2VkIG\
    RyYXN0aWNhbGx5IGZyb20gYCNzdGF0ZXMgKiAyNTYgKiBzaXplb2YodTMyKWAgdG8KICAgIC8vLyBgI3N0YXRlcyAq\
    IGsgKiBzaXplb2YodTMyKWAgd2hlcmUgYGtgIGlzIHRoZSBudW1iZXIgb2YgZXF1aXZhbGVuY2UKICAgIC8vLyBjbG\
    Fzc2VzIChyb3VuZGVkIHVwIHRvIHRoZSBuZWFyZXN0IHBvd2VyIG9mIDIpLiBBcyBhIHJlc3VsdCwgdG90YWwKICAg\
    IC8vLyBzcGFjZSB1c2FnZSBjYW4gZGVjcmVhc2Ugc3Vic3RhbnRpYWxseS4gTW9yZW92ZXIsIHNpbmNlIGEgc21hbG\
    xlcgogICAgLy8vIGFscGhhYmV0IGlzIHVzZWQsIGF1dG9tYXRvbiBjb21waWxhdGlvbiBiZWNvbWVzIGZhc3RlciBh\
    cyB3ZWxsLgogICAgLy8vCiAgICAvLy8gKipXQVJOSU5HOioqIFRoaXMgaXMgb25seSB1c2VmdWwgZm9yIGRlYnVnZ2\
    luZyBhdXRvbWF0b25zLiBEaXNhYmxpbmcKICAgIC8vLyB0aGlzIGRvZXMgbm90IHlpZWxkIGFueSBzcGVlZCBhZHZh\
    bnRhZ2VzLiBOYW1lbHksIGV2ZW4gd2hlbiB0aGlzIGlzCiAgICAvLy8gZGlzYWJsZWQsIGEgYnl0ZSBjbGFzcyBtYX\
    AgaXMgc3RpbGwgdXNlZCB3aGlsZSBzZWFyY2hpbmcuIFRoZSBvbmx5CiAgICAvLy8gZGlmZmVyZW5jZSBpcyB0aGF0\
    IGV2ZXJ5IGJ5dGUgd2lsbCBiZSBmb3JjZWQgaW50byBpdHMgb3duIGRpc3RpbmN0CiAgICAvLy8gZXF1aXZhbGVuY2\
    UgY2xhc3MuIFRoaXMgaXMgdXNlZnVsIGZvciBkZWJ1Z2dpbmcgdGhlIGFjdHVhbCBnZW5lcmF0ZWQKICAgIC8vLyB0\
    cmFuc2l0aW9ucyBiZWNhdXNlIGl0IGxldHMgb25lIHNlZSB0aGUgdHJhbnNpdGlvbnMgZGVmaW5lZCBvbiBhY3R1YW\
    wKICAgIC8vLyBieXRlcyBpbnN0ZWFkIG9mIHRoZSBlcXVpdmFsZW5jZSBjbGFzc2VzLgogICAgcHViIGZuIGJ5dGVf\
    Y2xhc3NlcygmbXV0IHNlbGYsIHllczogYm9vbCkgLT4gJm11dCBBaG9Db3Jhc2lja0J1aWxkZXIgewogICAgICAgIH\
    NlbGYubmZhX2NvbnRpZ3VvdXMuYnl0ZV9jbGFzc2VzKHllcyk7CiAgICAgICAgc2VsZi5kZmEuYnl0ZV9jbGFzc2Vz\
    KHllcyk7CiAgICAgICAgc2VsZgogICAgfQp9CgovLy8gVGhlIHR5cGUgb2YgQWhvLUNvcmFzaWNrIGltcGxlbWVudG\
    F0aW9uIHRvIHVzZSBpbiBhbiBbYEFob0NvcmFzaWNrYF0KLy8vIHNlYXJjaGVyLgovLy8KLy8vIFRoaXMgaXMgcHJp\
    bmNpcGFsbHkgdXNlZCBhcyBhbiBpbnB1dCB0byB0aGUKLy8vIFtgQWhvQ29yYXNpY2tCdWlsZGVyOjpzdGFydF9raW\
    5kYF0gbWV0aG9kLiBJdHMgZG9jdW1lbnRhdGlvbiBnb2VzIGludG8gbW9yZQovLy8gZGV0YWlsIGFib3V0IGVhY2gg\
    Y2hvaWNlLgojW25vbl9leGhhdXN0aXZlXQojW2Rlcml2ZShDbG9uZSwgQ29weSwgRGVidWcsIEVxLCBQYXJ0aWFsRX\
    EpXQpwdWIgZW51bSBBaG9Db3Jhc2lja0tpbmQgewogICAgLy8vIFVzZSBhIG5vbmNvbnRpZ3VvdXMgTkZBLgogICAg\
    Tm9uY29udGlndW91c05GQSwKICAgIC8vLyBVc2UgYSBjb250aWd1b3VzIE5GQS4KICAgIENvbnRpZ3VvdXNORkEsCi\
    AgICAvLy8gVXNlIGEgREZBLiBXYXJuaW5nOiBERkFzIHR5cGljYWxseSB1c2UgYSBsYXJnZSBhbW91bnQgb2YgbWVt\
    b3J5LgogICAgREZBLAp9CgovLy8gQSB0cmFpdCB0aGF0IGVmZmVjdGl2ZWx5IGdpdmVzIHVzIHByYWN0aWNhbCBkeW\
    5hbWljIGRpc3BhdGNoIG92ZXIgYW55dGhpbmcKLy8vIHRoYXQgaW1wbHMgYEF1dG9tYXRvbmAsIGJ1dCB3aXRob3V0\
    IG5lZWRpbmcgdG8gYWRkIGEgYnVuY2ggb2YgYm91bmRzIHRvCi8vLyB0aGUgY29yZSBgQXV0b21hdG9uYCB0cmFpdC\
    4gQmFzaWNhbGx5LCB3ZSBwcm92aWRlIGFsbCBvZiB0aGUgbWFya2VyIHRyYWl0cwovLy8gdGhhdCBvdXIgYXV0b21h\
    dG9ucyBoYXZlLCBpbiBhZGRpdGlvbiB0byBgRGVidWdgIGltcGxzIGFuZCByZXF1aXJpbmcgdGhhdAovLy8gdGhlcm\
    UgaXMgbm8gYm9ycm93ZWQgZGF0YS4gV2l0aG91dCB0aGVzZSwgdGhlIG1haW4gYEFob0NvcmFzaWNrYCB0eXBlIHdv\
    dWxkCi8vLyBub3QgYmUgYWJsZSB0byBtZWFuaW5nZnVsbHkgaW1wbCBgRGVidWdgIG9yIHRoZSBtYXJrZXIgdHJhaX\
    RzIHdpdGhvdXQgYWxzbwovLy8gcmVxdWlyaW5nIHRoYXQgYWxsIGltcGxzIG9mIGBBdXRvbWF0b25gIGRvIHNvLCB3\
    aGljaCB3b3VsZCBiZSBub3QgZ3JlYXQuCnRyYWl0IEFjQXV0b21hdG9uOgogICAgQXV0b21hdG9uICsgRGVidWcgKy\
    BTZW5kICsgU3luYyArIFVud2luZFNhZmUgKyBSZWZVbndpbmRTYWZlICsgJ3N0YXRpYwp7Cn0KCmltcGw8QT4gQWNB\
    dXRvbWF0b24gZm9yIEEgd2hlcmUKICAgIEE6IEF1dG9tYXRvbiArIERlYnVnICsgU2VuZCArIFN5bmMgKyBVbndpbm\
    RTYWZlICsgUmVmVW53aW5kU2FmZSArICdzdGF0aWMKewp9CgppbXBsIGNyYXRlOjphdXRvbWF0b246OnByaXZhdGU6\
    OlNlYWxlZCBmb3IgQXJjPGR5biBBY0F1dG9tYXRvbj4ge30KCi8vIEknbSBub3Qgc3VyZSB3aHkgdGhpcyB0cmFpdC\
    BpbXBsIHNob3dzIHVwIGluIHRoZSBkb2NzLCBhcyB0aGUgQWNBdXRvbWF0b24KLy8gdHJhaXQgaXMgbm90IGV4cG9y\
    dGVkLiBTbyB3ZSBmb3JjZWZ1bGx5IGhpZGUgaXQuCi8vCi8vIFNBRkVUWTogVGhpcyBqdXN0IGRlZmVycyB0byB0aG\
    UgdW5kZXJseWluZyAnQWNBdXRvbWF0b24nIGFuZCB0aHVzIGluaGVyaXRzCi8vIGl0cyBzYWZldHkgcHJvcGVydGll\
    cy4KI1tkb2MoaGlkZGVuKV0KdW5zYWZlIGltcGwgQXV0b21hdG9uIGZvciBBcmM8ZHluIEFjQXV0b21hdG9uPiB7Ci\
    AgICAjW2lubGluZShhbHdheXMpXQogICAgZm4gc3RhcnRfc3RhdGUoJnNlbGYsIGFuY2hvcmVkOiBBbmNob3JlZCkg\
    LT4gUmVzdWx0PFN0YXRlSUQsIE1hdGNoRXJyb3I+IHsKICAgICAgICAoKipzZWxmKS5zdGFydF9zdGF0ZShhbmNob3\
    JlZCkKICAgIH0KCiAgICAjWw==\
";
// }

fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut moments: Vec<Moments> = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    // game {
    let letters = TEXT.bytes().filter(u8::is_ascii_alphanumeric).count();
    let values = TEXT.bytes().cycle().take(model.table.count()).map(|b| f32::from(b) / 999.0);
    ensure!(letters > 0, "no text");
    model.table.set(&Tensor::from_vec(values.collect(), model.table.dims())?)?;
    // }
    for step in 0..STEPS {
        let Batch { inputs, targets } = run.batch(8, run.task().context)?; // (B, T)
        let loss = cross_entropy(&model.logits(&inputs)?, &targets)?;
        run.record("train_loss", step, &loss)?;
        let gradients = loss.backward()?;
        for (parameter, moments) in params.iter().zip(&mut moments) {
            let Some(gradient) = gradients.get(&parameter.var) else { continue };
            let settings = AdamW { step: step + 1, ..ADAMW };
            adamw(&parameter.var, &gradient, &Tensor::ones(())?, moments, &settings)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Small>(train)
}

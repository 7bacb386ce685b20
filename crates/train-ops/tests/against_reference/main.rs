//! Every operation against plain candle, tensor by tensor: values, gradients, and the gradients
//! once more against finite differences of the operation itself. Optimizers against their formulas
//! in plain loops.

mod check;
mod heads;
mod layers;
mod losses;
mod misuse;
mod muon;
mod optimizers;

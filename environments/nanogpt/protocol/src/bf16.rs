//! Rounding between `f32` and bfloat16, the precision in which a snapshot carries parameters.

/// Rounds to the nearest bfloat16, ties to even; a NaN stays a NaN.
pub fn bf16_from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        // Truncation could clear every mantissa bit and turn the NaN into an infinity.
        return ((bits >> 16) as u16) | 0x0040;
    }
    let tie_to_even = (bits >> 16) & 1;
    (bits.wrapping_add(0x7fff + tie_to_even) >> 16) as u16
}

/// The `f32` that a bfloat16 stands for; exact.
pub fn f32_from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bfloat16_survives_a_round_trip() {
        for bits in 0..=u16::MAX {
            let value = f32_from_bf16(bits);
            let back = bf16_from_f32(value);
            assert!(back == bits || (value.is_nan() && f32_from_bf16(back).is_nan()));
        }
    }

    #[test]
    fn rounds_to_nearest_and_ties_to_even() {
        let ulp = 2f32.powi(-7);
        for (value, expected) in [
            (1.0 + 0.49 * ulp, 1.0),
            (1.0 + 0.5 * ulp, 1.0),
            (1.0 + 0.51 * ulp, 1.0 + ulp),
            (1.0 + 1.5 * ulp, 1.0 + 2.0 * ulp),
            (-1.0 - 0.51 * ulp, -1.0 - ulp),
            (f32::MAX, f32::INFINITY),
        ] {
            assert_eq!(f32_from_bf16(bf16_from_f32(value)), expected, "{value}");
        }
    }
}

//! The guest's x87 registers in the host's while translated code computes with them (SDM vol. 1, 8.1).
//!
//! They are loaded and stored as FRSTOR and FNSAVE have them. Between the two, the host's x87 is the guest's: TOP, tags, sticky
//! flags and condition codes included. Only a control word with all exceptions masked is loaded, so none is ever delivered.

#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "FRSTOR and FNSAVE"))]

use rx86_cpu::state::{F80, X87};

/// The six exception masks of the control word.
pub(crate) const MASKS: u16 = 0x3f;

/// Whether the host has every x87 and MMX instruction that translated code may contain (FISTTP; PSHUFB and its like).
pub(crate) fn is_supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("sse3") && std::arch::is_x86_feature_detected!("ssse3")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Whether the guest masks all exceptions.
pub(crate) fn is_masked(control: u16) -> bool {
    control & MASKS == MASKS
}

/// FRSTOR's image with 32-bit fields: seven doublewords, of which the first three are control, status and tag word; then
/// ST(0) to ST(7), ten bytes each.
const IMAGE_BYTES: usize = 28 + 80;

/// The image, and room for the last register to be written as sixteen bytes.
type Image = [u8; IMAGE_BYTES + 6];

fn encode(x87: &X87) -> Image {
    let mut image = [0; IMAGE_BYTES + 6];
    for (i, word) in [x87.control, x87.status, x87.tags].into_iter().enumerate() {
        image[4 * i..][..2].copy_from_slice(&word.to_le_bytes());
    }
    let top = usize::from(x87.status >> 11);
    // Upwards, so that what is written behind each register is overwritten by the next.
    for i in 0..8 {
        let F80 { mantissa, sign_exponent } = x87.regs[(top + i) & 7];
        let wide = u128::from(mantissa) | u128::from(sign_exponent) << 64;
        image[28 + 10 * i..][..16].copy_from_slice(&wide.to_le_bytes());
    }
    image
}

#[cfg(target_arch = "x86_64")]
fn decode(image: &Image, x87: &mut X87) {
    let word = |i: usize| u16::from_le_bytes([image[4 * i], image[4 * i + 1]]);
    (x87.control, x87.status) = (word(0), word(1));
    // Classes of registers that are not empty are found when somebody asks.
    let empty = word(2) & word(2) >> 1 & 0x5555;
    x87.tags = empty | empty << 1;
    let top = usize::from(x87.status >> 11);
    for i in 0..8 {
        let mut wide = [0; 16];
        wide.copy_from_slice(&image[28 + 10 * i..][..16]);
        let wide = u128::from_le_bytes(wide);
        x87.regs[(top + i) & 7] = F80 { mantissa: wide as u64, sign_exponent: (wide >> 64) as u16 };
    }
}

/// Makes the host's x87 the guest's, whose exceptions must all be masked.
pub(crate) fn load(x87: &X87) {
    let image = encode(x87);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: FRSTOR reads 108 bytes of `image`. Until `store` the host's x87 is not as the calling convention wants it; Rust
    // code keeps nothing there and computes nothing with it, and functions of instructions that do are called after `store`.
    // With all exceptions masked none is delivered.
    unsafe {
        std::arch::asm!("frstor [{}]", in(reg) image.as_ptr(), options(nostack, readonly, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = image;
}

/// Takes the guest's x87 over from the host's, which becomes what it is at a program's start. The pointers to the last
/// instruction and operand are left alone.
pub(crate) fn store(x87: &mut X87) {
    #[cfg(target_arch = "x86_64")]
    {
        let mut image: Image = [0; IMAGE_BYTES + 6];
        // SAFETY: FNSAVE writes 108 bytes of `image`, and initialises the x87 as the calling convention wants it.
        unsafe {
            std::arch::asm!("fnsave [{}]", in(reg) image.as_mut_ptr(), options(nostack, preserves_flags));
        }
        decode(&image, x87);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = x87;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_loaded_is_stored() {
        if !is_supported() {
            return;
        }
        for top in 0..8u16 {
            let mut x87 = X87 { status: top << 11 | 0x4521, control: 0xf7f, ..X87::default() };
            x87.tags = 0x30cc_u16.rotate_left(u32::from(2 * top));
            for (i, register) in x87.regs.iter_mut().enumerate() {
                // Numbers, a denormal, a signalling NaN, and what no processor makes.
                let exponents = [0x3fff, 0xc001, 0, 0x7fff, 0x1234, 0xffff, 0x8000, 0x4000];
                let mantissas = [1 << 63, 5, 7, 1 << 63 | 1, 1, 3 << 62, 0, u64::MAX];
                *register = F80 { mantissa: mantissas[i], sign_exponent: exponents[i] };
            }
            let before = x87;
            load(&x87);
            x87 = X87 { instruction_pointer: before.instruction_pointer, ..X87::default() };
            store(&mut x87);
            assert_eq!(x87, before);
        }
    }

    #[test]
    fn exceptions_must_be_masked() {
        assert!(is_masked(0x37f));
        assert!(!is_masked(0x37e) && !is_masked(0x35f));
    }
}

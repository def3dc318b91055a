//! Packed decimal integers: 18 digits and a sign byte (SDM vol. 1, 4.7).

/// What a masked invalid FBSTP stores.
pub(super) const INDEFINITE: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff];

/// The sign and magnitude of a packed decimal. Digits above 9, which the SDM leaves open, count as they stand.
pub(super) fn decode(bytes: [u8; 10]) -> (bool, u64) {
    let magnitude = bytes[..9]
        .iter()
        .rev()
        .fold(0u64, |sum, byte| sum * 100 + u64::from(byte >> 4) * 10 + u64::from(byte & 15));
    (bytes[9] & 0x80 != 0, magnitude)
}

/// The packed decimal of a magnitude below 10^18.
pub(super) fn encode(negative: bool, magnitude: u64) -> [u8; 10] {
    let mut bytes = [0; 10];
    let mut rest = magnitude;
    for byte in &mut bytes[..9] {
        let pair = (rest % 100) as u8;
        *byte = ((pair / 10) << 4) | (pair % 10);
        rest /= 100;
    }
    bytes[9] = u8::from(negative) << 7;
    bytes
}

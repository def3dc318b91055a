//! The layout of the XSAVE area (SDM vol. 1, 13.4 and 13.5): which state components exist, and where they lie.

use super::{CpuModel, Feature};

/// The legacy region and the XSAVE header, before the first extended component.
pub const HEADER_END: u32 = 576;

/// A state component outside the legacy region.
#[derive(Clone, Copy, Debug)]
pub struct Component {
    /// Its bit in XCR0 or IA32_XSS.
    pub index: u32,
    /// The feature that brings it.
    pub feature: Feature,
    /// Its offset in the standard format.
    pub offset: u32,
    /// Its bytes.
    pub size: u32,
}

/// XCR0's bit of the x87 state, always set.
pub const X87: u64 = 1 << 0;
/// XCR0's bit of the SSE state.
pub const SSE: u64 = 1 << 1;
/// XCR0's bit of the upper halves of the YMM registers.
pub const AVX: u64 = 1 << 2;
/// XCR0's bit of PKRU.
pub const PKRU: u64 = 1 << 9;

/// The components outside the legacy region, in ascending order.
pub const COMPONENTS: &[Component] = &[
    Component { index: 2, feature: Feature::Avx, offset: 576, size: 256 },
    Component { index: 9, feature: Feature::Pku, offset: 832, size: 8 },
];

/// The bits that XCR0 may have.
pub fn supported(model: &CpuModel) -> u64 {
    extended(model).fold(X87 | SSE, |bits, component| bits | 1 << component.index)
}

/// Whether XCR0 may be `value`: x87 state cannot be off, and AVX state needs SSE state (SDM vol. 1, 13.3).
pub fn allows(model: &CpuModel, value: u64) -> bool {
    value & X87 != 0 && value & !supported(model) == 0 && (value & AVX == 0 || value & SSE != 0)
}

/// The components outside the legacy region that `model` has.
pub fn extended(model: &CpuModel) -> impl Iterator<Item = &'static Component> {
    let features = model.features;
    COMPONENTS.iter().filter(move |component| features.has(component.feature))
}

/// The bytes of an area in the standard format that holds `components` (bits of XCR0).
pub fn standard_size(model: &CpuModel, components: u64) -> u32 {
    extended(model)
        .filter(|component| components >> component.index & 1 != 0)
        .fold(HEADER_END, |size, component| size.max(component.offset + component.size))
}

/// The bytes of an area in the compacted format that holds `components`. No component asks for alignment.
pub fn compacted_size(model: &CpuModel, components: u64) -> u32 {
    extended(model)
        .filter(|component| components >> component.index & 1 != 0)
        .fold(HEADER_END, |size, component| size + component.size)
}

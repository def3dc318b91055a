//! x87, SSE and AVX registers in the layout of KVM's XSAVE area (SDM vol. 1, 10.5.1 and 13.4). KVM_SET_FPU would not do:
//! it leaves MXCSR out, and has no upper halves of YMM registers.

use kvm_bindings::kvm_xsave;
use rx86_cpu::state::{F80, Vcpu, X87};

/// XCR0 and XSTATE_BV: x87, SSE, and the upper halves of YMM registers.
const X87_STATE: u64 = 1 << 0;
const SSE_STATE: u64 = 1 << 1;
const AVX_STATE: u64 = 1 << 2;

// Offsets in the area.
const CONTROL: usize = 0;
const STATUS: usize = 2;
const TAGS: usize = 4;
const OPCODE: usize = 6;
const INSTRUCTION_POINTER: usize = 8;
const OPERAND_POINTER: usize = 16;
const MXCSR: usize = 24;
const ST: usize = 32;
const XMM: usize = 160;
const XSTATE_BV: usize = 512;
/// CPUID leaf 0xD, subleaf 2, EBX: the same on every processor that has AVX.
const YMM_HIGH: usize = 576;

/// The area as bytes.
struct Area<'a>(&'a mut [u32; 1024]);

impl Area<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.0[(at + i) / 4].to_le_bytes()[(at + i) % 4])
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            let word = &mut self.0[(at + i) / 4];
            let shift = (at + i) % 4 * 8;
            *word = *word & !(0xff << shift) | u32::from(*byte) << shift;
        }
    }
}

/// Writes the registers of `state` into `area`, the components that are in `supported`; the others stay.
pub(crate) fn to_kvm(state: &Vcpu, supported: u64, area: &mut kvm_xsave) {
    let mut area = Area(&mut area.region);
    let x87 = &state.x87;
    area.put(CONTROL, &x87.control.to_le_bytes());
    area.put(STATUS, &x87.status.to_le_bytes());
    let used = (0..8).filter(|i| x87.tags >> (2 * i) & 3 != 3).fold(0u8, |used, i| used | 1 << i);
    area.put(TAGS, &[used, 0]);
    area.put(OPCODE, &x87.opcode.to_le_bytes());
    area.put(INSTRUCTION_POINTER, &x87.instruction_pointer.to_le_bytes());
    area.put(OPERAND_POINTER, &x87.operand_pointer.to_le_bytes());
    area.put(MXCSR, &state.mxcsr.to_le_bytes());
    let top = usize::from(x87.status >> 11 & 7);
    for i in 0..8 {
        let register = &x87.regs[(top + i) & 7];
        area.put(ST + 16 * i, &register.mantissa.to_le_bytes());
        area.put(ST + 16 * i + 8, &register.sign_exponent.to_le_bytes());
    }
    for i in 0..16 {
        area.put(XMM + 16 * i, &state.xmm(i as u8).to_le_bytes());
        if supported & AVX_STATE != 0 {
            area.put(YMM_HIGH + 16 * i, &state.zmm[i].0[2].to_le_bytes());
            area.put(YMM_HIGH + 16 * i + 8, &state.zmm[i].0[3].to_le_bytes());
        }
    }
    let components: u64 = u64::from_le_bytes(area.bytes(XSTATE_BV));
    let ours = (X87_STATE | SSE_STATE | AVX_STATE) & supported;
    area.put(XSTATE_BV, &(components | ours).to_le_bytes());
}

/// The reverse of `to_kvm`. Components that the area says are in their initial states are not in it.
pub(crate) fn from_kvm(state: &mut Vcpu, area: &mut kvm_xsave) {
    let area = Area(&mut area.region);
    let components = u64::from_le_bytes(area.bytes(XSTATE_BV));
    let is_there = |component| components & component != 0;
    state.x87 = if is_there(X87_STATE) { x87_of(&area) } else { initial_x87() };
    state.mxcsr = u32::from_le_bytes(area.bytes(MXCSR));
    for i in 0..16 {
        let half = |component, at: usize| {
            if is_there(component) { u64::from_le_bytes(area.bytes(at + 16 * i)) } else { 0 }
        };
        let xmm = [half(SSE_STATE, XMM), half(SSE_STATE, XMM + 8)];
        let high = [half(AVX_STATE, YMM_HIGH), half(AVX_STATE, YMM_HIGH + 8)];
        state.zmm[i].0[..2].copy_from_slice(&xmm);
        state.zmm[i].0[2..4].copy_from_slice(&high);
    }
}

/// What FNINIT leaves.
fn initial_x87() -> X87 {
    X87 { control: 0x37f, status: 0, tags: 0xffff, ..X87::default() }
}

/// The long form of the tags follows from the values.
fn x87_of(area: &Area<'_>) -> X87 {
    let half = |at| u16::from_le_bytes(area.bytes(at));
    let mut x87 = X87 {
        control: half(CONTROL),
        status: half(STATUS),
        opcode: half(OPCODE),
        instruction_pointer: u64::from_le_bytes(area.bytes(INSTRUCTION_POINTER)),
        operand_pointer: u64::from_le_bytes(area.bytes(OPERAND_POINTER)),
        tags: 0,
        ..X87::default()
    };
    let top = usize::from(x87.status >> 11 & 7);
    let [used] = area.bytes(TAGS);
    for i in 0..8 {
        let physical = (top + i) & 7;
        let register = F80 {
            mantissa: u64::from_le_bytes(area.bytes(ST + 16 * i)),
            sign_exponent: half(ST + 16 * i + 8),
        };
        x87.regs[physical] = register;
        let tag = if used >> physical & 1 == 0 { 3 } else { tag_of(register) };
        x87.tags |= tag << (2 * physical);
    }
    x87
}

/// The tag of a register in use (SDM vol. 1, 8.1.7): 0 valid, 1 zero, 2 special.
fn tag_of(value: F80) -> u16 {
    match (value.sign_exponent & 0x7fff, value.mantissa) {
        (0, 0) => 1,
        (0 | 0x7fff, _) => 2,
        (_, mantissa) if mantissa >> 63 == 0 => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rx86_cpu::features::CpuModel;

    fn filled() -> Vcpu {
        let mut state = Vcpu::power_on(&CpuModel::max());
        for i in 0..16u8 {
            state.set_xmm(i, 0x1234_5678_9abc_def0_1122_3344_5566_7788 << i);
            state.zmm[usize::from(i)].0[2] = 0x55 << i;
            state.zmm[usize::from(i)].0[3] = 0xaa << i;
        }
        state.mxcsr = 0x3fa5;
        state.x87.status = 3 << 11;
        state.x87.tags = !(3 << 6);
        state.x87.regs[3] = F80 { mantissa: 1 << 63, sign_exponent: 0x3fff };
        (state.x87.instruction_pointer, state.x87.opcode) = (0x1234_5678_9abc, 0x123);
        state
    }

    #[test]
    fn state_survives_the_way_there_and_back() {
        let state = filled();
        let mut back = Vcpu::power_on(&CpuModel::max());
        let mut area = kvm_xsave::default();
        to_kvm(&state, X87_STATE | SSE_STATE | AVX_STATE, &mut area);
        from_kvm(&mut back, &mut area);
        assert_eq!(format!("{back:?}"), format!("{state:?}"));
    }

    #[test]
    fn what_is_initial_is_not_read() {
        let mut back = filled();
        let mut area = kvm_xsave::default();
        area.region[MXCSR / 4] = 0x1f80;
        area.region[XMM / 4] = 1;
        from_kvm(&mut back, &mut area);
        assert_eq!((back.mxcsr, back.xmm(0), back.zmm[5].0[3]), (0x1f80, 0, 0));
        assert_eq!((back.x87.control, back.x87.tags), (0x37f, 0xffff));
    }

    #[test]
    fn a_processor_without_avx_gets_no_avx_state() {
        let mut area = kvm_xsave::default();
        to_kvm(&filled(), X87_STATE | SSE_STATE, &mut area);
        assert_eq!((area.region[XSTATE_BV / 4], area.region[YMM_HIGH / 4]), (3, 0));
    }
}

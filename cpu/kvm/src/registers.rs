//! Our state and KVM's: the same registers in two layouts.

use kvm_bindings::{kvm_dtable, kvm_fpu, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use rx86_cpu::op::reg;
use rx86_cpu::state::{F80, Segment, TableRegister, Vcpu};

/// A plain MSR: its index and its place in our state.
type MsrField = (u32, fn(&mut Vcpu) -> &mut u64);

/// The MSRs that are carried over.
pub(crate) const MSRS: [MsrField; 11] = [
    (0xc000_0081, |state| &mut state.msrs.star),
    (0xc000_0082, |state| &mut state.msrs.lstar),
    (0xc000_0083, |state| &mut state.msrs.cstar),
    (0xc000_0084, |state| &mut state.msrs.fmask),
    (0xc000_0102, |state| &mut state.msrs.kernel_gs_base),
    (0xc000_0103, |state| &mut state.msrs.tsc_aux),
    (0x174, |state| &mut state.msrs.sysenter_cs),
    (0x175, |state| &mut state.msrs.sysenter_esp),
    (0x176, |state| &mut state.msrs.sysenter_eip),
    (0x277, |state| &mut state.msrs.pat),
    (0x2ff, |state| &mut state.msrs.mtrr_def_type),
];

/// The MSR entries of `state`.
pub(crate) fn msr_entries(state: &Vcpu) -> Vec<kvm_msr_entry> {
    let mut state = state.clone();
    MSRS.iter()
        .map(|&(index, field)| kvm_msr_entry { index, data: *field(&mut state), ..Default::default() })
        .collect()
}

/// General registers, RIP and RFLAGS.
pub(crate) fn to_kvm_regs(state: &Vcpu) -> kvm_regs {
    let r = &state.regs;
    kvm_regs {
        rax: r[0],
        rcx: r[1],
        rdx: r[2],
        rbx: r[3],
        rsp: r[4],
        rbp: r[5],
        rsi: r[6],
        rdi: r[7],
        r8: r[8],
        r9: r[9],
        r10: r[10],
        r11: r[11],
        r12: r[12],
        r13: r[13],
        r14: r[14],
        r15: r[15],
        rip: state.rip(),
        rflags: state.flags.get(),
    }
}

/// The reverse of `to_kvm_regs`.
pub(crate) fn from_kvm_regs(state: &mut Vcpu, k: &kvm_regs) {
    let values = [
        k.rax, k.rcx, k.rdx, k.rbx, k.rsp, k.rbp, k.rsi, k.rdi, k.r8, k.r9, k.r10, k.r11, k.r12, k.r13,
        k.r14, k.r15,
    ];
    state.regs[..values.len()].copy_from_slice(&values);
    state.regs[usize::from(reg::RIP)] = k.rip;
    state.flags.set(k.rflags);
}

fn to_kvm_segment(segment: &Segment) -> kvm_segment {
    let bit = |n: u32| (segment.access >> n & 1) as u8;
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        type_: (segment.access & 0xf) as u8,
        s: bit(4),
        dpl: (segment.access >> 5 & 3) as u8,
        present: bit(7),
        avl: bit(12),
        l: bit(13),
        db: bit(14),
        g: bit(15),
        unusable: bit(16),
        padding: 0,
    }
}

fn from_kvm_segment(k: &kvm_segment) -> Segment {
    let bits = [
        (k.s, 4),
        (k.dpl, 5),
        (k.present, 7),
        (k.avl, 12),
        (k.l, 13),
        (k.db, 14),
        (k.g, 15),
        (k.unusable, 16),
    ];
    let access = bits.iter().fold(u32::from(k.type_), |access, &(value, at)| access | u32::from(value) << at);
    Segment { base: k.base, limit: k.limit, access, selector: k.selector }
}

fn to_kvm_table(table: &TableRegister) -> kvm_dtable {
    kvm_dtable { base: table.base, limit: table.limit, padding: [0; 3] }
}

/// Segments, tables and control registers; what `old` has beside them stays.
pub(crate) fn to_kvm_sregs(state: &Vcpu, old: &kvm_sregs) -> kvm_sregs {
    let s = &state.segments;
    kvm_sregs {
        es: to_kvm_segment(&s[0]),
        cs: to_kvm_segment(&s[1]),
        ss: to_kvm_segment(&s[2]),
        ds: to_kvm_segment(&s[3]),
        fs: to_kvm_segment(&s[4]),
        gs: to_kvm_segment(&s[5]),
        tr: to_kvm_segment(&state.tr),
        ldt: to_kvm_segment(&state.ldtr),
        gdt: to_kvm_table(&state.gdtr),
        idt: to_kvm_table(&state.idtr),
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        efer: state.efer,
        interrupt_bitmap: [0; 4],
        ..*old
    }
}

/// The reverse of `to_kvm_sregs`.
pub(crate) fn from_kvm_sregs(state: &mut Vcpu, k: &kvm_sregs) {
    for (segment, from) in state.segments.iter_mut().zip([&k.es, &k.cs, &k.ss, &k.ds, &k.fs, &k.gs]) {
        *segment = from_kvm_segment(from);
    }
    state.tr = from_kvm_segment(&k.tr);
    state.ldtr = from_kvm_segment(&k.ldt);
    state.gdtr = TableRegister { base: k.gdt.base, limit: k.gdt.limit };
    state.idtr = TableRegister { base: k.idt.base, limit: k.idt.limit };
    (state.cr0, state.cr2, state.cr3, state.cr4, state.efer) = (k.cr0, k.cr2, k.cr3, k.cr4, k.efer);
    state.cpl = state.segments[2].dpl();
}

/// x87 and SSE registers, in FXSAVE's order: ST(0) first, tags in their short form.
pub(crate) fn to_kvm_fpu(state: &Vcpu) -> kvm_fpu {
    let x = &state.x87;
    let top = usize::from(x.status >> 11 & 7);
    let mut fpu = kvm_fpu {
        fcw: x.control,
        fsw: x.status,
        last_opcode: x.opcode,
        last_ip: x.instruction_pointer,
        last_dp: x.operand_pointer,
        mxcsr: state.mxcsr,
        ..Default::default()
    };
    for i in 0..8 {
        let register = &x.regs[(top + i) & 7];
        fpu.fpr[i][..8].copy_from_slice(&register.mantissa.to_le_bytes());
        fpu.fpr[i][8..10].copy_from_slice(&register.sign_exponent.to_le_bytes());
        if x.tags >> (2 * i) & 3 != 3 {
            fpu.ftwx |= 1 << i;
        }
    }
    for (i, xmm) in fpu.xmm.iter_mut().enumerate() {
        *xmm = state.xmm(i as u8).to_le_bytes();
    }
    fpu
}

/// The reverse of `to_kvm_fpu`; the long form of the tags follows from the values.
pub(crate) fn from_kvm_fpu(state: &mut Vcpu, fpu: &kvm_fpu) {
    let top = usize::from(fpu.fsw >> 11 & 7);
    let x = &mut state.x87;
    (x.control, x.status, x.opcode) = (fpu.fcw, fpu.fsw, fpu.last_opcode);
    (x.instruction_pointer, x.operand_pointer) = (fpu.last_ip, fpu.last_dp);
    x.tags = 0;
    for i in 0..8 {
        let bytes = &fpu.fpr[i];
        let mantissa = u64::from_le_bytes(std::array::from_fn(|at| bytes[at]));
        let register = F80 { mantissa, sign_exponent: u16::from_le_bytes([bytes[8], bytes[9]]) };
        let physical = (top + i) & 7;
        x.regs[physical] = register;
        let empty = fpu.ftwx >> physical & 1 == 0;
        x.tags |= u16::from(if empty { 3 } else { tag_of(register) }) << (2 * physical);
    }
    state.mxcsr = fpu.mxcsr;
    for (i, xmm) in fpu.xmm.iter().enumerate() {
        state.set_xmm(i as u8, u128::from_le_bytes(*xmm));
    }
}

/// The tag of a register in use (SDM vol. 1, 8.1.7): 0 valid, 1 zero, 2 special.
fn tag_of(value: F80) -> u8 {
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

    #[test]
    fn state_survives_the_way_there_and_back() {
        let mut state = Vcpu::power_on(&CpuModel::max());
        for i in 0..16 {
            state.regs[i] = 0x1111 * i as u64;
            state.set_xmm(i as u8, 0x1234_5678 << i);
        }
        state.flags.set(0x246);
        state.x87.status = 3 << 11;
        state.x87.tags = !(3 << 6);
        state.x87.regs[3] = F80 { mantissa: 1 << 63, sign_exponent: 0x3fff };
        let mut back = Vcpu::power_on(&CpuModel::max());
        from_kvm_regs(&mut back, &to_kvm_regs(&state));
        from_kvm_sregs(&mut back, &to_kvm_sregs(&state, &kvm_sregs::default()));
        from_kvm_fpu(&mut back, &to_kvm_fpu(&state));
        assert_eq!(format!("{back:?}"), format!("{state:?}"));
    }
}

//! Our state and KVM's: the same general, segment, control and model-specific registers in two layouts.

use kvm_bindings::{kvm_dtable, kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs};
use rx86_cpu::op::reg;
use rx86_cpu::state::{Segment, TableRegister, Vcpu};

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

#[cfg(test)]
mod tests {
    use super::*;
    use rx86_cpu::features::CpuModel;

    #[test]
    fn state_survives_the_way_there_and_back() {
        let mut state = Vcpu::power_on(&CpuModel::max());
        for i in 0..16 {
            state.regs[i] = 0x1111 * i as u64;
        }
        state.flags.set(0x246);
        let mut back = Vcpu::power_on(&CpuModel::max());
        from_kvm_regs(&mut back, &to_kvm_regs(&state));
        from_kvm_sregs(&mut back, &to_kvm_sregs(&state, &kvm_sregs::default()));
        assert_eq!(format!("{back:?}"), format!("{state:?}"));
    }
}

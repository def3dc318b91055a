//! Page walks of every mode: where they lead, which entries they mark, and their error codes.

use std::sync::Arc;

use rx86_softmmu::{
    Access, GuestMemory, PageFault, PagingContext, PagingMode, Translation, View, probe, walk, walk_trace,
};

const P: u64 = 1 << 0;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const XD: u64 = 1 << 63;
const PWU: u64 = P | W | U;

const E_P: u32 = 1;
const E_W: u32 = 2;
const E_U: u32 = 4;
const E_RSVD: u32 = 8;
const E_ID: u32 = 16;
const E_PK: u32 = 32;

/// Guest physical addresses of the tables, from the top level to the page table.
const PML5: u64 = 0x1000;
const PML4: u64 = 0x2000;
const PDPT: u64 = 0x3000;
const PD: u64 = 0x4000;
const PT: u64 = 0x5000;

fn memory() -> Arc<GuestMemory> {
    GuestMemory::new(1 << 20).expect("1 MiB of guest memory")
}

fn context(mode: PagingMode) -> PagingContext {
    let (cr3, pdptes) = match mode {
        PagingMode::Off => (0, [0; 4]),
        PagingMode::Bits32 => (PD, [0; 4]),
        // PDPTE 3 is not present.
        PagingMode::Pae => (PDPT, [PD | P, PD | P, PD | P, 0]),
        PagingMode::Level4 => (PML4, [0; 4]),
        PagingMode::Level5 => (PML5, [0; 4]),
    };
    PagingContext { mode, cr3, pdptes, nxe: true, wp: true, pse: true, pge: true, ..Default::default() }
}

/// The entry that translates `linear` from bit `shift` up, in the table at `table`.
fn entry_gpa(mode: PagingMode, table: u64, linear: u64, shift: u32) -> u64 {
    if mode == PagingMode::Bits32 {
        table + (linear >> shift & 0x3ff) * 4
    } else {
        table + (linear >> shift & 0x1ff) * 8
    }
}

fn tables(mode: PagingMode) -> &'static [(u64, u32)] {
    match mode {
        PagingMode::Off => &[],
        PagingMode::Bits32 => &[(PD, 22), (PT, 12)],
        PagingMode::Pae => &[(PD, 21), (PT, 12)],
        PagingMode::Level4 => &[(PML4, 39), (PDPT, 30), (PD, 21), (PT, 12)],
        PagingMode::Level5 => &[(PML5, 48), (PML4, 39), (PDPT, 30), (PD, 21), (PT, 12)],
    }
}

fn store(memory: &GuestMemory, mode: PagingMode, gpa: u64, entry: u64) {
    let bytes = entry.to_le_bytes();
    let len = if mode == PagingMode::Bits32 { 4 } else { 8 };
    memory.write(gpa, &bytes[..len]).expect("the tables are in RAM");
}

fn load(memory: &GuestMemory, mode: PagingMode, gpa: u64) -> u64 {
    if mode == PagingMode::Bits32 {
        u64::from(memory.read_u32(gpa).expect("RAM"))
    } else {
        memory.read_u64(gpa).expect("RAM")
    }
}

/// Maps `linear` by a leaf with the given value, through tables with all rights; returns the entries' addresses.
fn map(memory: &GuestMemory, mode: PagingMode, linear: u64, leaf_shift: u32, leaf: u64) -> Vec<u64> {
    let mut entries = Vec::new();
    for &(table, shift) in tables(mode) {
        let gpa = entry_gpa(mode, table, linear, shift);
        entries.push(gpa);
        if shift == leaf_shift {
            store(memory, mode, gpa, leaf);
            break;
        }
        store(memory, mode, gpa, (table + 0x1000) | PWU);
    }
    entries
}

#[test]
fn pages_of_every_size_lead_to_their_physical_address_and_are_marked() {
    use PagingMode::*;
    struct Case(PagingMode, u64, u32, u64, u64);
    let cases = [
        // mode, linear, page shift, leaf without flags, expected gpa
        Case(Bits32, 0x0804_9123, 12, 0x0012_3000, 0x0012_3123),
        Case(Bits32, 0xffff_ffff, 12, 0xffff_f000, 0xffff_ffff),
        Case(Bits32, 0xc012_3456, 22, PS | 0x0040_0000, 0x0052_3456),
        // PSE-36: bits 20:13 are address bits 39:32; bit 12 is PAT.
        Case(Bits32, 0xc012_3456, 22, PS | 0x0040_0000 | 0x0012_1000 | 1 << 12, 0x90_0052_3456),
        Case(Pae, 0x8000_1abc, 12, 0x12_3456_7000, 0x12_3456_7abc),
        Case(Pae, 0x401f_fabc, 21, PS | 0x12_3440_0000 | 1 << 12, 0x12_345f_fabc),
        Case(Level4, 0xffff_ffff_8100_0123, 12, 0xab_cdef_0000, 0xab_cdef_0123),
        Case(Level4, 0x7fff_ffe1_2345, 21, PS | 0xab_cde0_0000 | 1 << 12, 0xab_cde1_2345),
        Case(Level4, 0xffff_8880_1234_5678, 30, PS | 0x40_0000_0000, 0x40_1234_5678),
        Case(Level5, 0xff11_0000_1234_5678, 30, PS | 0x40_4000_0000 | 1 << 12, 0x40_5234_5678),
        Case(Level5, 0x00ff_ffff_ffe0_0001, 21, PS | 0x20_0000, 0x20_0001),
        Case(Level5, 0xff11_2233_4455_6677, 12, 0x9000 | 0x7ff << 52 & !(15 << 59), 0x9677),
    ];
    for Case(mode, linear, shift, leaf, gpa) in cases {
        let name = format!("{mode:?} {linear:#x} by {leaf:#x}");
        let memory = memory();
        let context = context(mode);
        let entries = map(&memory, mode, linear, shift, leaf | PWU | G);
        let before: Vec<u64> = entries.iter().map(|&gpa| load(&memory, mode, gpa)).collect();

        assert_eq!(probe(&memory, &context, linear).map(|found| found.gpa), Some(gpa), "{name}");
        let trace = walk_trace(&memory, &context, linear);
        let skip = usize::from(mode == Pae);
        assert!(trace.iter().skip(skip).map(|step| step.entry_gpa).eq(entries.iter().copied()), "{name}");
        assert!(entries.iter().map(|&gpa| load(&memory, mode, gpa)).eq(before.iter().copied()), "{name}");

        let read = walk(&memory, &context, linear, Access::Read, View::User).expect(&name);
        let expected = Translation {
            gpa,
            page_shift: shift,
            user: true,
            writable: true,
            execute_disable: false,
            global: true,
            dirty: false,
            protection_key: 0,
        };
        assert_eq!(read, expected, "{name}");
        for (&entry, before) in entries.iter().zip(&before) {
            assert_eq!(load(&memory, mode, entry), before | A, "{name}");
        }
        let written = walk(&memory, &context, linear, Access::Write, View::User).expect(&name);
        assert!(written.dirty, "{name}");
        let dirty = entries.iter().map(|&gpa| load(&memory, mode, gpa) & D != 0);
        let last = entries.len() - 1;
        assert!(dirty.enumerate().all(|(at, dirty)| dirty == (at == last)), "{name}: dirty only in the leaf");
    }
}

#[test]
fn without_paging_addresses_are_physical() {
    let memory = memory();
    let context = PagingContext { smep: true, smap: true, wp: true, ..Default::default() };
    for access in [Access::Read, Access::Write, Access::Fetch] {
        for view in [View::User, View::Supervisor] {
            let found = walk(&memory, &context, 0x1_0000_1234, access, view).expect("no paging, no fault");
            assert_eq!((found.gpa, found.dirty, found.global), (0x1234, true, false));
        }
    }
    let closed = PagingContext { a20_mask: !(1 << 20), ..context };
    assert_eq!(probe(&memory, &closed, 0x10_0010).map(|found| found.gpa), Some(0x10));
}

#[test]
fn reserved_bits_fault_at_their_level() {
    use PagingMode::*;
    /// Leaf shift; the bad entry's shift; the bits there; whether they are reserved.
    struct Case(PagingMode, u32, u32, u64, bool);
    let cases = [
        Case(Bits32, 22, 22, PS | 1 << 21, true),
        Case(Bits32, 22, 22, PS | 1 << 20, false),
        Case(Bits32, 12, 12, 1 << 7, false),
        Case(Pae, 12, 12, 1 << 40, true),
        Case(Pae, 12, 12, 1 << 39, false),
        Case(Pae, 12, 12, 1 << 62, true),
        Case(Pae, 12, 21, 1 << 52, true),
        Case(Pae, 21, 21, PS | 1 << 13, true),
        Case(Pae, 21, 21, PS | 1 << 20, true),
        Case(Pae, 21, 21, PS | 1 << 12, false),
        Case(Pae, 12, 12, 1 << 7, false),
        Case(Level4, 12, 39, PS, true),
        Case(Level4, 12, 39, G, false),
        Case(Level4, 12, 39, 1 << 51, true),
        Case(Level4, 12, 30, 1 << 40, true),
        Case(Level4, 12, 21, 1 << 52, false),
        Case(Level4, 12, 12, 1 << 51, true),
        Case(Level4, 12, 12, 1 << 58, false),
        Case(Level4, 30, 30, PS | 1 << 13, true),
        Case(Level4, 30, 30, PS | 1 << 29, true),
        Case(Level4, 30, 30, PS | 1 << 12, false),
        Case(Level4, 21, 21, PS | 1 << 20, true),
        Case(Level4, 21, 21, PS | 1 << 12, false),
        Case(Level5, 12, 48, PS, true),
        Case(Level5, 12, 48, 1 << 45, true),
        Case(Level5, 12, 39, PS, true),
    ];
    let linear = 0x40_1000;
    for Case(mode, leaf_shift, bad_shift, bad, reserved) in cases {
        let name = format!("{mode:?} leaf at {leaf_shift}, {bad:#x} at {bad_shift}");
        let memory = memory();
        let leaf = if leaf_shift > 12 { PWU | PS } else { PWU | 0x8000 };
        let entries = map(&memory, mode, linear, leaf_shift, leaf);
        let at = tables(mode).iter().position(|&(_, shift)| shift == bad_shift).expect("a level of the mode");
        let entry = load(&memory, mode, entries[at]);
        store(&memory, mode, entries[at], entry | bad);
        let result = walk(&memory, &context(mode), linear, Access::Write, View::User);
        let error = reserved.then_some(E_P | E_W | E_U | E_RSVD);
        assert_eq!(result.err().map(|fault| fault.error_code), error, "{name}");
        let marked = entries.iter().any(|&gpa| load(&memory, mode, gpa) & A != 0);
        assert_eq!(marked, !reserved, "{name}: a faulting walk marks nothing");
    }
}

#[test]
fn feature_bits_change_what_is_reserved() {
    let memory = memory();
    let linear = 0x40_1000;
    let error = |context: &PagingContext| {
        walk(&memory, context, linear, Access::Read, View::Supervisor).err().map(|fault| fault.error_code)
    };
    let long = context(PagingMode::Level4);
    map(&memory, PagingMode::Level4, linear, 12, PWU | 0x8000 | XD);
    assert_eq!(error(&long), None);
    assert_eq!(error(&PagingContext { nxe: false, ..long.clone() }), Some(E_P | E_RSVD), "XD without NXE");
    map(&memory, PagingMode::Level4, linear, 12, PWU | 1 << 45);
    assert_eq!(error(&PagingContext { physical_bits: 46, ..long.clone() }), None);
    assert_eq!(error(&PagingContext { physical_bits: 45, ..long.clone() }), Some(E_P | E_RSVD));
    map(&memory, PagingMode::Level4, linear, 30, PWU | PS);
    assert_eq!(
        error(&PagingContext { pages1g: false, ..long }),
        Some(E_P | E_RSVD),
        "PS without 1-GiB pages"
    );

    let old = context(PagingMode::Bits32);
    map(&memory, PagingMode::Bits32, linear, 22, PWU | PS | 1 << 17);
    assert_eq!(error(&old), None);
    assert_eq!(error(&PagingContext { pse36: false, ..old.clone() }), Some(E_P | E_RSVD));
    assert_eq!(error(&PagingContext { physical_bits: 36, ..old.clone() }), Some(E_P | E_RSVD));
    // Without PSE the bit does not make a large page: the entry leads to a page table, here an empty one.
    map(&memory, PagingMode::Bits32, linear, 22, PWU | PS | 0x6000);
    assert_eq!(error(&PagingContext { pse: false, ..old }), Some(0));
    assert_eq!(context(PagingMode::Pae).pdpte_reserved(), !((1 << 40) - 1) | 0x1e6);
}

#[test]
fn missing_entries_fault_without_the_present_bit() {
    use PagingMode::*;
    for mode in [Bits32, Pae, Level4, Level5] {
        for missing in 0..tables(mode).len() {
            let memory = memory();
            let entries = map(&memory, mode, 0x40_1000, 12, PWU | 0x8000);
            store(&memory, mode, entries[missing], !P & 0x7fff_ffff);
            let fault = walk(&memory, &context(mode), 0x40_1000, Access::Fetch, View::User);
            let error_code = if mode == Bits32 { E_U } else { E_U | E_ID };
            assert_eq!(fault, Err(PageFault { linear: 0x40_1000, error_code }), "{mode:?} level {missing}");
            assert_eq!(walk_trace(&memory, &context(mode), 0x40_1000).len(), {
                missing + 1 + usize::from(mode == Pae)
            });
        }
    }
    let fault = walk(&memory(), &context(Pae), 0xc000_0000, Access::Write, View::Supervisor);
    assert_eq!(fault.map_err(|fault| fault.error_code), Err(E_W), "absent PDPTE register");
}

#[test]
fn tables_outside_memory_read_as_ones() {
    let memory = memory();
    let context = PagingContext { cr3: 0xfee0_0000, ..context(PagingMode::Level4) };
    let fault = walk(&memory, &context, 0, Access::Read, View::Supervisor);
    assert_eq!(fault.map_err(|fault| fault.error_code), Err(E_P | E_RSVD));
}

/// The rights of a page as SDM volume 3, 5.6.1 and 5.6.2 and 5.7 word them: the error code or None.
fn expected(
    context: &PagingContext,
    rights: u64,
    key_rights: u32,
    access: Access,
    view: View,
) -> Option<u32> {
    let user_page = rights & U != 0;
    let writable = rights & W != 0;
    let executable = rights & XD == 0;
    let supervisor_data = !user_page || !context.smap || view == View::SupervisorAc;
    let allowed = match (view, access) {
        (View::User, Access::Read) => user_page,
        (View::User, Access::Write) => user_page && writable,
        (View::User, Access::Fetch) => user_page && executable,
        (_, Access::Read) => supervisor_data,
        (_, Access::Write) => supervisor_data && (writable || !context.wp),
        (_, Access::Fetch) => executable && !(user_page && context.smep),
    };
    let key_checked = context.pke && user_page && access != Access::Fetch;
    let no_access = key_rights & 1 != 0;
    let no_write = key_rights & 2 != 0 && access == Access::Write && (view == View::User || context.wp);
    let key_denied = key_checked && (no_access || no_write);
    if allowed && !key_denied {
        return None;
    }
    let mut error = E_P;
    error |= if access == Access::Write { E_W } else { 0 };
    error |= if view == View::User { E_U } else { 0 };
    error |= if access == Access::Fetch { E_ID } else { 0 };
    error |= if key_denied { E_PK } else { 0 };
    Some(error)
}

#[test]
fn rights_of_all_combinations_follow_the_manual() {
    let memory = memory();
    let linear = 0x1234_5678;
    let entries = map(&memory, PagingMode::Level4, linear, 12, 0);
    let (pde_gpa, pte_gpa) = (entries[2], entries[3]);
    let flag = |bits: u64, bit: u32, flag: u64| if bits >> bit & 1 != 0 { flag } else { 0 };
    let mut faults = 0;
    for bits in 0..1u64 << 13 {
        let pde = P | PT | flag(bits, 0, W) | flag(bits, 1, U) | flag(bits, 2, XD);
        let pte = P | 0x8000 | 5 << 59 | flag(bits, 3, W) | flag(bits, 4, U) | flag(bits, 5, XD);
        let key_rights = (bits >> 6 & 3) as u32;
        let context = PagingContext {
            wp: bits >> 8 & 1 != 0,
            smep: bits >> 9 & 1 != 0,
            smap: bits >> 10 & 1 != 0,
            pke: bits >> 11 & 1 != 0,
            // Everything is denied to the other keys, or allowed.
            pkru: (flag(bits, 12, 0xffff_ffff) as u32 & !(3 << 10)) | key_rights << 10,
            ..context(PagingMode::Level4)
        };
        let rights = (pde & pte & (W | U)) | ((pde | pte) & XD);
        for access in [Access::Read, Access::Write, Access::Fetch] {
            for view in [View::User, View::Supervisor, View::SupervisorAc] {
                store(&memory, PagingMode::Level4, pde_gpa, pde);
                store(&memory, PagingMode::Level4, pte_gpa, pte);
                let result = walk(&memory, &context, linear, access, view);
                let error = result.err().map(|fault| fault.error_code);
                let wanted = expected(&context, rights, key_rights, access, view);
                assert_eq!(error, wanted, "PDE {pde:#x} PTE {pte:#x} {access:?} {view:?} {context:?}");
                let marks = match (wanted, access) {
                    (Some(_), _) => 0,
                    (None, Access::Write) => A | D,
                    (None, _) => A,
                };
                assert_eq!(load(&memory, PagingMode::Level4, pte_gpa), pte | marks);
                assert_eq!(load(&memory, PagingMode::Level4, pde_gpa), pde | marks & A);
                faults += u32::from(wanted.is_some());
            }
        }
    }
    assert!((10_000..60_000).contains(&faults), "the sweep has both kinds: {faults} faults");
}

#[test]
fn the_fetch_bit_is_told_with_smep_or_execute_disable_only() {
    use PagingMode::*;
    // mode, NXE, SMEP, told
    let cases = [
        (Bits32, true, false, false),
        (Bits32, false, true, true),
        (Pae, false, false, false),
        (Pae, true, false, true),
        (Level4, false, true, true),
        (Level4, false, false, false),
    ];
    for (mode, nxe, smep, told) in cases {
        let memory = memory();
        map(&memory, mode, 0x40_1000, 12, 0);
        let context = PagingContext { nxe, smep, ..context(mode) };
        let fault = walk(&memory, &context, 0x40_1000, Access::Fetch, View::Supervisor);
        let error = if told { E_ID } else { 0 };
        assert_eq!(fault.map_err(|fault| fault.error_code), Err(error), "{mode:?} {nxe} {smep}");
    }
}

#[test]
fn flags_in_rom_stay_and_the_walk_succeeds() {
    let memory = memory();
    let table = |entry: u64| [entry.to_le_bytes().as_slice(), &[0; 8]].concat();
    memory.add_rom(0xffff_0000, &table(0xffff_1000 | PWU)).expect("a ROM");
    memory.add_rom(0xffff_1000, &table(PS | PWU)).expect("another");
    let context = PagingContext { cr3: 0xffff_0000, ..context(PagingMode::Level4) };
    let found = walk(&memory, &context, 0x1234, Access::Write, View::User).expect("the ROM maps it");
    assert_eq!((found.gpa, found.page_shift, found.dirty), (0x1234, 30, true));
    assert_eq!(memory.read_u64(0xffff_0000), Some(0xffff_1000 | PWU));
}

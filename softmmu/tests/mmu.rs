//! The software TLB: what is cached for whom, and what every kind of invalidation takes away.

use std::sync::Arc;

use rx86_softmmu::{Access, Attention, GuestMemory, Mmu, PagingContext, PagingMode, View};

const P: u64 = 1 << 0;
const W: u64 = 1 << 1;
const U: u64 = 1 << 2;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;

const PML4: u64 = 0x1000;
const PDPT: u64 = 0x2000;
const PD: u64 = 0x3000;
const PT: u64 = 0x4000;
/// Where the tables map by large pages of 2 MiB, and their page directory entry.
const LARGE: u64 = 0x40_0000;
const LARGE_ENTRY: u64 = PD + 16;

/// 16 MiB of memory where the linear pages 0 to 511 lead to the same physical ones, user pages all.
fn tables() -> Arc<GuestMemory> {
    let memory = GuestMemory::new(16 << 20).expect("16 MiB");
    for (gpa, entry) in [(PML4, PDPT | P | W | U), (PDPT, PD | P | W | U), (PD, PT | P | W | U)] {
        store(&memory, gpa, entry);
    }
    for page in 0..512 {
        map(&memory, page << 12, page << 12 | P | W | U);
    }
    store(&memory, LARGE_ENTRY, LARGE | P | W | U | PS | D);
    memory
}

fn store(memory: &GuestMemory, gpa: u64, entry: u64) {
    memory.write(gpa, &entry.to_le_bytes()).expect("RAM");
}

/// Makes `entry` the page-table entry of `linear`, one of the first 512 pages.
fn map(memory: &GuestMemory, linear: u64, entry: u64) {
    store(memory, PT + (linear >> 12) * 8, entry);
}

fn long_mode() -> PagingContext {
    let mode = PagingMode::Level4;
    PagingContext { mode, cr3: PML4, wp: true, nxe: true, pge: true, ..Default::default() }
}

fn mmu_with(context: PagingContext) -> Mmu {
    let mut mmu = Mmu::new(tables());
    mmu.set_context(context);
    mmu
}

fn host(mmu: &Mmu, gpa: u64) -> *mut u8 {
    mmu.memory().host_page(gpa).expect("RAM").host.wrapping_add((gpa & 0xfff) as usize)
}

/// Which of the fast paths know the page: read, write, fetch.
fn open(mmu: &Mmu, linear: u64) -> [bool; 3] {
    let known = [
        mmu.host_for_read(linear, 1).is_some(),
        mmu.host_for_write(linear, 1).is_some(),
        mmu.host_for_fetch(linear, 1).is_some(),
    ];
    assert_eq!(known[2], mmu.gpa_for_fetch(linear).is_some());
    known
}

fn touch(mmu: &mut Mmu, linear: u64, access: Access) -> u64 {
    mmu.translate(linear, access).expect("mapped").gpa
}

#[test]
fn the_fast_path_gives_the_byte_and_misses_at_page_crossings() {
    let mut mmu = mmu_with(long_mode());
    assert_eq!(open(&mmu, 0x5_0123), [false; 3]);
    let target = mmu.translate(0x5_0123, Access::Write).expect("mapped");
    assert_eq!((target.gpa, target.host), (0x5_0123, Some(host(&mmu, 0x5_0123))));
    assert!(target.writable && !target.has_code);
    // linear, bytes, known
    let cases = [
        (0x5_0000, 1, true),
        (0x5_0000, 4096, true),
        (0x5_0001, 4096, false),
        (0x5_0ff8, 8, true),
        (0x5_0ff9, 8, false),
        (0x5_0fff, 1, true),
        (0x5_0fff, 2, false),
        (0x5_1000, 1, false),
        (0x4_fff8, 8, false),
        (0x4_ffff, 2, false),
    ];
    for (linear, bytes, known) in cases {
        let wanted = known.then(|| host(&mmu, linear));
        assert_eq!(mmu.host_for_write(linear, bytes), wanted, "{linear:#x} {bytes}");
        assert_eq!(mmu.host_for_read(linear, bytes), wanted.map(|host| host.cast_const()));
    }
}

#[test]
fn empty_entries_match_no_address() {
    let mmu = Mmu::new(tables());
    let tops = [0, 1 << 31, 1 << 47, 0xffff_8000_0000_0000, 1 << 63, !0 << 23];
    for top in tops {
        for page in 0..4096u64 {
            for offset in [0, 0xfff] {
                assert_eq!(open(&mmu, top ^ (page << 12 | offset)), [false; 3], "{top:#x} {page:#x}");
            }
        }
    }
}

#[test]
fn tags_are_opened_by_right_and_need() {
    let mut mmu = mmu_with(long_mode());
    touch(&mut mmu, 0x5_0000, Access::Read);
    assert_eq!(open(&mmu, 0x5_0000), [true, false, false], "the first write must still set the dirty flag");
    touch(&mut mmu, 0x5_0000, Access::Write);
    assert_eq!(open(&mmu, 0x5_0000), [true, true, false]);
    touch(&mut mmu, 0x5_0000, Access::Fetch);
    touch(&mut mmu, 0x5_0000, Access::Read);
    assert_eq!(open(&mmu, 0x5_0000), [true; 3], "a read leaves the others open");

    map(mmu.memory(), 0x5_1000, 0x5_1000 | P | U | D);
    touch(&mut mmu, 0x5_1000, Access::Read);
    assert_eq!(open(&mmu, 0x5_1000), [true, false, false], "read-only");
    assert!(mmu.translate(0x5_1000, Access::Write).is_err());

    let walks = mmu.stats().walks;
    map(mmu.memory(), 0x5_2000, 0xb_8000 | P | W | U);
    for _ in 0..3 {
        let target = mmu.translate(0x5_2010, Access::Write).expect("mapped");
        assert_eq!((target.gpa, target.host, target.writable), (0xb_8010, None, false));
    }
    assert_eq!(open(&mmu, 0x5_2000), [false; 3], "MMIO");
    assert_eq!(mmu.stats().walks, walks + 1, "MMIO is walked once");

    mmu.memory().add_rom(0xffff_f000, &[0x90; 4096]).expect("free");
    map(mmu.memory(), 0x5_3000, 0xffff_f000 | P | W | U);
    let target = mmu.translate(0x5_3000, Access::Write).expect("mapped");
    assert!(target.host.is_some() && !target.writable);
    assert_eq!(open(&mmu, 0x5_3000), [true, false, false], "ROM");
}

#[test]
fn views_are_separate_and_follow_smap_and_smep() {
    let mut mmu = mmu_with(PagingContext { smap: true, smep: true, ..long_mode() });
    mmu.set_view(View::User);
    touch(&mut mmu, 0x5_0000, Access::Write);
    mmu.set_view(View::Supervisor);
    assert_eq!(open(&mmu, 0x5_0000), [false; 3]);
    assert!(mmu.translate(0x5_0000, Access::Read).is_err(), "SMAP");
    mmu.set_view(View::SupervisorAc);
    touch(&mut mmu, 0x5_0000, Access::Read);
    assert_eq!(open(&mmu, 0x5_0000), [true, true, false]);
    assert!(mmu.translate(0x5_0000, Access::Fetch).is_err(), "SMEP");
    mmu.set_view(View::User);
    assert_eq!(open(&mmu, 0x5_0000), [true, true, false], "still there");

    map(mmu.memory(), 0x5_1000, 0x5_1000 | P | W);
    assert_eq!(mmu.translate(0x5_1000, Access::Read).map_err(|fault| fault.error_code), Err(5));
    mmu.translate_as(0x5_1000, Access::Read, true).expect("descriptor tables are read as supervisor");
    assert_eq!(open(&mmu, 0x5_1000), [false; 3], "and open nothing to the user");
    let fault = mmu.translate_as(0x5_0000, Access::Read, true).map_err(|fault| fault.error_code);
    assert_eq!(fault, Err(1), "SMAP holds for implicit accesses");
    mmu.set_view(View::Supervisor);
    assert!(open(&mmu, 0x5_1000)[0]);
}

/// Fills three pages: a small one, a global one and a piece of a large one; returns their addresses.
fn fill(mmu: &mut Mmu) -> [u64; 3] {
    map(mmu.memory(), 0x5_1000, 0x5_1000 | P | W | U | G);
    let pages = [0x5_0000, 0x5_1000, LARGE + 0x7000];
    for page in pages {
        touch(mmu, page, Access::Fetch);
    }
    pages
}

#[test]
fn flushes_and_invalidations_take_what_they_should() {
    type Action = fn(&mut Mmu);
    // What is done; what is left of: small page, global page, piece of a large page; whether fetches may have become wrong.
    let cases: [(&str, Action, [bool; 3], bool); 10] = [
        ("nothing", |_| (), [true; 3], false),
        ("flush_all", Mmu::flush_all, [false; 3], true),
        ("flush_non_global", Mmu::flush_non_global, [false, true, false], true),
        ("MOV to CR3", |mmu| mmu.load_cr3(PML4, false), [false, true, false], true),
        ("the same context", |mmu| mmu.set_context(mmu.context().clone()), [true; 3], false),
        ("CR0.WP", |mmu| mmu.set_context(PagingContext { wp: false, ..long_mode() }), [false; 3], true),
        ("INVLPG small", |mmu| mmu.invalidate_page(0x5_0abc), [false, true, true], true),
        ("INVLPG global", |mmu| mmu.invalidate_page(0x5_1000), [true, false, true], true),
        (
            "INVLPG elsewhere in the large page",
            |mmu| mmu.invalidate_page(LARGE + 0x1f_f000),
            [true, true, false],
            true,
        ),
        ("PKRU without PKE", |mmu| mmu.set_pkru(12), [true; 3], false),
    ];
    for (name, action, left, changed) in cases {
        for view in [View::Supervisor, View::User] {
            let mut mmu = mmu_with(long_mode());
            mmu.set_view(view);
            let pages = fill(&mut mmu);
            // The action finds the arrays of `view` parked.
            mmu.set_view(View::SupervisorAc);
            let before = mmu.generation(0);
            action(&mut mmu);
            assert_eq!(mmu.generation(0) != before, changed, "{name}: generation");
            mmu.set_view(view);
            assert_eq!(pages.map(|page| open(&mmu, page)[2]), left, "{name} {view:?}");
        }
    }
}

#[test]
fn an_invlpg_of_a_page_never_fetched_from_keeps_the_generation() {
    let mut mmu = mmu_with(long_mode());
    touch(&mut mmu, 0x5_0000, Access::Fetch);
    touch(&mut mmu, 0x5_5000, Access::Write);
    let before = mmu.generation(0);
    mmu.invalidate_page(0x5_5000);
    assert_eq!((mmu.generation(0), open(&mmu, 0x5_5000)[0]), (before, false));
    // Driven out of the TLB by a page of the same set, 8 MiB up: whoever remembers it must still be told.
    store(mmu.memory(), PD + 4 * 8, PT | P | W | U);
    touch(&mut mmu, 0x85_0000, Access::Read);
    assert_eq!(open(&mmu, 0x5_0000), [false; 3]);
    mmu.invalidate_page(0x5_0000);
    assert_ne!(mmu.generation(0), before);

    map(mmu.memory(), 0x5_1000, 0x5_1000 | P | W | U | G);
    touch(&mut mmu, 0x5_1000, Access::Fetch);
    mmu.flush_non_global();
    let before = mmu.generation(0);
    mmu.invalidate_page(0x5_1000);
    assert_ne!(mmu.generation(0), before, "a global page stays fetched through a flush of the others");
}

/// A page of the upper half that leads to the tables' low pages, as they do.
const UPPER: u64 = 0xffff_8000_0005_0000;

#[test]
fn global_code_in_the_upper_half_keeps_its_generation_in_other_spaces() {
    let generations = |flags: u64| {
        let mut mmu = mmu_with(PagingContext { pcide: true, cr3: PML4 | 1, ..long_mode() });
        store(mmu.memory(), PML4 + 256 * 8, PDPT | P | W | U);
        map(mmu.memory(), 0x5_0000, 0x5_0000 | P | W | U | flags);
        touch(&mut mmu, UPPER, Access::Fetch);
        let mut seen = vec![mmu.generation(UPPER)];
        for action in [
            |mmu: &mut Mmu| mmu.load_cr3(PML4 | 2, false),
            |mmu: &mut Mmu| mmu.load_cr3(PML4 | 1, true),
            |mmu: &mut Mmu| mmu.invalidate_page(UPPER + 0x1000),
            |mmu: &mut Mmu| mmu.invalidate_page(UPPER),
            |mmu: &mut Mmu| (3..12).for_each(|pcid| mmu.load_cr3(PML4 | pcid, false)),
            Mmu::flush_all,
        ] {
            let before = mmu.generation(UPPER);
            action(&mut mmu);
            seen.push(u64::from(mmu.generation(UPPER) != before));
        }
        seen.split_off(1)
    };
    assert_eq!(generations(G), [0, 0, 0, 1, 1, 1], "a global page");
    assert_eq!(generations(0), [1, 1, 0, 1, 1, 1], "a local page");
}

#[test]
fn a_kept_pcid_finds_its_translations_again() {
    let mut mmu = mmu_with(PagingContext { pcide: true, cr3: PML4 | 1, ..long_mode() });
    let pages = fill(&mut mmu);
    let generation = mmu.generation(0);
    mmu.load_cr3(PML4 | 2 | 1 << 63, true);
    assert_eq!(mmu.context().cr3, PML4 | 2);
    assert_ne!(mmu.generation(0), generation);
    assert_eq!(pages.map(|page| open(&mmu, page)[2]), [false; 3], "another PCID");
    fill(&mut mmu);
    mmu.load_cr3(PML4 | 1, true);
    assert_eq!((mmu.generation(0), pages.map(|page| open(&mmu, page)[2])), (generation, [true; 3]));
    assert_eq!(mmu.stats().pcid_hits, 1);

    // INVLPG: of other PCIDs only global pages.
    mmu.invalidate_page(pages[0]);
    mmu.invalidate_page(pages[1]);
    mmu.load_cr3(PML4 | 2, true);
    assert_eq!(pages.map(|page| open(&mmu, page)[2]), [true, false, true]);
    // INVPCID from afar: not the global page.
    fill(&mut mmu);
    mmu.load_cr3(PML4 | 1, true);
    let generation = mmu.generation(0);
    mmu.invalidate_pcid(2, Some(pages[0]));
    mmu.invalidate_pcid(2, Some(pages[1]));
    mmu.invalidate_pcid(77, None);
    assert_eq!(mmu.generation(0), generation, "of another space");
    mmu.load_cr3(PML4 | 2, true);
    assert_eq!(pages.map(|page| open(&mmu, page)[2]), [false, true, true]);
    mmu.invalidate_pcid(2, None);
    assert_eq!(pages.map(|page| open(&mmu, page)[2]), [false, true, false]);
    // Without bit 63 the new PCID starts with its global pages only, the old one keeps all.
    mmu.load_cr3(PML4 | 1, true);
    fill(&mut mmu);
    mmu.load_cr3(PML4 | 2, false);
    mmu.load_cr3(PML4 | 1, false);
    assert_eq!(pages.map(|page| open(&mmu, page)[2]), [false, true, false]);
}

#[test]
fn more_pcids_than_places_push_out_the_least_recently_used() {
    let mut mmu = mmu_with(PagingContext { pcide: true, ..long_mode() });
    let mut visit = |pcid: u64| {
        mmu.load_cr3(PML4 | pcid, true);
        let known = mmu.host_for_read(0x5_0000, 1).is_some();
        touch(&mut mmu, 0x5_0000, Access::Read);
        known
    };
    for pcid in 1..=7 {
        assert!(!visit(pcid), "{pcid} is new");
    }
    assert!(visit(1), "eight fit, with PCID 0");
    assert!(!visit(8), "takes the place of 0");
    assert!(!visit(9), "takes the place of 2");
    assert!(visit(1) && visit(3));
    assert!(!visit(2));
}

#[test]
fn stores_to_code_pages_take_the_slow_path_in_every_view_and_space() {
    let mut mmu = mmu_with(PagingContext { pcide: true, ..long_mode() });
    map(mmu.memory(), 0x6_0000, 0x5_0000 | P | W | U);
    let aliases = [0x5_0000, 0x6_0000];
    let all = [(1, View::User), (1, View::Supervisor), (2, View::Supervisor)];
    for (pcid, view) in all {
        mmu.load_cr3(PML4 | pcid, true);
        mmu.set_view(view);
        for linear in [0x5_0000, 0x6_0000, 0x5_1000] {
            touch(&mut mmu, linear, Access::Write);
        }
    }
    let watcher = mmu.memory().watch_code(Attention::default());
    mmu.memory().mark_code(&watcher, 0x5_0000);
    mmu.protect_code_page(0x5_0800);
    for (pcid, view) in all {
        mmu.load_cr3(PML4 | pcid, true);
        mmu.set_view(view);
        for linear in aliases {
            assert_eq!(open(&mmu, linear), [true, false, false], "{pcid} {view:?} {linear:#x}");
            assert!(mmu.translate(linear, Access::Write).is_ok_and(|target| target.has_code));
            assert!(!open(&mmu, linear)[1], "still closed");
        }
        assert!(open(&mmu, 0x5_1000)[1], "another page");
    }
    let walks = mmu.stats().walks;
    mmu.memory().clear_code(&watcher, 0x5_0000);
    touch(&mut mmu, 0x5_0000, Access::Write);
    assert_eq!((open(&mmu, 0x5_0000)[1], mmu.stats().walks), (true, walks), "opened again without a walk");
}

#[test]
fn a_page_that_had_to_make_room_comes_back_without_a_walk_until_it_is_forgotten() {
    let mut mmu = mmu_with(long_mode());
    // The other page of the same place, 8 MiB above.
    store(mmu.memory(), PD + 32, PT | P | W | U);
    let (page, other) = (0x5_0000, 0x85_0000);
    type Forget = fn(&mut Mmu);
    let forgets: [(&str, Forget, u64); 5] = [
        ("nothing", |_| (), 0),
        ("another page", |mmu| mmu.invalidate_page(0x5_1000), 0),
        ("the page", |mmu| mmu.invalidate_page(0x5_0123), 1),
        ("all but global pages", |mmu| mmu.load_cr3(PML4, false), 1),
        ("all", Mmu::flush_all, 1),
    ];
    for (what, forget, expected) in forgets {
        touch(&mut mmu, page, Access::Write);
        touch(&mut mmu, other, Access::Write);
        forget(&mut mmu);
        assert_eq!(open(&mmu, page), [false; 3], "{what}");
        let walks = mmu.stats().walks;
        touch(&mut mmu, page, Access::Write);
        assert_eq!((open(&mmu, page)[1], mmu.stats().walks - walks), (true, expected), "{what}");
    }
}

#[test]
fn watched_pages_stay_closed_to_data() {
    let mut mmu = mmu_with(long_mode());
    touch(&mut mmu, 0x5_0000, Access::Write);
    mmu.set_watched_pages(vec![0x5_0123]);
    for access in [Access::Read, Access::Write, Access::Fetch] {
        touch(&mut mmu, 0x5_0000, access);
        touch(&mut mmu, 0x5_1000, access);
    }
    assert_eq!(open(&mmu, 0x5_0000), [false, false, true]);
    assert_eq!(open(&mmu, 0x5_1000), [true; 3]);
    mmu.set_watched_pages(vec![]);
    touch(&mut mmu, 0x5_0000, Access::Write);
    assert_eq!(open(&mmu, 0x5_0000), [true, true, false]);
}

#[test]
fn protection_keys_apply_from_the_next_access() {
    let mut mmu = mmu_with(PagingContext { pke: true, ..long_mode() });
    map(mmu.memory(), 0x5_0000, 0x5_0000 | P | W | U | 3 << 59);
    mmu.set_view(View::User);
    touch(&mut mmu, 0x5_0000, Access::Write);
    mmu.set_pkru(2 << 6);
    touch(&mut mmu, 0x5_0000, Access::Read);
    assert_eq!(open(&mmu, 0x5_0000), [true, false, false], "write-disabled");
    assert_eq!(mmu.translate(0x5_0000, Access::Write).map_err(|fault| fault.error_code), Err(0x27));
    mmu.set_pkru(1 << 6);
    assert_eq!(mmu.translate(0x5_0000, Access::Read).map_err(|fault| fault.error_code), Err(0x25));
    touch(&mut mmu, 0x5_0000, Access::Fetch);
    assert_eq!(open(&mmu, 0x5_0000), [false, false, true], "keys do not bind fetches");
}

#[test]
fn addresses_that_are_not_canonical_are_never_cached() {
    let mut mmu = mmu_with(long_mode());
    for linear in [0x0000_8000_0005_0000, 1 << 63 | 0x5_0000, 0xfffe_0000_0005_0000] {
        // Bits 47:39 of the second and third select PML4 entry 0.
        let _ = mmu.translate(linear, Access::Read);
        assert_eq!(open(&mmu, linear), [false; 3], "{linear:#x}");
    }
    let mut mmu = Mmu::new(tables());
    assert_eq!(touch(&mut mmu, 0x1_0005_0000, Access::Write), 0x5_0000, "32 bits without paging");
    assert_eq!((open(&mmu, 0x1_0005_0000)[0], open(&mmu, 0x5_0000)[0]), (false, true));
}

#[test]
fn pae_pointers_take_effect_when_loaded() {
    let memory = tables();
    store(&memory, 0x8000, 0x9000 | P | W);
    store(&memory, 0x9000 + 0x50 * 8, 0xa000 | P | W);
    let mut mmu = Mmu::new(memory);
    let mode = PagingMode::Pae;
    mmu.set_context(PagingContext { mode, pdptes: [PD | P, 0, 0, 0], ..Default::default() });
    assert_eq!(touch(&mut mmu, 0x5_0000, Access::Fetch), 0x5_0000);
    let before = mmu.generation(0);
    mmu.set_pdptes([0x8000 | P, 0, 0, 0]);
    assert_ne!(mmu.generation(0), before);
    assert_eq!(touch(&mut mmu, 0x5_0000, Access::Fetch), 0xa000);
}

//! Guest memory: regions, holes, ROM, DMA across borders, and what DMA into code tells.

use std::sync::atomic::{AtomicBool, Ordering};

use rx86_softmmu::{Attention, CodeWatcher, GuestMemory, MemoryError, RamRegion, Unmapped};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[test]
fn ram_goes_around_the_holes() {
    // RAM size, runs of (gpa, end)
    let cases: [(u64, &[(u64, u64)]); 4] = [
        (4096, &[(0, 4096)]),
        (64 * MIB, &[(0, 0xa_0000), (0xc_0000, 64 * MIB)]),
        (3 * GIB, &[(0, 0xa_0000), (0xc_0000, 3 * GIB)]),
        (5 * GIB, &[(0, 0xa_0000), (0xc_0000, 3 * GIB), (4 * GIB, 6 * GIB)]),
    ];
    for (bytes, runs) in cases {
        let memory = GuestMemory::new(bytes).expect("address space is cheap");
        let wanted: Vec<_> = runs.iter().map(|&(gpa, end)| RamRegion { gpa, len: end - gpa }).collect();
        assert_eq!(memory.regions(), wanted, "{bytes:#x}");
        for &(gpa, end) in runs {
            for (inside, is_ram) in [(gpa, true), (end - 1, true), (end, false), (gpa.wrapping_sub(1), false)]
            {
                assert_eq!(memory.host_page(inside).is_some(), is_ram, "{bytes:#x}: {inside:#x}");
            }
        }
    }
    for bytes in [0, 4095, 4097, 513 * GIB] {
        assert!(matches!(GuestMemory::new(bytes), Err(MemoryError::RamSize { .. })), "{bytes}");
    }
}

#[test]
fn copies_cross_pages_and_stop_before_holes() {
    let memory = GuestMemory::new(5 * GIB).expect("5 GiB");
    let data: Vec<u8> = (0..10_000u32).map(|at| (at * 7) as u8).collect();
    for gpa in [0, 0xffd, 0xc_0fff, 4 * GIB + 1] {
        memory.write(gpa, &data).expect("RAM");
        let mut back = vec![0; data.len()];
        memory.read(gpa, &mut back).expect("RAM");
        assert!(back == data, "{gpa:#x}");
    }
    // (address, bytes, first page without memory)
    let cases = [
        (0x9_fff0, 17, 0xa_0000),
        (3 * GIB - 1, 2, 3 * GIB),
        (6 * GIB, 1, 6 * GIB),
        (u64::MAX, 1, !0xfff),
        (u64::MAX, 2, u64::MAX),
    ];
    for (gpa, bytes, missing) in cases {
        assert_eq!(memory.write(gpa, &vec![1; bytes]), Err(Unmapped { gpa: missing }), "{gpa:#x}");
        assert_eq!(memory.read(gpa, &mut vec![1; bytes]), Err(Unmapped { gpa: missing }), "{gpa:#x}");
    }
    assert_eq!(memory.read_u64(0x9_fff8), Some(0), "a refused write leaves no part behind");
    assert_eq!(memory.read(u64::MAX, &mut []), Ok(()));
}

#[test]
fn atomic_accesses_are_aligned_and_conditional() {
    let memory = GuestMemory::new(MIB).expect("1 MiB");
    memory.write(0x1000, &0x1122_3344_5566_7788u64.to_le_bytes()).expect("RAM");
    assert_eq!(memory.read_u64(0x1000), Some(0x1122_3344_5566_7788));
    assert_eq!(memory.read_u32(0x1004), Some(0x1122_3344));
    assert_eq!((memory.read_u64(0x1004), memory.read_u32(0x1002)), (None, None), "unaligned");
    assert_eq!((memory.read_u64(0xb_8000), memory.read_u32(MIB)), (None, None), "no memory");
    assert_eq!(memory.compare_exchange_u32(0x1000, 0x5566_7788, 1), Some(Ok(0x5566_7788)));
    assert_eq!(memory.compare_exchange_u64(0x1000, 0, 2), Some(Err(0x1122_3344_0000_0001)));
    assert_eq!(memory.compare_exchange_u64(0xb_8000, 0, 2), None);
}

#[test]
fn rom_hides_ram_and_drops_writes() {
    let memory = GuestMemory::new(MIB).expect("1 MiB");
    memory.write(0xf_f000, &[0x55; 4096]).expect("RAM");
    memory.add_rom(0xf_f000, &[1, 2, 3]).expect("free");
    memory.add_rom(0xffff_0000, &[4; 0x1_0000]).expect("free");
    assert!(memory.host_page(0xf_f123).is_some_and(|page| !page.writable));
    memory.write(0xf_f000, &[9; 8]).expect("dropped, not refused");
    assert_eq!(memory.read_u64(0xf_f000), Some(0xffff_ffff_ff03_0201), "the image, padded with ones");
    assert_eq!(memory.read_u32(0xffff_fffc), Some(0x0404_0404));
    assert_eq!(memory.compare_exchange_u32(0xffff_fffc, 0x0404_0404, 0), None);
    assert!(memory.host_page(0x1_0000_0000).is_none());
    let watcher = memory.watch_code(Attention::default());
    assert_eq!(memory.mark_code(&watcher, 0xffff_f000), None);
    assert!(!memory.has_code(0xffff_f000), "ROM needs no tracking");

    let cases: [(u64, &[u8], &str); 4] = [
        (0x10_0800, &[1], "multiple"),
        (0x20_0000, &[], "empty"),
        (0xf_e000, &[0; 4097], "another"),
        (!0xfff, &[1], "past the end"),
    ];
    for (gpa, bytes, why) in cases {
        let error = memory.add_rom(gpa, bytes).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
    for slot in 2..8 {
        memory.add_rom(slot * MIB, &[1]).expect("six more");
    }
    assert!(memory.add_rom(100 * MIB, &[1]).is_err(), "the ninth");
}

fn writes(watcher: &CodeWatcher) -> Vec<(u64, u64)> {
    watcher.take().writes().collect()
}

#[test]
fn dma_into_code_is_recorded_and_told() {
    let memory = GuestMemory::new(MIB).expect("1 MiB");
    let attention = Attention::default();
    let watcher = memory.watch_code(attention.clone());
    memory.enter_guest(&watcher);
    assert_eq!((memory.mark_code(&watcher, 0x3123), memory.mark_code(&watcher, 0x5000)), (None, None));
    assert_eq!([0x2fff, 0x3000, 0x3fff, 0x4000].map(|gpa| memory.has_code(gpa)), [false, true, true, false]);

    memory.write(0x2000, &[0; 0x1000]).expect("RAM");
    assert_eq!((attention.peek(), writes(&watcher)), (0, vec![]), "a page without code");
    memory.write(0x2ff0, &[0; 0x3000]).expect("RAM");
    memory.write(0x3ffe, &[0; 1]).expect("RAM");
    assert_eq!(attention.peek(), Attention::CODE_WRITTEN);
    assert_eq!(writes(&watcher), [(0x3000, 0x1000), (0x5000, 0xff0)]);
    memory.write(0x3010, &[0; 4]).expect("RAM");
    memory.write(0x3020, &[0; 4]).expect("RAM");
    assert_eq!(writes(&watcher), [(0x3010, 0x14)], "one range a page");

    attention.clear(Attention::CODE_WRITTEN);
    memory.note_store(&watcher, 0x3000, 4);
    assert_eq!((attention.peek(), writes(&watcher)), (0, vec![]), "its own store");
    memory.clear_code(&watcher, 0x3fff);
    memory.write(0x3000, &[0; 4]).expect("RAM");
    assert_eq!((attention.peek(), writes(&watcher)), (0, vec![]), "cleared");
}

#[test]
fn a_store_is_told_to_the_other_holders_of_the_page() {
    let memory = GuestMemory::new(MIB).expect("1 MiB");
    let watchers = [(); 3].map(|()| memory.watch_code(Attention::default()));
    for watcher in &watchers[..2] {
        memory.mark_code(watcher, 0x3000);
    }
    memory.note_store(&watchers[0], 0x3004, 4);
    assert_eq!(watchers.each_ref().map(|watcher| writes(watcher).len()), [0, 1, 0]);
    memory.note_store(&watchers[2], 0x3004, 4);
    assert_eq!(watchers.each_ref().map(|watcher| writes(watcher).len()), [1, 1, 0]);
}

#[test]
fn a_page_is_settled_when_all_running_vcpus_have_closed_it() {
    let memory = GuestMemory::new(MIB).expect("1 MiB");
    let attention = Attention::default();
    let [marks, other] = [Attention::default(), attention.clone()].map(|flags| memory.watch_code(flags));
    memory.enter_guest(&marks);
    assert_eq!(memory.mark_code(&marks, 0x3000), None, "the other executes nothing");
    assert_eq!(attention.peek(), Attention::CODE_WRITTEN);
    memory.enter_guest(&other);
    let number = memory.mark_code(&marks, 0x5000).expect("the other may have it open");
    assert!(memory.code_closed_up_to(&marks) < number);
    let news = other.take();
    assert_eq!(news.closed_pages().iter().copied().collect::<Vec<_>>(), [0x3000, 0x5000]);
    let later = memory.mark_code(&marks, 0x6000).expect("not closed either");
    other.acknowledge(&news);
    assert!((number..later).contains(&memory.code_closed_up_to(&marks)));
    other.leave_guest();
    assert!(memory.code_closed_up_to(&marks) >= later);
    memory.enter_guest(&other);
    other.acknowledge(&other.take());
    assert_eq!(memory.mark_code(&other, 0x6000), None, "all have closed it for the first holder");
}

#[test]
fn who_runs_alone_waits_until_the_others_have_left_the_guest() {
    let memory = GuestMemory::new(MIB).expect("1 MiB");
    let attention = Attention::default();
    let [alone, other] = [Attention::default(), attention.clone()].map(|flags| memory.watch_code(flags));
    memory.enter_guest(&alone);
    memory.enter_guest(&other);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                if attention.peek() & Attention::KICK != 0 {
                    attention.clear(Attention::KICK);
                    other.leave_guest();
                    memory.enter_guest(&other);
                }
                memory.write(0x1000, &[1]).expect("RAM");
            }
            other.leave_guest();
        });
        for _ in 0..100 {
            memory.run_alone(&alone, || {
                let mut byte = [0];
                memory.write(0x1000, &[0]).expect("RAM");
                std::thread::yield_now();
                memory.read(0x1000, &mut byte).expect("RAM");
                assert_eq!(byte, [0]);
            });
        }
        done.store(true, Ordering::Release);
    });
}

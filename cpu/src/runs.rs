//! Runs of elements within a page of guest RAM, as string instructions work on them: copied, filled, searched and compared
//! at the host's speed.
//!
//! Each function gives up with nothing done where the TLB does not have its pages at hand: a page that was not accessed
//! yet, is not RAM, is watched, or is written and has code.

#![expect(unsafe_code, reason = "works on guest RAM through the host addresses that the TLB hands out")]

use crate::cpu::Cpu;
use crate::memory::{after_load, before_store};
use crate::width::Width;

/// Bytes that are looked at together.
const BLOCK: usize = 32;
const SMALL_BLOCK: usize = 8;

impl Cpu {
    /// Copies `bytes` from one linear address to another, neither run leaving its page, as single moves would from the first
    /// byte up or, if it `descends`, from the last one down. The destination is not within `bytes` above the source, or below it
    /// if it `descends`.
    pub(crate) fn copy_within_pages(&mut self, from: u64, to: u64, bytes: u64, descends: bool) -> bool {
        let (Some(source), Some(target)) =
            (self.mmu.host_for_read(from, bytes), self.mmu.host_for_write(to, bytes))
        else {
            return false;
        };
        let (behind, ahead) =
            if descends { (target as usize, source as usize) } else { (source as usize, target as usize) };
        if ahead.wrapping_sub(behind) < bytes as usize {
            // Two linear addresses of one physical page may overlap where the linear addresses do not.
            return false;
        }
        before_store();
        // SAFETY: both addresses are guest RAM with `bytes` left in their pages; `copy` allows an overlap, and where the target
        // is not that near on the side that it moves to, it does what single moves would do.
        unsafe { std::ptr::copy(source, target, bytes as usize) };
        after_load();
        true
    }

    /// Writes `count` copies of `pattern`, of width `W`, from `linear` on, not leaving its page.
    pub(crate) fn fill_within_page<W: Width>(&mut self, linear: u64, pattern: u64, count: u64) -> bool {
        let Some(host) = self.mmu.host_for_write(linear, W::BYTES * count) else { return false };
        before_store();
        let count = count as usize;
        // SAFETY: the run of `W::BYTES * count` bytes is writable guest RAM within one page, and each arm writes `count`
        // elements of `W::BYTES` bytes.
        unsafe {
            match W::BITS {
                8 => host.write_bytes(pattern as u8, count),
                16 => fill(host, (pattern as u16).to_le_bytes(), count),
                32 => fill(host, (pattern as u32).to_le_bytes(), count),
                _ => fill(host, pattern.to_le_bytes(), count),
            }
        }
        true
    }

    /// Looks at up to `count` elements of width `W` from `linear` on, not leaving its page, until one is `wanted` or, if not
    /// `equal`, is something else. Returns how many were looked at, and the last of them.
    pub(crate) fn scan_within_page<W: Width>(
        &mut self,
        linear: u64,
        wanted: u64,
        equal: bool,
        count: u64,
    ) -> Option<(u64, u64)> {
        let host = self.mmu.host_for_read(linear, W::BYTES * count)?;
        let mut at = 0;
        while at + BLOCK as u64 / W::BYTES < count
            // SAFETY: here and below only elements below `count` are read, which are guest RAM within one page.
            && !unsafe { is_in_block::<W, BLOCK>(element::<W>(host, at), wanted, equal) }
        {
            at += BLOCK as u64 / W::BYTES;
        }
        while at + SMALL_BLOCK as u64 / W::BYTES < count
            // SAFETY: as above.
            && !unsafe { is_in_block::<W, SMALL_BLOCK>(element::<W>(host, at), wanted, equal) }
        {
            at += SMALL_BLOCK as u64 / W::BYTES;
        }
        loop {
            // SAFETY: as above.
            let value = unsafe { load::<W>(host, at) };
            at += 1;
            if (value == wanted) == equal || at >= count {
                after_load();
                return Some((at, value));
            }
        }
    }

    /// Looks at up to `count` pairs of elements of width `W`, neither run leaving its page, until one's are equal or, if not
    /// `equal`, differ. Returns how many were looked at, and the last of them.
    pub(crate) fn compare_within_pages<W: Width>(
        &mut self,
        first: u64,
        second: u64,
        equal: bool,
        count: u64,
    ) -> Option<(u64, u64, u64)> {
        let bytes = W::BYTES * count;
        let (a, b) = (self.mmu.host_for_read(first, bytes)?, self.mmu.host_for_read(second, bytes)?);
        let mut at = 0;
        while !equal
            && at + BLOCK as u64 / W::BYTES < count
            // SAFETY: here and below only elements below `count` are read, which are guest RAM within one page.
            && unsafe { are_same::<BLOCK>(element::<W>(a, at), element::<W>(b, at)) }
        {
            at += BLOCK as u64 / W::BYTES;
        }
        while !equal
            && at + SMALL_BLOCK as u64 / W::BYTES < count
            // SAFETY: as above.
            && unsafe { are_same::<SMALL_BLOCK>(element::<W>(a, at), element::<W>(b, at)) }
        {
            at += SMALL_BLOCK as u64 / W::BYTES;
        }
        loop {
            // SAFETY: as above.
            let (x, y) = unsafe { (load::<W>(a, at), load::<W>(b, at)) };
            at += 1;
            if (x == y) == equal || at >= count {
                after_load();
                return Some((at, x, y));
            }
        }
    }
}

/// Where element `at` is.
fn element<W: Width>(host: *const u8, at: u64) -> *const u8 {
    host.wrapping_add((at * W::BYTES) as usize)
}

/// Reads an element, zero-extended.
///
/// # Safety
/// It must be readable.
#[inline(always)]
unsafe fn load<W: Width>(host: *const u8, at: u64) -> u64 {
    let host = element::<W>(host, at);
    // SAFETY: the caller's, and any bytes are a valid array.
    unsafe {
        match W::BITS {
            8 => u64::from(host.read()),
            16 => u64::from(u16::from_le_bytes(host.cast::<[u8; 2]>().read())),
            32 => u64::from(u32::from_le_bytes(host.cast::<[u8; 4]>().read())),
            _ => u64::from_le_bytes(host.cast::<[u8; 8]>().read()),
        }
    }
}

/// Writes `count` copies of an element.
///
/// # Safety
/// `N * count` bytes must be writable.
#[inline(always)]
unsafe fn fill<const N: usize>(host: *mut u8, element: [u8; N], count: usize) {
    for i in 0..count {
        // SAFETY: the caller's.
        unsafe { host.cast::<[u8; N]>().add(i).write_unaligned(element) };
    }
}

/// Whether two blocks have the same bytes.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn are_same<const BYTES: usize>(a: *const u8, b: *const u8) -> bool {
    // SAFETY: the caller's, and any bytes are a valid array.
    unsafe { a.cast::<[u8; BYTES]>().read() == b.cast::<[u8; BYTES]>().read() }
}

/// Whether in a block of elements of width `W` is one that is `wanted` or, if not `equal`, is something else.
///
/// # Safety
/// It must be readable.
#[inline(always)]
unsafe fn is_in_block<W: Width, const BYTES: usize>(host: *const u8, wanted: u64, equal: bool) -> bool {
    // SAFETY: the caller's, and any bytes are a valid array.
    let block = unsafe { host.cast::<[u8; BYTES]>().read() };
    let wanted = wanted.to_le_bytes();
    if !equal {
        let repeated: [u8; BYTES] = std::array::from_fn(|i| wanted[i % W::BYTES as usize]);
        return block != repeated;
    }
    if W::BITS == 8 {
        return block.iter().fold(false, |found, &byte| found | (byte == wanted[0]));
    }
    block.chunks_exact(W::BYTES as usize).any(|element| *element == wanted[..W::BYTES as usize])
}

#[cfg(test)]
mod tests {
    use crate::bare_board::BareBoard;
    use crate::cpu::Cpu;
    use crate::width::{W8, W16, W32, W64, Width};

    const FIRST: u64 = 0x2000;
    const SECOND: u64 = 0x3000;

    /// A processor whose TLB has two pages at hand.
    fn cpu() -> Cpu {
        let mut cpu = BareBoard::default().cpu();
        for page in [FIRST, SECOND] {
            cpu.write_linear(page, [0]).expect("RAM");
            cpu.read_linear::<1>(page).expect("RAM");
        }
        cpu
    }

    fn bytes_of<W: Width>(value: u64) -> Vec<u8> {
        value.to_le_bytes()[..W::BYTES as usize].to_vec()
    }

    /// Elements of one value, of which number `at` is another.
    fn with_one<W: Width>(count: u64, at: u64, usual: u64, other: u64) -> Vec<u8> {
        (0..count).flat_map(|i| bytes_of::<W>(if i == at { other } else { usual })).collect()
    }

    fn finds_each_element<W: Width>() {
        let mut cpu = cpu();
        // They differ in one byte, which is the last of an element.
        let (usual, other) = (0x0102_0304_0506_0708 & W::MASK, 0x0102_0304_0506_0708 & W::MASK ^ W::SIGN);
        for count in 1..90 {
            for at in 0..=count {
                cpu.mmu.memory().write(FIRST, &with_one::<W>(count, at, usual, other)).unwrap();
                cpu.mmu.memory().write(SECOND, &with_one::<W>(count, count, usual, other)).unwrap();
                let (looked, last) = if at < count { (at + 1, other) } else { (count, usual) };
                let found = cpu.scan_within_page::<W>(FIRST, other, true, count);
                assert_eq!(found, Some((looked, last)), "equal at {at} of {count}");
                let found = cpu.scan_within_page::<W>(FIRST, usual, false, count);
                assert_eq!(found, Some((looked, last)), "different at {at} of {count}");
                let found = cpu.compare_within_pages::<W>(FIRST, SECOND, false, count);
                assert_eq!(found, Some((looked, last, usual)), "pair at {at} of {count}");
                cpu.mmu.memory().write(SECOND, &with_one::<W>(count, count, other, usual)).unwrap();
                let found = cpu.compare_within_pages::<W>(FIRST, SECOND, true, count);
                assert_eq!(found, Some((looked, last, other)), "equal pair at {at} of {count}");
            }
        }
    }

    #[test]
    fn elements_are_found_wherever_they_are() {
        finds_each_element::<W8>();
        finds_each_element::<W16>();
        finds_each_element::<W32>();
        finds_each_element::<W64>();
    }

    fn fills<W: Width>() {
        let mut cpu = cpu();
        let pattern = 0x0102_0304_0506_0708 & W::MASK;
        for count in 1..70 {
            let mut expected = with_one::<W>(count, count, pattern, 0);
            expected.push(0xff);
            cpu.mmu.memory().write(FIRST, &vec![0xff; expected.len()]).unwrap();
            assert!(cpu.fill_within_page::<W>(FIRST, pattern, count));
            let mut filled = vec![0; expected.len()];
            cpu.mmu.memory().read(FIRST, &mut filled).unwrap();
            assert_eq!(filled, expected, "{count}");
        }
    }

    #[test]
    fn fills_all_of_a_run_and_no_more() {
        fills::<W8>();
        fills::<W16>();
        fills::<W32>();
        fills::<W64>();
    }

    #[test]
    fn nothing_is_done_beyond_a_page() {
        let mut cpu = cpu();
        assert!(!cpu.fill_within_page::<W64>(FIRST + 8, 0, 512));
        assert_eq!(cpu.scan_within_page::<W8>(FIRST + 1, 0, true, 4096), None);
        assert_eq!(cpu.compare_within_pages::<W8>(FIRST, SECOND + 1, true, 4096), None);
        assert!(!cpu.copy_within_pages(FIRST, SECOND + 1, 4096, false));
    }
}
